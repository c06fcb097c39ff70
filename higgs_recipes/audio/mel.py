"""Waveforms -> magnitudes of short frames -> mel bands, and the way back: bins behind the bands, phases, Griffin-Lim.

Letters: B batch, N samples, R frames, K bins of the Fourier transform, M mel bands.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from higgs_recipes.audio.mel_rvq_config import MelRVQConfig


_SILENCE = 1e-7  # mean square (-70 dB of full scale) below which a clip is not brought to any level
_UNMEL_ITERATIONS = 8  # after which the bins hardly move
_SMALLEST = 1e-8  # keeps magnitudes above 0 where they are divided by


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
    filters, spread = (
        matrix.to(mel.device) for matrix in mel_filters(config.n_fft, config.num_mels, config.sample_rate)
    )
    magnitudes = mel @ spread
    for _ in range(_UNMEL_ITERATIONS):
        magnitudes = magnitudes * ((mel / (magnitudes @ filters.T).clamp_min(_SMALLEST)) @ spread)
    return magnitudes


def griffin_lim(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Magnitudes (B, R, K) -> waveforms (B, N) whose transform has about these magnitudes: fast Griffin-Lim."""
    spectrum = torch.polar(magnitudes, first_phases(magnitudes, config))  # (B, R, K)
    previous = torch.zeros_like(spectrum)
    for _ in range(config.phase_iterations):
        consistent = short_time_transform(waveforms_of_spectrum(spectrum, config), config)
        ahead = torch.lerp(previous, consistent, 1 + config.momentum)
        previous = consistent
        spectrum = ahead * (magnitudes / ahead.abs().clamp_min(_SMALLEST))
    return waveforms_of_spectrum(spectrum, config)


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
    # A parabola through the logarithms of a peak and its neighbors has its top at the true frequency.
    low, middle, high = ((part + _SMALLEST).log() for part in (lower, magnitudes, upper))
    top = (0.5 * (low - high) / (low - 2 * middle + high).clamp_max(-_SMALLEST)).clamp(-0.5, 0.5)
    frequency = (bins + top).gather(2, peak).double()  # in bins; long clips turn far, hence the doubles
    turned = (2 * torch.pi * config.frame_hop / config.n_fft * frequency).cumsum(dim=1).remainder(2 * torch.pi)
    return turned.float() + torch.pi * ((bins - peak) % 2)  # the window's own phase alternates beside a peak


@cache
def mel_filters(n_fft: int, num_mels: int, sample_rate: int) -> tuple[Tensor, Tensor]:
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


def short_time_transform(waveforms: Tensor, config: MelRVQConfig) -> Tensor:
    """(B, N) -> (B, R, K); frame r is centered on the middle of its own hop, and beyond the clip is silence."""
    margin = (config.n_fft - config.frame_hop) // 2
    padded = F.pad(waveforms, (margin, margin))
    frames = padded.unfold(1, config.n_fft, config.frame_hop) * _window(config, waveforms.device)  # (B, R, n_fft)
    return torch.fft.rfft(frames, norm="forward")


def waveforms_of_spectrum(spectrum: Tensor, config: MelRVQConfig) -> Tensor:
    """(B, R, K) -> (B, N): the waveform whose `short_time_transform` is nearest by least squares."""
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
