"""A classical audio tokenizer: log-mel spectrum -> PCA -> residual vector quantization; decoding by Griffin-Lim.

Mel bands of short frames are stacked to 25 steps per second, projected on principal components and quantized by eight
codebooks, each on the residual of the one before. `corpus.fit_codec` fits components and codebooks to speech by
k-means and least squares. Decoding restores part of the quantization loss from neighboring steps, and estimates
magnitudes and phases, which the codes do not contain.

Limits: it is not a neural codec and not trained by gradients. Decoded audio sounds slightly hollow, as Griffin-Lim
does. It represents only speech similar to its training corpus: music, noise and overlapping voices become
unintelligible.

Letters: B batch, N samples, T steps, C codebooks, V codes per codebook, R frames (`frames_per_step` per step), M mel
bands, K bins of the Fourier transform, D components.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from higgs_recipes.audio.mel import griffin_lim, mel_filters, mel_to_magnitudes, speech_level, stft
from higgs_recipes.audio.mel_rvq_config import MelRVQConfig


_CHUNK = 1024  # vectors whose distances to a codebook are computed together, to bound memory


@dataclass
class MelRVQEncoderOutput(ModelOutput):
    """audio_codes: (B, C, T), int64."""

    audio_codes: Tensor | None = None


@dataclass
class MelRVQDecoderOutput(ModelOutput):
    """audio_values: (B, 1, N), float32."""

    audio_values: Tensor | None = None


@dataclass
class MelRVQOutput(ModelOutput):
    """audio_codes: (B, C, T), int64. audio_values: (B, 1, N), float32."""

    audio_codes: Tensor | None = None
    audio_values: Tensor | None = None


class MelRVQModel(PreTrainedModel):
    """Waveforms (B, 1, N) <-> codes (B, C, T), T = N / hop_length, with the methods of HiggsAudioV2TokenizerModel.

    Both directions are deterministic, and a clip's result does not depend on its batch, except for rounding. Encoding
    is local: the codes of a step depend on its samples, on (n_fft - frame_hop) / 2 samples of context on either side
    (silence beyond the clip), and on the level of the clip's loud parts. So silence appended to a clip changes only
    the codes of its last step. Decoding is not local: phases are estimated for the whole clip.

    Weights may be stored in float16; the arithmetic is always float32. The weights of a new model are zeros until
    `corpus.fit_codec` fits them.

    Attributes:
        mean: (frames_per_step * M,), mean of the stacked log-mel frames.
        components: (D, frames_per_step * M), orthonormal rows.
        codebooks: (C, V, D).
        restorer: (D, 3 * D), linear map from the quantized vectors of the previous, this and the next step to the
            original vector of this step: neighbors contain part of what quantization loses.
    """

    config_class = MelRVQConfig
    base_model_prefix = "mel_rvq"
    main_input_name = "input_values"
    input_modalities = "audio"

    def __init__(self, config: MelRVQConfig) -> None:
        super().__init__(config)
        stacked = config.frames_per_step * config.num_mels
        shape = (config.num_quantizers, config.codebook_size, config.num_components)
        self.mean = nn.Parameter(torch.zeros(stacked), requires_grad=False)
        self.components = nn.Parameter(torch.zeros(config.num_components, stacked), requires_grad=False)
        self.codebooks = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.restorer = nn.Parameter(
            torch.zeros(config.num_components, 3 * config.num_components), requires_grad=False
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the zeros: nothing is initialized at random."""

    @torch.no_grad()
    def encode(self, input_values: Tensor) -> MelRVQEncoderOutput:
        """Encode waveforms (B, 1, N) -> codes (B, C, T); N is a multiple of hop_length.

        Raises:
            ValueError: not mono, or not a whole number of steps.
        """
        if input_values.ndim != 3 or input_values.shape[1] != 1:
            raise ValueError(f"input_values have shape {tuple(input_values.shape)}, need mono (B, 1, N)")
        features = self.features(input_values[:, 0])  # (B, T, frames_per_step * M)
        vectors = (features - self.mean.float()) @ self.components.float().T  # (B, T, D)
        codes, _ = quantize(vectors.flatten(0, 1), self.codebooks.float(), beam=self.config.beam)
        codes = codes.unflatten(0, features.shape[:2])  # (B, T, C)
        return MelRVQEncoderOutput(codes.transpose(1, 2))

    @torch.no_grad()
    def decode(self, audio_codes: Tensor) -> MelRVQDecoderOutput:
        """Decode codes (B, C, T) -> waveforms (B, 1, T * hop_length).

        Raises:
            ValueError: a wrong number of codebooks, or no steps.
        """
        num_codebooks = self.config.num_quantizers
        if audio_codes.ndim != 3 or audio_codes.shape[1] != num_codebooks or not audio_codes.shape[2]:
            raise ValueError(f"audio_codes have shape {tuple(audio_codes.shape)}, need (B, {num_codebooks}, T), T > 0")
        quantized = sum(
            F.embedding(codes, codebook.float())
            for codes, codebook in zip(audio_codes.unbind(dim=1), self.codebooks, strict=True)
        )  # (B, T, D)
        restored = with_neighbors(quantized) @ self.restorer.float().T
        features = restored @ self.components.float() + self.mean.float()
        return MelRVQDecoderOutput(self.synthesize(features)[:, None])

    def forward(self, input_values: Tensor, audio_codes: Tensor | None = None) -> MelRVQOutput:
        """Encode waveforms (B, 1, N) unless `audio_codes` (B, C, T) are given, then decode."""
        codes = self.encode(input_values).audio_codes if audio_codes is None else audio_codes
        return MelRVQOutput(codes, self.decode(codes).audio_values[..., : input_values.shape[-1]])

    def features(self, waveforms: Tensor) -> Tensor:
        """Log-mel frames of waveforms (B, N), stacked by step -> (B, T, frames_per_step * M).

        Raises:
            ValueError: N is not a multiple of hop_length.
        """
        config = self.config
        num_clips, num_samples = waveforms.shape
        if num_samples % config.hop_length or not num_samples:
            raise ValueError(
                f"{num_samples} samples are not a multiple of hop_length {config.hop_length}: pad with zeros"
            )
        waveforms = waveforms.float()
        waveforms = waveforms * (config.level / speech_level(waveforms, frame=config.frame_hop))[:, None]
        magnitudes = stft(waveforms, config).abs()  # (B, R, K)
        filters, _ = mel_filters(config.n_fft, config.num_mels, config.sample_rate)
        mel = magnitudes @ filters.T.to(magnitudes.device)  # (B, R, M)
        log_mel = (mel + self._floor).log()  # soft floor: few codes are spent on bands near it
        return log_mel.reshape(num_clips, num_samples // config.hop_length, -1)

    def synthesize(self, features: Tensor) -> Tensor:
        """Estimate waveforms (B, N) of stacked log-mel frames (B, T, frames_per_step * M)."""
        num_clips, num_steps, _ = features.shape
        log_mel = features.reshape(num_clips, num_steps * self.config.frames_per_step, -1)
        mel = (log_mel.exp() - self._floor).clamp_min(0)  # (B, R, M)
        return griffin_lim(mel_to_magnitudes(mel, self.config), self.config)

    @property
    def _floor(self) -> float:
        return 10 ** (self.config.floor_db / 20)


def quantize(vectors: Tensor, codebooks: Tensor, *, beam: int) -> tuple[Tensor, Tensor]:
    """Quantize vectors (T, D) by residual codebooks (C, V, D).

    Args:
        beam: hypotheses kept after each codebook; 1 takes the nearest code each time.

    Returns:
        Codes (T, C), and residuals (T, D): the vectors minus the sums of their codebook rows.

    >>> codebooks = torch.tensor([[[0.0], [5.0]], [[-1.0], [4.0]]])
    >>> [quantize(torch.tensor([[4.0]]), codebooks, beam=beam)[0].tolist() for beam in (1, 2)]
    [[[1, 0]], [[0, 1]]]
    """
    chunks = [_quantize_chunk(chunk, codebooks, beam) for chunk in vectors.split(_CHUNK)]
    codes, residuals = zip(*chunks, strict=True)
    return torch.cat(codes), torch.cat(residuals)


def _quantize_chunk(vectors: Tensor, codebooks: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    num_codebooks, num_codes, _ = codebooks.shape
    squares = codebooks.square().sum(dim=2)  # (C, V)
    residuals = vectors[:, None]  # (T, hypotheses, D)
    codes = torch.empty(len(vectors), 1, 0, dtype=torch.int64, device=vectors.device)
    for index, codebook in enumerate(codebooks):
        width = beam if index < num_codebooks - 1 else 1
        errors = squares[index] - 2 * (residuals @ codebook.T)  # (T, hypotheses, V)
        errors += residuals.square().sum(dim=2, keepdim=True)
        best = errors.flatten(1).topk(min(width, errors[0].numel()), dim=1, largest=False).indices  # (T, width)
        hypothesis, code = best // num_codes, best % num_codes
        codes = torch.cat([_select(codes, hypothesis), code[..., None]], dim=2)
        residuals = _select(residuals, hypothesis) - codebook[code]
    return codes[:, 0], residuals[:, 0]


def _select(hypotheses: Tensor, indexes: Tensor) -> Tensor:
    """Select hypotheses (T, hypotheses, X) by indexes (T, width) -> (T, width, X)."""
    return hypotheses.gather(1, indexes[..., None].expand(-1, -1, hypotheses.shape[2]))


def with_neighbors(steps: Tensor) -> Tensor:
    """Concatenate each step with its neighbors, (B, T, D) -> (B, T, 3 * D); the ends repeat as their own neighbors.

    >>> with_neighbors(torch.tensor([[[1], [2], [3]]])).tolist()
    [[[1, 1, 2], [1, 2, 3], [2, 3, 3]]]
    """
    previous = torch.cat([steps[:, :1], steps[:, :-1]], dim=1)
    following = torch.cat([steps[:, 1:], steps[:, -1:]], dim=1)
    return torch.cat([previous, steps, following], dim=2)


AutoConfig.register(MelRVQConfig.model_type, MelRVQConfig, exist_ok=True)
AutoModel.register(MelRVQConfig, MelRVQModel, exist_ok=True)
