"""Measures of how a recording was made: clipped samples, and silence at its ends."""

from dataclasses import dataclass

from torch import Tensor


# A peak-normalized recording reaches full scale in single samples; a clipped one stays there for several.
FLAT_TOP = 3
# A frame is silent if its power is this far below the loudest frame's. Relative, since no room is digitally silent.
EDGE_DB = 40
FRAME_SECONDS = 0.02
# Largest sample by sample format, where it falls short of 1.0; formats not named here: that of 16 bits.
_FULL_SCALE = {"PCM_U8": 127 / 128, "PCM_S8": 127 / 128, "ULAW": 32124 / 32768, "ALAW": 32256 / 32768}


@dataclass(frozen=True)
class Levels:
    """Measures of one recording.

    Attributes:
        rate: sample rate of the stored recording, in Hz.
        clipped: number of clipped samples: `FLAT_TOP` or more in a row at full scale, in any channel.
        silent_start, silent_end: seconds of silence at the ends, in steps of `FRAME_SECONDS`.
    """

    rate: int
    clipped: int
    silent_start: float
    silent_end: float


def count_clipped(samples: Tensor, *, full_scale: float = 1.0) -> int:
    """Count the samples (N, channels) in runs of at least `FLAT_TOP` at full scale.

    >>> import torch
    >>> count_clipped(torch.tensor([[1.0], [0.5], [1.0], [1.0], [1.0], [1.0], [-1.0]]))
    4
    """
    signs = (samples >= full_scale).int() - (samples <= -full_scale).int()
    if not signs.any():
        return 0
    windows = signs.unfold(0, FLAT_TOP, 1) if len(signs) >= FLAT_TOP else signs[:0, :, None]  # (N - 2, channels, 3)
    flat = windows.sum(-1).abs() == FLAT_TOP
    clipped = signs != signs  # (N, channels), all false
    for offset in range(FLAT_TOP):
        clipped[offset : offset + len(flat)] |= flat
    return int(clipped.sum())


def full_scale(subtype: str) -> float:
    """Largest sample of a recording by its sample format, as libsndfile names it.

    >>> full_scale("PCM_U8"), full_scale("PCM_16") == 32767 / 32768
    (0.9921875, True)
    """
    return _FULL_SCALE.get(subtype, 32767 / 32768)


def silent_edges(waveform: Tensor, *, rate: int) -> tuple[float, float]:
    """Seconds of silence at the start and at the end of a waveform (N,); its length and 0 if all of it is silent.

    >>> import torch
    >>> silent_edges(torch.cat([torch.zeros(500), torch.ones(300), torch.zeros(200)]), rate=1000)
    (0.5, 0.2)
    """
    size = max(1, round(FRAME_SECONDS * rate))
    num_frames = -(-len(waveform) // size)
    padded = waveform.new_zeros(num_frames * size)
    padded[: len(waveform)] = waveform
    power = padded.view(num_frames, size).square().mean(dim=1)
    loud = (power > power.max() * 10 ** (-EDGE_DB / 10)).nonzero()
    if not len(loud):
        return len(waveform) / rate, 0.0
    first, last = int(loud[0]) * size, (int(loud[-1]) + 1) * size
    return first / rate, max(0, len(waveform) - last) / rate
