"""Recordings of hours, read in pieces: memory holds some seconds of one, whatever its length, rate and container."""

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
SLOWED = 20  # a slowed waveform is longer by one part in this many
_MARGIN_SECONDS = 0.1  # read on either side of a piece: the resampler's filter reaches into it


@dataclass(frozen=True)
class Contents:
    """What a pass over a recording found.

    Attributes:
        num_frames: samples per channel.
        channel: the one that is taken alone; None where the channels are averaged.
        flaw: what is missing or broken, and how much is there; None of a whole recording.
    """

    num_frames: int
    channel: int | None
    flaw: str | None


class LongRecording:
    """A recording, open; a context manager. Of a broken or truncated one, what can be read is taken for all of it.

    Args:
        contents: what an earlier pass over the same file found; None reads it once from the beginning to the end.

    Raises:
        InputError: what `Recording` finds, or no samples.
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

    def pieces(self, rate: int) -> Iterator[Tensor]:
        """The whole recording at `rate`, in waveforms (N_i,) that join without a seam.

        Raises:
            InputError: as `Recording` in reading, or the recording is shorter than it was.
        """
        ratio = resampling_ratio(self.rate, rate)
        step = -(-round(PIECE_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        for first in range(0, self.contents.num_frames, step):
            yield self._resampled(first, min(first + step, self.contents.num_frames), ratio)[0]

    def span(self, start: float, end: float, *, rate: int) -> tuple[Tensor, float]:
        """A part as a waveform (N,) at `rate`, and the share of its samples that is clipped in any channel.

        Spans in the order of time are read in one pass.

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
        """Samples from `first` to `last` as a waveform (N,) at another rate, and as they are (last - first, channels).

        `first` is a multiple of the ratio's numerator, so that it is a sample of the new rate too.
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
        """Samples (last - first, channels)."""
        if self.window is None or first < self.window.first:
            self.window = _Window(self.recording.blocks())
        samples = self.window.read(first, last)
        if len(samples) < last - first:
            raise InputError(
                f"broken audio: it ends at {(first + len(samples)) / self.rate:.1f} s and had {self.seconds:.1f} s "
                "before; leave the file as it is while it is read"
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
    """The samples of a recording that is decoded from its beginning, of which those behind are forgotten.

    Attributes:
        first: the first sample that is still there.
    """

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self.waiting, self.blocks = blocks, []
        self.first = self.last = 0

    def read(self, first: int, last: int) -> Tensor:
        """Samples (last - first, channels), fewer at the end of the recording; `first` is not before `self.first`."""
        while self.last < last and (block := next(self.waiting, None)) is not None:
            self.blocks.append(block)
            self.last += len(block)
            self._forget(first)
        self._forget(first)
        kept = torch.cat(self.blocks) if self.blocks else torch.zeros(0, 1)
        return kept[first - self.first : last - self.first]

    def _forget(self, first: int) -> None:
        while self.blocks and self.first + len(self.blocks[0]) <= first:
            self.first += len(self.blocks.pop(0))


def slowed(waveform: Tensor) -> Tensor:
    """The waveform (N,) longer by a `SLOWED`th, and as much lower: other sound, the same words."""
    return torchaudio.functional.resample(waveform, SLOWED, SLOWED + 1)


def faded(waveform: Tensor, *, num_samples: int) -> Tensor:
    """The waveform (N,) with its first and last samples faded in and out.

    >>> faded(torch.ones(6), num_samples=2).tolist()
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    ramp = torch.arange(num_samples) / num_samples
    faded = waveform.clone()
    faded[:num_samples] *= ramp
    faded[-num_samples:] *= ramp.flip(0)
    return faded
