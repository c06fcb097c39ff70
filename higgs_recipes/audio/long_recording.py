"""Recordings of hours, read in pieces: memory holds some seconds of one, whatever its length, rate and container."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.clipping import count_clipped, full_scale
from higgs_recipes.errors import InputError


PIECE_SECONDS = 30.0
SLOWED = 20  # a slowed waveform is longer by one part in so many
_MARGIN_SECONDS = 0.1  # read on either side of a piece: the resampler hears what stands beside it
_LOWEST_RATE = 4_000  # Hz; below lies no speech, only broken headers
_RATIO_LIMIT = 1_000  # as audio.py: the resampler's kernel grows with the product of the ratio's terms
_LOUDEST = 8.0


class LongRecording:
    """A file of sound, open; a context manager. Channels are averaged.

    Raises:
        InputError: not there, empty, not audio that libsndfile reads, a rate below any speech; in reading: broken,
            samples that are NaN, infinite or far beyond [-1, 1].
    """

    def __init__(self, path: Path) -> None:
        try:
            if not path.stat().st_size:
                raise InputError("zero bytes; copy it again or drop it")
            self.file = soundfile.SoundFile(os.fsencode(path))  # names may not be UTF-8
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error
        except soundfile.LibsndfileError as error:
            raise InputError(
                f"not audio that can be read ({error.error_string.rstrip('.')}); use wav, flac, ogg or mp3"
            ) from error
        self.rate: int = self.file.samplerate
        if self.rate < _LOWEST_RATE or not self.file.frames:
            self.file.close()
            raise InputError(f"{self.file.frames} samples at {self.rate} Hz; export it again or drop it")

    def __enter__(self) -> "LongRecording":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def seconds(self) -> float:
        return self.file.frames / self.rate

    @property
    def channels(self) -> int:
        return self.file.channels

    def pieces(self, rate: int) -> Iterator[Tensor]:
        """The whole recording at `rate`, in waveforms (N_i,) that join without a seam."""
        ratio = self._ratio(rate)
        step = -(-round(PIECE_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        for first in range(0, self.file.frames, step):
            yield self._resampled(first, min(first + step, self.file.frames), ratio)

    def span(self, start: float, end: float, *, rate: int) -> tuple[Tensor, float]:
        """A part as a waveform (N,) at `rate`, and the share of its samples that is clipped in any channel."""
        ratio = self._ratio(rate)
        first = int(start * self.rate) // ratio.numerator * ratio.numerator
        last = min(round(end * self.rate), self.file.frames)
        clipped = count_clipped(self._read(first, last), full_scale=full_scale(self.file.subtype))
        return self._resampled(first, last, ratio), clipped / ((last - first) * self.file.channels)

    def _ratio(self, rate: int) -> Fraction:
        """Samples of the file for those at `rate`."""
        return Fraction(self.rate, rate).limit_denominator(_RATIO_LIMIT)

    def _resampled(self, first: int, last: int, ratio: Fraction) -> Tensor:
        """`first` is a multiple of the ratio's numerator, so that it falls on a sample of the new rate."""
        margin = -(-round(_MARGIN_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        before = min(first, margin)
        samples = self._read(first - before, min(last + margin, self.file.frames)).mean(dim=1)
        resampled = torchaudio.functional.resample(samples, ratio.numerator, ratio.denominator)
        skipped = before // ratio.numerator * ratio.denominator
        return resampled[skipped : skipped + -(-(last - first) * ratio.denominator // ratio.numerator)]

    def _read(self, first: int, last: int) -> Tensor:
        """Samples (last - first, channels)."""
        try:
            self.file.seek(first)
            samples = torch.from_numpy(self.file.read(last - first, dtype="float32", always_2d=True))
        except soundfile.LibsndfileError as error:
            raise InputError(f"broken audio ({error}); export it again or drop it") from error
        if len(samples) < last - first:
            raise InputError(
                f"broken audio: it ends at {(first + len(samples)) / self.rate:.1f} s of {self.seconds:.1f}"
            )
        if not samples.isfinite().all() or samples.abs().max() > _LOUDEST:
            raise InputError("samples that are NaN, infinite or far beyond [-1, 1]; export it again or drop it")
        return samples


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
