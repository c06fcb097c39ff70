"""Mel spectra of waveforms, and their inversion: magnitudes from mel bands, phases by Griffin-Lim.

Letters: B batch, N samples, R frames, K bins of the Fourier transform, M mel bands.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from higgs_recipes.audio.mel_rvq_config import MelRVQConfig


_SILENCE = 1e-7  # mean square (-70 dB of full scale) below which a clip is not normalized
_INVERSION_ITERATIONS = 8  # later iterations hardly change the magnitudes
_EPSILON = 1e-8  # lower bound of divisors


def speech_level(waveforms: Tensor, *, frame: int) -> Tensor:
    """Root mean square of the loud parts of waveforms (B, N) -> (B,): frames are weighted by their power.

    Therefore silence does not count, wherever it is. A silent clip has level 1, so dividing by it changes nothing.

    >>> speech_level(torch.cat([torch.full((1, 480), 0.5), torch.zeros(1, 960)], dim=1), frame=240)
    tensor([0.5000])
    """
    power = waveforms.unflatten(1, (-1, frame)).square().mean(dim=2)  # (B, R)
    mean_square = power.square().sum(dim=1) / power.sum(dim=1).clamp_min(_SILENCE)
    return torch.where(mean_square > _SILENCE, mean_square, 1.0).sqrt()


def mel_to_magnitudes(mel: Tensor, config: MelRVQConfig) -> Tensor:
    """Estimate nonnegative magnitudes (B, R, K) of mel bands (B, R, M).

    Uses the Richardson-Lucy iteration, which stays as smooth as the bands allow. The pseudo-inverse of the filters
    rings, and clamping its negative bins loses energy.
    """
    filters, spread = (
        matrix.to(mel.device) for matrix in mel_filters(config.n_fft, config.num_mels, config.sample_rate)
    )
    magnitudes = mel @ spread
    for _ in range(_INVERSION_ITERATIONS):
        magnitudes = magnitudes * ((mel / (magnitudes @ filters.T).clamp_min(_EPSILON)) @ spread)
    return magnitudes


def griffin_lim(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Estimate waveforms (B, N) of magnitudes (B, R, K) by fast Griffin-Lim (Perraudin, Balazs, Søndergaard, 2013)."""
    spectrum = torch.polar(magnitudes, initial_phases(magnitudes, config))  # (B, R, K)
    previous = torch.zeros_like(spectrum)
    for _ in range(config.phase_iterations):
        consistent = stft(istft(spectrum, config), config)
        accelerated = torch.lerp(previous, consistent, 1 + config.momentum)
        previous = consistent
        spectrum = accelerated * (magnitudes / accelerated.abs().clamp_min(_EPSILON))
    return istft(spectrum, config)


def initial_phases(magnitudes: Tensor, config: MelRVQConfig) -> Tensor:
    """Initial phases (B, R, K): each bin advances at the frequency of the nearest peak in its frame.

    After "single pass spectrogram inversion" (Beauregard, Harish, Wyse, 2015), but a phase is not passed to another
    bin when its peak moves. Griffin-Lim then needs half the iterations of a random start.
    """
    bins = torch.arange(magnitudes.shape[2], device=magnitudes.device)  # (K,)
    lower, upper = F.pad(magnitudes, (1, 1))[..., :-2], F.pad(magnitudes, (1, 1))[..., 2:]
    is_peak = (magnitudes >= lower) & (magnitudes > upper)
    last_peak = torch.where(is_peak, bins, -len(bins)).cummax(dim=2).values  # at or below the bin
    next_peak = torch.where(is_peak, bins, 2 * len(bins)).flip(2).cummin(dim=2).values.flip(2)
    peak = torch.where(bins - last_peak <= next_peak - bins, last_peak, next_peak).clamp(0, len(bins) - 1)  # (B, R, K)
    # The vertex of a parabola through the log magnitudes of a peak and its neighbors is at the true frequency.
    low, middle, high = ((part + _EPSILON).log() for part in (lower, magnitudes, upper))
    offset = (0.5 * (low - high) / (low - 2 * middle + high).clamp_max(-_EPSILON)).clamp(-0.5, 0.5)
    frequency = (bins + offset).gather(2, peak).double()  # in bins; double, as phases of long clips grow large
    phases = (2 * torch.pi * config.frame_hop / config.n_fft * frequency).cumsum(dim=1).remainder(2 * torch.pi)
    return phases.float() + torch.pi * ((bins - peak) % 2)  # the window's phase alternates from bin to bin


@cache
def mel_filters(n_fft: int, num_mels: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Mel filters (M, K): normalized so that rows sum to 1, and so that columns sum to 1."""
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
    spread = filters / filters.sum(dim=0).clamp_min(_EPSILON)  # no band covers the outermost bins
    return filters.float(), spread.float()


def _window(config: MelRVQConfig, device: torch.device) -> Tensor:
    return torch.hann_window(config.n_fft, device=device)


def stft(waveforms: Tensor, config: MelRVQConfig) -> Tensor:
    """Short-time Fourier transform (B, N) -> (B, R, K).

    Each frame is centered on the middle of its hop; the clip is padded with silence.
    """
    margin = (config.n_fft - config.frame_hop) // 2
    padded = F.pad(waveforms, (margin, margin))
    frames = padded.unfold(1, config.n_fft, config.frame_hop) * _window(config, waveforms.device)  # (B, R, n_fft)
    return torch.fft.rfft(frames, norm="forward")


def istft(spectrum: Tensor, config: MelRVQConfig) -> Tensor:
    """Inverse of `stft`, (B, R, K) -> (B, N); the least-squares fit if no waveform has this spectrum."""
    hop, overlap = config.frame_hop, config.n_fft // config.frame_hop
    window = _window(config, spectrum.device)
    frames = torch.fft.irfft(spectrum, n=config.n_fft, norm="forward") * window  # (B, R, n_fft)
    weights = _overlap_add(window.square().expand(1, frames.shape[1], -1), hop=hop, overlap=overlap)
    margin = (config.n_fft - hop) // 2
    added = _overlap_add(frames, hop=hop, overlap=overlap) / weights.clamp_min(_EPSILON)
    return added[:, margin : added.shape[1] - margin]


def _overlap_add(frames: Tensor, *, hop: int, overlap: int) -> Tensor:
    """Overlap-add frames (B, R, overlap * hop) -> (B, (R + overlap - 1) * hop)."""
    num_clips, num_frames, _ = frames.shape
    added = frames.new_zeros(num_clips, num_frames + overlap - 1, hop)
    for index, part in enumerate(frames.unflatten(2, (overlap, hop)).unbind(dim=2)):
        added[:, index : index + num_frames] += part
    return added.flatten(1)
