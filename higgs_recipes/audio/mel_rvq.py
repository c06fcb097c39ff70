"""A classical audio tokenizer: log-mel spectrum -> PCA -> residual codebooks, and Griffin-Lim for the way back.

Mel bands of short frames are stacked to 25 steps a second, projected on principal components and quantized by eight
codebooks, each on what the one before left over. `codec_fit` fits them to speech by k-means and
least squares. The way back restores a part of what the codes have lost from the neighboring steps, and finds the bins
behind the mel bands and the phases, which the codes do not hold.

What it is not: no neural codec. No gradient ever reached it, its sound is that of Griffin-Lim (a little hollow), and
it carries speech like that which it was fitted to: music, noise and several voices at once come out as mumble.

Letters: B batch, N samples, T steps, C codebooks, V codes per codebook, R frames (`frames_per_step` to a step), M mel
bands, K bins of the Fourier transform, D components.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from higgs_recipes.audio.mel import griffin_lim, magnitudes_of_mel, mel_filters, short_time_transform, speech_level
from higgs_recipes.audio.mel_rvq_config import MelRVQConfig


_CHUNK = 1024  # vectors whose distances to a codebook are in memory at once


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
    """Waveforms (B, 1, N) <-> codes (B, C, T), T = N / hop_length, by the methods of HiggsAudioV2TokenizerModel.

    Both directions are deterministic, and a clip's result in a batch is that of the clip alone but for rounding.
    Encoding is local: a step's codes depend on its own samples and (n_fft - frame_hop) / 2 on either side, what is
    beyond the clip being silence, and beside these only on how loud the clip's loud parts are. So silence appended to
    a clip changes no code but those of its last step. Decoding is not: phases are found for the clip as a whole.

    The weights may be stored in float16; the arithmetic is always float32. A model that was not fitted
    (`codec_fit`) holds zeros.

    Attributes:
        mean: (frames_per_step * M,), of the stacked log-mel frames.
        components: (D, frames_per_step * M), orthonormal rows.
        codebooks: (C, V, D).
        restorer: (D, 3 * D), from the sums of codebook rows of a step's predecessor, itself and its successor to what
            was quantized there: neighbors tell a part of what the codes of a step alone have lost.
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
        """Nothing is drawn: what is not fitted is 0."""

    @torch.no_grad()
    def encode(self, input_values: Tensor) -> MelRVQEncoderOutput:
        """Waveforms (B, 1, N) -> codes; N is a multiple of hop_length.

        Raises:
            ValueError: not mono, or not of whole steps.
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
        """Codes (B, C, T) -> waveforms of T * hop_length samples.

        Raises:
            ValueError: another number of codebooks, or no steps.
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
        """Encode, unless codes are given, and decode."""
        codes = self.encode(input_values).audio_codes if audio_codes is None else audio_codes
        return MelRVQOutput(codes, self.decode(codes).audio_values[..., : input_values.shape[-1]])

    def features(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, N) -> log-mel frames stacked by step, (B, T, frames_per_step * M).

        Raises:
            ValueError: N is no multiple of hop_length.
        """
        config = self.config
        num_clips, num_samples = waveforms.shape
        if num_samples % config.hop_length or not num_samples:
            raise ValueError(f"{num_samples} samples are no whole steps of {config.hop_length}: pad with zeros")
        waveforms = waveforms.float()
        waveforms = waveforms * (config.level / speech_level(waveforms, frame=config.frame_hop))[:, None]
        magnitudes = short_time_transform(waveforms, config).abs()  # (B, R, K)
        filters, _ = mel_filters(config.n_fft, config.num_mels, config.sample_rate)
        mel = magnitudes @ filters.T.to(magnitudes.device)  # (B, R, M)
        log_mel = (mel + self._floor).log()  # a soft floor: what is near it costs few bits
        return log_mel.reshape(num_clips, num_samples // config.hop_length, -1)

    def synthesize(self, features: Tensor) -> Tensor:
        """Stacked log-mel frames (B, T, frames_per_step * M) -> waveforms (B, N)."""
        num_clips, num_steps, _ = features.shape
        log_mel = features.reshape(num_clips, num_steps * self.config.frames_per_step, -1)
        mel = (log_mel.exp() - self._floor).clamp_min(0)  # (B, R, M)
        return griffin_lim(magnitudes_of_mel(mel, self.config), self.config)

    @property
    def _floor(self) -> float:
        return 10 ** (self.config.floor_db / 20)


def quantize(vectors: Tensor, codebooks: Tensor, *, beam: int) -> tuple[Tensor, Tensor]:
    """Codes (F, C) whose sums of rows of codebooks (C, V, D) are near to vectors (F, D), and what is left over (F, D).

    Codebook by codebook, the `beam` best beginnings are kept; with 1 it is the nearest code each time.

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
    residuals = vectors[:, None]  # (F, beginnings, D)
    codes = torch.empty(len(vectors), 1, 0, dtype=torch.int64, device=vectors.device)
    for index, codebook in enumerate(codebooks):
        width = beam if index < num_codebooks - 1 else 1
        errors = squares[index] - 2 * (residuals @ codebook.T)  # (F, beginnings, V)
        errors += residuals.square().sum(dim=2, keepdim=True)
        best = errors.flatten(1).topk(min(width, errors[0].numel()), dim=1, largest=False).indices  # (F, width)
        beginning, code = best // num_codes, best % num_codes
        codes = torch.cat([_pick(codes, beginning), code[..., None]], dim=2)
        residuals = _pick(residuals, beginning) - codebook[code]
    return codes[:, 0], residuals[:, 0]


def _pick(beginnings: Tensor, indexes: Tensor) -> Tensor:
    """(F, beginnings, X) at indexes (F, width) -> (F, width, X)."""
    return beginnings.gather(1, indexes[..., None].expand(-1, -1, beginnings.shape[2]))


def with_neighbors(steps: Tensor) -> Tensor:
    """Steps (B, T, D) -> (B, T, 3 * D): each after its predecessor and before its successor; the ends are their own.

    >>> with_neighbors(torch.tensor([[[1], [2], [3]]])).tolist()
    [[[1, 1, 2], [1, 2, 3], [2, 3, 3]]]
    """
    previous = torch.cat([steps[:, :1], steps[:, :-1]], dim=1)
    following = torch.cat([steps[:, 1:], steps[:, -1:]], dim=1)
    return torch.cat([previous, steps, following], dim=2)


AutoConfig.register(MelRVQConfig.model_type, MelRVQConfig, exist_ok=True)
AutoModel.register(MelRVQConfig, MelRVQModel, exist_ok=True)
