"""Join the waveforms of chunks: a stated pause between them, and no click."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from higgs_recipes.audio.clipping import silent_edges
from higgs_recipes.constants import SAMPLE_RATE


FADE_SECONDS = 0.01  # at both sides of a join, where a clip is cut


def joined_chunks(waveforms: Iterable[Tensor], pauses: Sequence[float]) -> Iterator[Tensor]:
    """The parts (N_i,) of the joined waveform, one or two per chunk; only one chunk is in memory.

    Between the speech of two chunks there are `pauses[i]` seconds: up to half of them from the silence at the end of
    chunk i, up to half from the start of chunk i + 1, and zeros for what these lack. More silence is cut off. The
    start of the first chunk and the end of the last one are kept.

    Args:
        waveforms: the chunks at `SAMPLE_RATE`.
        pauses: seconds after each chunk; the last one is not used.
    """
    half = 0.0  # of the pause before this chunk
    zeros = torch.zeros(0)
    for index, waveform in enumerate(waveforms):
        is_first, is_last = index == 0, index == len(pauses) - 1
        start, end = silent_edges(waveform, rate=SAMPLE_RATE)
        if start + end >= len(waveform) / SAMPLE_RATE:  # no sound at all
            start = end = 0.0
        kept_start, pause = min(start, half), pauses[index]
        kept_end = min(end, pause / 2)
        if not is_first:
            yield torch.zeros(len(zeros) - _samples(kept_start))
        cut_start = 0 if is_first else _samples(start - kept_start)
        cut_end = 0 if is_last else _samples(end - kept_end)
        yield _faded(waveform[cut_start : len(waveform) - cut_end], at_start=not is_first, at_end=not is_last)
        half = pause / 2
        zeros = torch.zeros(_samples(pause) - _samples(kept_end))


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _faded(waveform: Tensor, *, at_start: bool, at_end: bool) -> Tensor:
    size = min(_samples(FADE_SECONDS), len(waveform) // 2)
    ramp = torch.arange(size) / max(1, size)  # (size,), from 0
    faded = waveform.clone()
    if at_start:
        faded[:size] *= ramp
    if at_end:
        faded[len(faded) - size :] *= ramp.flip(0)
    return faded
