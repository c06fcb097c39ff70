"""What the samples of a recording tell of how it was made: clipped, or with silence at its ends."""

from dataclasses import dataclass

from torch import Tensor


# A recording that is only made as loud as can be touches full scale at single samples; a clipped wave stays there.
FLAT_TOP = 3
# Heard is what is less than this below the loudest 20 ms. Relative, as no room is ever digitally silent.
EDGE_DB = 40
FRAME_SECONDS = 0.02
# The greatest sample by how samples are stored, which falls short of 1.0; of what is not named here, that of 16 bits.
_FULL_SCALE = {"PCM_U8": 127 / 128, "PCM_S8": 127 / 128, "ULAW": 32124 / 32768, "ALAW": 32256 / 32768}


@dataclass(frozen=True)
class Levels:
    """Of one recording.

    Attributes:
        rate: of the recording as it is stored, in Hz.
        clipped: samples in flat tops: `FLAT_TOP` or more in a row at full scale, in any channel.
        silent_start, silent_end: seconds before and after all that is heard, in steps of `FRAME_SECONDS`.
    """

    rate: int
    clipped: int
    silent_start: float
    silent_end: float


def count_clipped(samples: Tensor, *, full_scale: float = 1.0) -> int:
    """How many of the samples (N, channels) stand in flat tops.

    >>> import torch
    >>> count_clipped(torch.tensor([[1.0], [0.5], [1.0], [1.0], [1.0], [1.0], [-1.0]]))
    4
    """
    signs = (samples >= full_scale).int() - (samples <= -full_scale).int()
    if not signs.any():
        return 0
    windows = signs.unfold(0, FLAT_TOP, 1) if len(signs) >= FLAT_TOP else signs[:0, :, None]  # (N - 2, channels, 3)
    flat = windows.sum(-1).abs() == FLAT_TOP
    clipped = signs != signs  # (N, channels), nothing yet
    for offset in range(FLAT_TOP):
        clipped[offset : offset + len(flat)] |= flat
    return int(clipped.sum())


def full_scale(subtype: str) -> float:
    """The greatest sample of a recording whose samples are stored so, by libsndfile's name."""
    return _FULL_SCALE.get(subtype, 32767 / 32768)


def silent_edges(waveform: Tensor, *, rate: int) -> tuple[float, float]:
    """Seconds of silence at the start and at the end of a waveform (N,); of one without any sound, its length and 0.

    >>> import torch
    >>> silent_edges(torch.cat([torch.zeros(500), torch.ones(300), torch.zeros(200)]), rate=1000)
    (0.5, 0.2)
    """
    size = max(1, round(FRAME_SECONDS * rate))
    num_frames = -(-len(waveform) // size)
    padded = waveform.new_zeros(num_frames * size)
    padded[: len(waveform)] = waveform
    power = padded.view(num_frames, size).square().mean(dim=1)
    heard = (power > power.max() * 10 ** (-EDGE_DB / 10)).nonzero()
    if not len(heard):
        return len(waveform) / rate, 0.0
    first, last = int(heard[0]) * size, (int(heard[-1]) + 1) * size
    return first / rate, max(0, len(waveform) - last) / rate
