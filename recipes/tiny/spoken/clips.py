"""Normalize the clips of the tiny corpora, so that they differ only in voice: sample rate, silence, loudness."""

import numpy as np


RATE = 24_000  # Hz
LEAD_SECONDS, TRAIL_SECONDS = 0.05, 0.15
LOUDNESS = -24.0  # dB of full scale, over the frames with speech
PEAK = 0.98  # a clip whose peak would exceed this is scaled to it, and is softer
FRAME = 240  # samples; 10 ms
SPEECH_RANGE = 36.0  # frames down to this many dB below the loudest one are speech
_GRID = 10  # resampling pads to tenths of a second, a whole number of samples at every rate used here


def prepare(samples: np.ndarray, rate: int) -> np.ndarray:
    """Convert a clip (N,) at `rate`, floats in [-1, 1], to 16-bit samples (M,) at `RATE`.

    Silence around the speech becomes `LEAD_SECONDS` and `TRAIL_SECONDS` long. The speech has the same mean power in
    every clip.

    Raises:
        ValueError: the clip is silent.
    """
    wave = resample(samples.astype(np.float64), rate)
    levels = _frame_levels(wave)
    speaking = levels > levels.max() - SPEECH_RANGE
    if not np.isfinite(levels.max()):
        raise ValueError("the clip is silent")
    first, last = np.flatnonzero(speaking)[[0, -1]]
    lead, trail = round(LEAD_SECONDS * RATE), round(TRAIL_SECONDS * RATE)
    padded = np.pad(wave, (lead, trail + FRAME))
    cut = padded[first * FRAME : (last + 1) * FRAME + lead + trail]
    loud = 10 * np.log10(np.mean(10 ** (levels[speaking] / 10)))
    gain = min(10 ** ((LOUDNESS - loud) / 20), PEAK / np.abs(cut).max())
    return np.round(cut * gain * 32767).astype(np.int16)


def resample(wave: np.ndarray, rate: int) -> np.ndarray:
    """Resample (N,) at `rate` to (M,) at `RATE`, band-limited, by one Fourier transform of the whole clip."""
    if rate == RATE:
        return wave
    if rate % _GRID:
        raise ValueError(f"a rate of {rate} Hz is not a multiple of {_GRID}")
    tenths = -(-len(wave) // (rate // _GRID))
    wave = np.pad(wave, (0, tenths * rate // _GRID - len(wave)))
    size = tenths * RATE // _GRID
    return np.fft.irfft(np.fft.rfft(wave)[: size // 2 + 1], size) * (size / len(wave))


def _frame_levels(wave: np.ndarray) -> np.ndarray:
    """The level of each `FRAME` samples in dB of full scale; the last frame is padded with zeros."""
    frames = np.pad(wave, (0, -len(wave) % FRAME)).reshape(-1, FRAME)
    with np.errstate(divide="ignore"):  # digital silence is minus infinity
        return 10 * np.log10(np.mean(frames**2, axis=1))
