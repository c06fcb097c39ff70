"""A classical audio tokenizer: log-mel spectrum -> PCA -> residual codebooks, and Griffin-Lim for the way back.

Mel bands of short frames are stacked to 25 steps a second, projected on principal components and quantised by eight
codebooks, each on what the one before left over. `codec_fit` fits mean, components and codebooks to speech by least
squares and k-means; the way back finds the bins behind the mel bands and the phases that the codes do not hold.

What it is not: no neural codec. No gradient ever reached it, its sound is that of Griffin-Lim (a little hollow), and
it carries speech like that which it was fitted to: music, noise and several voices at once come out as mumble.

Letters: B batch, N samples, T steps, C codebooks, V codes per codebook, R frames (`frames_per_step` to a step), M mel
bands, K bins of the Fourier transform, D components.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.audio_utils import mel_filter_bank
from transformers.utils import ModelOutput


_SILENCE = 1e-7  # mean square (-70 dB of full scale) below which a clip is not brought to any level
_SMALLEST = 1e-8  # keeps magnitudes above 0 where they are divided by


class MelRVQConfig(PreTrainedConfig):
    """The shape of a `MelRVQModel`.

    Args:
        sample_rate: Hz. hop_length: samples of a step; frames_per_step: frames stacked in it, which divides it.
        n_fft: samples that a frame hears and the length of its Fourier transform; a multiple of the frames' hop.
        num_mels: bands of the mel scale (Slaney's) from 0 Hz to half the rate.
        num_components: principal components that are quantised, the dimension of the codebooks.
        codebook_size, num_quantizers: codes in a codebook; codebooks.
        level: root mean square of the speech of a clip, which encode brings every clip to and decode gives back.
        floor_db: magnitude, relative to a full-scale sine, below which a band is silent.
        phase_iterations, momentum: of fast Griffin-Lim (Perraudin, Balazs, Søndergaard, 2013).
    """

    model_type = "mel_rvq"

    sample_rate: int = 24_000
    hop_length: int = 960
    frames_per_step: int = 4
    n_fft: int = 960
    num_mels: int = 80
    num_components: int = 96
    codebook_size: int = 1024
    num_quantizers: int = 8
    level: float = 0.1
    floor_db: float = -80.0
    phase_iterations: int = 32
    momentum: float = 0.99

    def __post_init__(self, **kwargs) -> None:
        super().__post_init__(**kwargs)
        if self.hop_length % self.frames_per_step or self.n_fft % self.frame_hop or self.n_fft <= self.frame_hop:
            raise ValueError(
                f"hop_length {self.hop_length} must be frames_per_step {self.frames_per_step} frames, and n_fft "
                f"{self.n_fft} a multiple of a frame's hop, at least 2 of them"
            )

    @property
    def frame_hop(self) -> int:
        return self.hop_length // self.frames_per_step


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
        residual = (features - self.mean.float()) @ self.components.float().T  # (B, T, D)
        codes = []
        for codebook in self.codebooks.float():
            codes.append(nearest(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return MelRVQEncoderOutput(torch.stack(codes, dim=1))

    @torch.no_grad()
    def decode(self, audio_codes: Tensor) -> MelRVQDecoderOutput:
        """Codes (B, C, T) -> waveforms of T * hop_length samples.

        Raises:
            ValueError: another number of codebooks, or no steps.
        """
        num_codebooks = self.config.num_quantizers
        if audio_codes.ndim != 3 or audio_codes.shape[1] != num_codebooks or not audio_codes.shape[2]:
            raise ValueError(f"audio_codes have shape {tuple(audio_codes.shape)}, need (B, {num_codebooks}, T), T > 0")
        quantised = sum(
            F.embedding(codes, codebook.float())
            for codes, codebook in zip(audio_codes.unbind(dim=1), self.codebooks, strict=True)
        )  # (B, T, D)
        features = quantised @ self.components.float() + self.mean.float()
        return MelRVQDecoderOutput(self.synthesise(features)[:, None])

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
        magnitudes = _stft(waveforms, config).abs()  # (B, K, R)
        filters, _ = _filters(config.n_fft, config.num_mels, config.sample_rate)
        mel = filters.to(magnitudes.device) @ magnitudes  # (B, M, R)
        log_mel = (mel + self._floor).log()  # a soft floor: what is near it costs few bits
        return log_mel.transpose(1, 2).reshape(num_clips, num_samples // config.hop_length, -1)

    def synthesise(self, features: Tensor) -> Tensor:
        """Stacked log-mel frames (B, T, frames_per_step * M) -> waveforms (B, N)."""
        num_clips, num_steps, _ = features.shape
        log_mel = features.reshape(num_clips, num_steps * self.config.frames_per_step, -1).transpose(1, 2)
        mel = (log_mel.exp() - self._floor).clamp_min(0)  # (B, M, R)
        return griffin_lim(magnitudes_of_mel(mel, self.config), self.config)

    @property
    def _floor(self) -> float:
        return 10 ** (self.config.floor_db / 20)


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Indexes (...) of the rows of a codebook (V, D) that are nearest to vectors (..., D)."""
    return (vectors @ codebook.T - codebook.square().sum(dim=1) / 2).argmax(dim=-1)


def speech_level(waveforms: Tensor, *, frame: int) -> Tensor:
    """Root mean square of the loud parts of waveforms (B, N) -> (B,): each frame counts by its own power.

    So silence, wherever it stands, does not count. A silent clip's is 1, so that dividing by it leaves the clip.

    >>> speech_level(torch.cat([torch.full((1, 480), 0.5), torch.zeros(1, 960)], dim=1), frame=240)
    tensor([0.5000])
    """
    power = waveforms.unflatten(1, (-1, frame)).square().mean(dim=2)  # (B, R)
    mean_square = power.square().sum(dim=1) / power.sum(dim=1).clamp_min(_SILENCE)
    return torch.where(mean_square > _SILENCE, mean_square, 1.0).sqrt()


def griffin_lim(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Magnitudes (B, K, R) -> waveforms (B, N) whose transform has about these magnitudes: fast Griffin-Lim."""
    spectrum = torch.polar(magnitudes, first_phases(magnitudes, config))  # (B, K, R)
    previous = torch.zeros_like(spectrum)
    for _ in range(config.phase_iterations):
        consistent = _stft(_istft(spectrum, config), config)
        ahead = consistent + config.momentum * (consistent - previous)
        previous = consistent
        spectrum = ahead * (magnitudes / ahead.abs().clamp_min(_SMALLEST))
    return _istft(spectrum, config)


def first_phases(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Phases (B, K, R) to start from: each bin turns at the frequency of the nearest peak of its frame.

    After "single pass spectrogram inversion" (Beauregard, Harish, Wyse, 2015).
    """
    generator = torch.Generator().manual_seed(0)
    return torch.rand(magnitudes.shape, generator=generator).to(magnitudes.device) * (2 * torch.pi)


def magnitudes_of_mel(mel: Tensor, config: MelRVQConfig) -> Tensor:
    """Mel bands (B, M, R) -> magnitudes of the bins (B, K, R), none below 0."""
    _, inverse = _filters(config.n_fft, config.num_mels, config.sample_rate)
    return (inverse.to(mel.device) @ mel).clamp_min(_SMALLEST)


@cache
def _filters(n_fft: int, num_mels: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """The mel filters (M, K) and their pseudo-inverse (K, M)."""
    filters = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=sample_rate / 2,
        sampling_rate=sample_rate,
        mel_scale="slaney",
    )
    filters = torch.from_numpy(filters).T.double()  # (M, K)
    filters /= filters.sum(dim=1, keepdim=True)  # a band is the mean magnitude of its bins
    return filters.float(), torch.linalg.pinv(filters).float()


def _window(config: MelRVQConfig, device: torch.device) -> Tensor:
    return torch.hann_window(config.n_fft, device=device)


def _stft(waveforms: Tensor, config: MelRVQConfig) -> Tensor:
    """(B, N) -> (B, K, R); frame r is centred on the middle of its own hop, and beyond the clip is silence."""
    margin = (config.n_fft - config.frame_hop) // 2
    padded = F.pad(waveforms, (margin, margin))
    frames = padded.unfold(1, config.n_fft, config.frame_hop) * _window(config, waveforms.device)  # (B, R, n_fft)
    return torch.fft.rfft(frames, norm="forward").transpose(1, 2)


def _istft(spectrum: Tensor, config: MelRVQConfig) -> Tensor:
    """(B, K, R) -> (B, N): the waveform whose `_stft` is nearest by least squares."""
    hop, overlap = config.frame_hop, config.n_fft // config.frame_hop
    window = _window(config, spectrum.device)
    frames = torch.fft.irfft(spectrum.transpose(1, 2), n=config.n_fft, norm="forward") * window  # (B, R, n_fft)
    added, weights = (
        _overlap_add(frames, hop, overlap),
        _overlap_add(window.square().expand_as(frames[:1]), hop, overlap),
    )
    margin = (config.n_fft - hop) // 2
    return (added / weights.clamp_min(_SMALLEST))[:, margin : added.shape[1] - margin]


def _overlap_add(frames: Tensor, hop: int, overlap: int) -> Tensor:
    """(B, R, overlap * hop) -> (B, (R + overlap - 1) * hop)."""
    num_clips, num_frames, _ = frames.shape
    added = frames.new_zeros(num_clips, num_frames + overlap - 1, hop)
    for index, part in enumerate(frames.unflatten(2, (overlap, hop)).unbind(dim=2)):
        added[:, index : index + num_frames] += part
    return added.flatten(1)


AutoConfig.register(MelRVQConfig.model_type, MelRVQConfig, exist_ok=True)
AutoModel.register(MelRVQConfig, MelRVQModel, exist_ok=True)
