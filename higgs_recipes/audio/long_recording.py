"""Read recordings of many hours in pieces, so that memory use does not depend on their length."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.clipping import count_clipped, full_scale
from higgs_recipes.audio.decoding import EXPORT, ChannelMix, Recording, mix_channels
from higgs_recipes.audio.io import resampling_ratio
from higgs_recipes.errors import InputError


PIECE_SECONDS = 30.0
SLOWDOWN = 20  # `slow_down` lengthens a waveform by 1 / SLOWDOWN
_MARGIN_SECONDS = 0.1  # context on either side of a piece, for the resampling filter


@dataclass(frozen=True)
class Contents:
    """Results of reading a recording once.

    Attributes:
        num_frames: samples per channel.
        channel: the channel that is used alone; None if the channels are averaged.
        flaw: what is missing or broken, and how much was read; None for a whole recording.
    """

    num_frames: int
    channel: int | None
    flaw: str | None


class LongRecording:
    """An open recording; a context manager. A truncated or broken recording ends where it can no longer be read.

    Messages do not name the file: the caller does.

    Args:
        contents: of an earlier `LongRecording` of the same file; None reads the file once to its end.

    Raises:
        InputError: see `Recording`; or no samples.
    """

    def __init__(self, path: Path, *, contents: Contents | None = None) -> None:
        self.recording = Recording(path)
        self.rate, self.window = self.recording.rate, None
        try:
            self.contents = self._read_all() if contents is None else contents
        except InputError:
            self.recording.close()
            raise

    def __enter__(self) -> "LongRecording":
        return self

    def __exit__(self, *_: object) -> None:
        self.recording.close()

    @property
    def seconds(self) -> float:
        return self.contents.num_frames / self.rate

    @property
    def channels(self) -> int:
        return self.recording.channels

    def pieces(self, rate: int) -> Iterator[Tensor]:
        """Yield the whole recording resampled to `rate`, as waveforms (N_i,) that join seamlessly.

        Raises:
            InputError: see `Recording`; or the file is shorter than `contents` states.
        """
        ratio = resampling_ratio(self.rate, rate)
        step = -(-round(PIECE_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        for first in range(0, self.contents.num_frames, step):
            yield self._resampled(first, min(first + step, self.contents.num_frames), ratio)[0]

    def span(self, start: float, end: float, *, rate: int) -> tuple[Tensor, float]:
        """Read `start` to `end` (seconds) as a waveform (N,) at `rate`, and the share of clipped samples in it.

        Spans in order of time are read in one pass over the file.

        Raises:
            InputError: as `pieces`.
        """
        ratio = resampling_ratio(self.rate, rate)
        first = int(start * self.rate) // ratio.numerator * ratio.numerator
        last = min(round(end * self.rate), self.contents.num_frames)
        waveform, samples = self._resampled(first, last, ratio)
        clipped = count_clipped(samples, full_scale=full_scale(self.recording.subtype))
        return waveform, clipped / samples.numel()

    def _resampled(self, first: int, last: int, ratio: Fraction) -> tuple[Tensor, Tensor]:
        """File samples [first, last): resampled to a waveform (N,), and unchanged (last - first, channels).

        `first` is a multiple of the ratio's numerator, so that it coincides with a sample at the new rate.
        """
        margin = -(-round(_MARGIN_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        before = min(first, margin)
        samples = self._read(first - before, min(last + margin, self.contents.num_frames))
        mixed = mix_channels(samples, self.contents.channel)
        resampled = torchaudio.functional.resample(mixed, ratio.numerator, ratio.denominator)
        skipped = before // ratio.numerator * ratio.denominator
        length = -(-(last - first) * ratio.denominator // ratio.numerator)
        return resampled[skipped : skipped + length], samples[before : before + last - first]

    def _read(self, first: int, last: int) -> Tensor:
        """Read file samples [first, last) -> (last - first, channels)."""
        if self.window is None or first < self.window.first:
            self.window = _Window(self.recording.blocks())
        samples = self.window.read(first, last)
        if len(samples) < last - first:
            raise InputError(
                f"the file has changed: it ends at {(first + len(samples)) / self.rate:.1f} s and had "
                f"{self.seconds:.1f} s before; run again, and do not change it meanwhile"
            )
        return samples

    def _read_all(self) -> Contents:
        mix = ChannelMix()
        for block in self.recording.blocks():
            mix.add(block)
        if not self.recording.num_frames:
            raise InputError(f"no samples; {self.recording.flaw or EXPORT}")
        return Contents(self.recording.num_frames, mix.channel, self.recording.flaw)


class _Window:
    """Sequential reads from the blocks of a recording; blocks before the last read are dropped.

    Attributes:
        first: index of the first sample in memory.
    """

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self.waiting, self.blocks = blocks, []
        self.first = self.last = 0

    def read(self, first: int, last: int) -> Tensor:
        """Samples [first, last) (n, channels), fewer at the end of the recording; requires first >= self.first."""
        while self.last < last and (block := next(self.waiting, None)) is not None:
            self.blocks.append(block)
            self.last += len(block)
            self._drop_before(first)
        self._drop_before(first)
        kept = torch.cat(self.blocks) if self.blocks else torch.zeros(0, 1)
        return kept[first - self.first : last - self.first]

    def _drop_before(self, first: int) -> None:
        while self.blocks and self.first + len(self.blocks[0]) <= first:
            self.first += len(self.blocks.pop(0))


def slow_down(waveform: Tensor) -> Tensor:
    """Lengthen a waveform (N,) by 1 / `SLOWDOWN`, which also lowers its pitch: different audio, the same words."""
    return torchaudio.functional.resample(waveform, SLOWDOWN, SLOWDOWN + 1)


def fade_edges(waveform: Tensor, *, num_samples: int) -> Tensor:
    """Fade the first and the last samples of a waveform (N,) in and out.

    >>> fade_edges(torch.ones(6), num_samples=2).tolist()
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    ramp = torch.arange(num_samples) / num_samples
    faded = waveform.clone()
    faded[:num_samples] *= ramp
    faded[-num_samples:] *= ramp.flip(0)
    return faded
