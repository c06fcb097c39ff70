"""A classical audio tokenizer: log-mel spectrum -> PCA -> residual codebooks, and Griffin-Lim for the way back.

Mel bands of short frames are stacked to 25 steps a second, projected on principal components and quantised by eight
codebooks, each on what the one before left over. `codec_fit` fits them to speech by k-means and
least squares. The way back restores a part of what the codes have lost from the neighbouring steps, and finds the bins
behind the mel bands and the phases, which the codes do not hold.

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
_CHUNK = 1024  # vectors whose distances to a codebook are in memory at once
_UNMEL_ITERATIONS = 8  # after which the bins hardly move
_SMALLEST = 1e-8  # keeps magnitudes above 0 where they are divided by


class MelRVQConfig(PreTrainedConfig):
    """The shape of a `MelRVQModel`.

    Args:
        sample_rate: Hz. hop_length: samples of a step; frames_per_step: frames stacked in it, which divides it.
        n_fft: samples that a frame hears and the length of its Fourier transform; a multiple of the frames' hop.
        num_mels: bands of the mel scale (Slaney's) from 0 Hz to half the rate.
        num_components: principal components that are quantised, the dimension of the codebooks.
        codebook_size, num_quantizers: codes in a codebook; codebooks.
        beam: beginnings that the search for codes keeps.
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
    num_components: int = 112
    codebook_size: int = 1024
    num_quantizers: int = 8
    beam: int = 3
    level: float = 0.1
    floor_db: float = -92.0
    phase_iterations: int = 16
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
        restorer: (D, 3 * D), from the sums of codebook rows of a step's predecessor, itself and its successor to what
            was quantised there: neighbours tell a part of what the codes of a step alone have lost.
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
        codes, _ = quantise(vectors.flatten(0, 1), self.codebooks.float(), beam=self.config.beam)
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
        quantised = sum(
            F.embedding(codes, codebook.float())
            for codes, codebook in zip(audio_codes.unbind(dim=1), self.codebooks, strict=True)
        )  # (B, T, D)
        restored = with_neighbours(quantised) @ self.restorer.float().T
        features = restored @ self.components.float() + self.mean.float()
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
        magnitudes = _stft(waveforms, config).abs()  # (B, R, K)
        filters, _ = _filters(config.n_fft, config.num_mels, config.sample_rate)
        mel = magnitudes @ filters.T.to(magnitudes.device)  # (B, R, M)
        log_mel = (mel + self._floor).log()  # a soft floor: what is near it costs few bits
        return log_mel.reshape(num_clips, num_samples // config.hop_length, -1)

    def synthesise(self, features: Tensor) -> Tensor:
        """Stacked log-mel frames (B, T, frames_per_step * M) -> waveforms (B, N)."""
        num_clips, num_steps, _ = features.shape
        log_mel = features.reshape(num_clips, num_steps * self.config.frames_per_step, -1)
        mel = (log_mel.exp() - self._floor).clamp_min(0)  # (B, R, M)
        return griffin_lim(magnitudes_of_mel(mel, self.config), self.config)

    @property
    def _floor(self) -> float:
        return 10 ** (self.config.floor_db / 20)


def quantise(vectors: Tensor, codebooks: Tensor, *, beam: int) -> tuple[Tensor, Tensor]:
    """Codes (F, C) whose sums of rows of codebooks (C, V, D) are near to vectors (F, D), and what is left over (F, D).

    Codebook by codebook, the `beam` best beginnings are kept; with 1 it is the nearest code each time.

    >>> codebooks = torch.tensor([[[0.0], [5.0]], [[-1.0], [4.0]]])
    >>> [quantise(torch.tensor([[4.0]]), codebooks, beam=beam)[0].tolist() for beam in (1, 2)]
    [[[1, 0]], [[0, 1]]]
    """
    chunks = [_quantise_chunk(chunk, codebooks, beam) for chunk in vectors.split(_CHUNK)]
    codes, residuals = zip(*chunks, strict=True)
    return torch.cat(codes), torch.cat(residuals)


def _quantise_chunk(vectors: Tensor, codebooks: Tensor, beam: int) -> tuple[Tensor, Tensor]:
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


def with_neighbours(steps: Tensor) -> Tensor:
    """Steps (B, T, D) -> (B, T, 3 * D): each after its predecessor and before its successor; the ends are their own.

    >>> with_neighbours(torch.tensor([[[1], [2], [3]]])).tolist()
    [[[1, 1, 2], [1, 2, 3], [2, 3, 3]]]
    """
    previous = torch.cat([steps[:, :1], steps[:, :-1]], dim=1)
    following = torch.cat([steps[:, 1:], steps[:, -1:]], dim=1)
    return torch.cat([previous, steps, following], dim=2)


def speech_level(waveforms: Tensor, *, frame: int) -> Tensor:
    """Root mean square of the loud parts of waveforms (B, N) -> (B,): each frame counts by its own power.

    So silence, wherever it stands, does not count. A silent clip's is 1, so that dividing by it leaves the clip.

    >>> speech_level(torch.cat([torch.full((1, 480), 0.5), torch.zeros(1, 960)], dim=1), frame=240)
    tensor([0.5000])
    """
    power = waveforms.unflatten(1, (-1, frame)).square().mean(dim=2)  # (B, R)
    mean_square = power.square().sum(dim=1) / power.sum(dim=1).clamp_min(_SILENCE)
    return torch.where(mean_square > _SILENCE, mean_square, 1.0).sqrt()


def magnitudes_of_mel(mel: Tensor, config: MelRVQConfig) -> Tensor:
    """Mel bands (B, R, M) -> magnitudes (B, R, K), none below 0, whose bands are nearly these.

    By Richardson and Lucy's iteration, which keeps what it starts from as smooth as the bands allow; the
    pseudo-inverse of the filters rings, and its clamped negative bins are lost.
    """
    filters, spread = (matrix.to(mel.device) for matrix in _filters(config.n_fft, config.num_mels, config.sample_rate))
    magnitudes = mel @ spread
    for _ in range(_UNMEL_ITERATIONS):
        magnitudes = magnitudes * ((mel / (magnitudes @ filters.T).clamp_min(_SMALLEST)) @ spread)
    return magnitudes


def griffin_lim(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Magnitudes (B, R, K) -> waveforms (B, N) whose transform has about these magnitudes: fast Griffin-Lim."""
    spectrum = torch.polar(magnitudes, first_phases(magnitudes, config))  # (B, R, K)
    previous = torch.zeros_like(spectrum)
    for _ in range(config.phase_iterations):
        consistent = _stft(_istft(spectrum, config), config)
        ahead = torch.lerp(previous, consistent, 1 + config.momentum)
        previous = consistent
        spectrum = ahead * (magnitudes / ahead.abs().clamp_min(_SMALLEST))
    return _istft(spectrum, config)


def first_phases(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Phases (B, R, K) to start from: each bin turns at the frequency of the peak nearest to it in its frame.

    After "single pass spectrogram inversion" (Beauregard, Harish, Wyse, 2015), without carrying a phase to another bin
    where the peak moves. It saves half the iterations that a random start needs.
    """
    bins = torch.arange(magnitudes.shape[2], device=magnitudes.device)  # (K,)
    lower, upper = F.pad(magnitudes, (1, 1))[..., :-2], F.pad(magnitudes, (1, 1))[..., 2:]
    is_peak = (magnitudes >= lower) & (magnitudes > upper)
    last_peak = torch.where(is_peak, bins, -len(bins)).cummax(dim=2).values  # at or below the bin
    next_peak = torch.where(is_peak, bins, 2 * len(bins)).flip(2).cummin(dim=2).values.flip(2)
    peak = torch.where(bins - last_peak <= next_peak - bins, last_peak, next_peak).clamp(0, len(bins) - 1)  # (B, R, K)
    # A parabola through the logarithms of a peak and its neighbours has its top at the true frequency.
    low, middle, high = ((part + _SMALLEST).log() for part in (lower, magnitudes, upper))
    top = (0.5 * (low - high) / (low - 2 * middle + high).clamp_max(-_SMALLEST)).clamp(-0.5, 0.5)
    frequency = (bins + top).gather(2, peak).double()  # in bins; long clips turn far, hence the doubles
    turned = (2 * torch.pi * config.frame_hop / config.n_fft * frequency).cumsum(dim=1).remainder(2 * torch.pi)
    return turned.float() + torch.pi * ((bins - peak) % 2)  # the window's own phase alternates beside a peak


@cache
def _filters(n_fft: int, num_mels: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """The mel filters (M, K), whose rows sum to 1, and the same (M, K) with columns that sum to 1."""
    filters = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=num_mels,
        min_frequency=0.0,
        max_frequency=sample_rate / 2,
        sampling_rate=sample_rate,
        mel_scale="slaney",
    )
    filters = torch.from_numpy(filters).T  # (M, K)
    filters = filters / filters.sum(dim=1, keepdim=True)  # a band is the mean magnitude of its bins
    spread = filters / filters.sum(dim=0).clamp_min(_SMALLEST)  # the outermost bins are in no band
    return filters.float(), spread.float()


def _window(config: MelRVQConfig, device: torch.device) -> Tensor:
    return torch.hann_window(config.n_fft, device=device)


def _stft(waveforms: Tensor, config: MelRVQConfig) -> Tensor:
    """(B, N) -> (B, R, K); frame r is centred on the middle of its own hop, and beyond the clip is silence."""
    margin = (config.n_fft - config.frame_hop) // 2
    padded = F.pad(waveforms, (margin, margin))
    frames = padded.unfold(1, config.n_fft, config.frame_hop) * _window(config, waveforms.device)  # (B, R, n_fft)
    return torch.fft.rfft(frames, norm="forward")


def _istft(spectrum: Tensor, config: MelRVQConfig) -> Tensor:
    """(B, R, K) -> (B, N): the waveform whose `_stft` is nearest by least squares."""
    hop, overlap = config.frame_hop, config.n_fft // config.frame_hop
    window = _window(config, spectrum.device)
    frames = torch.fft.irfft(spectrum, n=config.n_fft, norm="forward") * window  # (B, R, n_fft)
    weights = _overlap_add(window.square().expand(1, frames.shape[1], -1), hop=hop, overlap=overlap)
    margin = (config.n_fft - hop) // 2
    added = _overlap_add(frames, hop=hop, overlap=overlap) / weights.clamp_min(_SMALLEST)
    return added[:, margin : added.shape[1] - margin]


def _overlap_add(frames: Tensor, *, hop: int, overlap: int) -> Tensor:
    """(B, R, overlap * hop) -> (B, (R + overlap - 1) * hop)."""
    num_clips, num_frames, _ = frames.shape
    added = frames.new_zeros(num_clips, num_frames + overlap - 1, hop)
    for index, part in enumerate(frames.unflatten(2, (overlap, hop)).unbind(dim=2)):
        added[:, index : index + num_frames] += part
    return added.flatten(1)


AutoConfig.register(MelRVQConfig.model_type, MelRVQConfig, exist_ok=True)
AutoModel.register(MelRVQConfig, MelRVQModel, exist_ok=True)
