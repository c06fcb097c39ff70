"""Read recordings of many hours in pieces, so that memory use does not depend on their length."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.clipping import count_clipped, full_scale
from higgs_recipes.audio.limits import MAX_AMPLITUDE, MAX_RATIO_DENOMINATOR, MIN_RATE
from higgs_recipes.errors import InputError


PIECE_SECONDS = 30.0
SLOWDOWN = 20  # `slow_down` lengthens a waveform by 1 / SLOWDOWN
_MARGIN_SECONDS = 0.1  # context on either side of a piece, for the resampling filter


class LongRecording:
    """An open audio file; a context manager. Channels are averaged.

    Messages do not name the file: the caller does.

    Raises:
        InputError: no such file, empty, not audio that libsndfile reads, or a sample rate below `MIN_RATE`; while
            reading: broken audio, or samples that are NaN, infinite or beyond `MAX_AMPLITUDE`.
    """

    def __init__(self, path: Path) -> None:
        try:
            if not path.stat().st_size:
                raise InputError("zero bytes; copy it again or drop it")
            self.file = soundfile.SoundFile(path)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error
        except soundfile.LibsndfileError as error:
            raise InputError(
                f"not audio that can be read ({error.error_string.rstrip('.')}); use wav, flac, ogg or mp3"
            ) from error
        self.rate: int = self.file.samplerate
        if self.rate < MIN_RATE or not self.file.frames:
            self.file.close()
            raise InputError(f"{self.file.frames} samples at {self.rate} Hz; export it again or drop it")

    def __enter__(self) -> "LongRecording":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def seconds(self) -> float:
        return self.file.frames / self.rate

    def pieces(self, rate: int) -> Iterator[Tensor]:
        """Yield the whole recording resampled to `rate`, as waveforms (N_i,) that join seamlessly."""
        ratio = self._ratio(rate)
        step = -(-round(PIECE_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        for first in range(0, self.file.frames, step):
            yield self._resampled(first, min(first + step, self.file.frames), ratio)

    def span(self, start: float, end: float, *, rate: int) -> tuple[Tensor, float]:
        """Read `start` to `end` (seconds) as a waveform (N,) at `rate`, and the share of clipped samples in it."""
        ratio = self._ratio(rate)
        first = int(start * self.rate) // ratio.numerator * ratio.numerator
        last = min(round(end * self.rate), self.file.frames)
        clipped = count_clipped(self._read(first, last), full_scale=full_scale(self.file.subtype))
        return self._resampled(first, last, ratio), clipped / ((last - first) * self.file.channels)

    def _ratio(self, rate: int) -> Fraction:
        """Samples of the file per sample at `rate`."""
        return Fraction(self.rate, rate).limit_denominator(MAX_RATIO_DENOMINATOR)

    def _resampled(self, first: int, last: int, ratio: Fraction) -> Tensor:
        """Read file samples [first, last) and resample them.

        `first` is a multiple of the ratio's numerator, so that it coincides with a sample at the new rate.
        """
        margin = -(-round(_MARGIN_SECONDS * self.rate) // ratio.numerator) * ratio.numerator
        before = min(first, margin)
        samples = self._read(first - before, min(last + margin, self.file.frames)).mean(dim=1)
        resampled = torchaudio.functional.resample(samples, ratio.numerator, ratio.denominator)
        skipped = before // ratio.numerator * ratio.denominator
        return resampled[skipped : skipped + -(-(last - first) * ratio.denominator // ratio.numerator)]

    def _read(self, first: int, last: int) -> Tensor:
        """Read file samples [first, last) -> (last - first, channels)."""
        try:
            self.file.seek(first)
            samples = torch.from_numpy(self.file.read(last - first, dtype="float32", always_2d=True))
        except soundfile.LibsndfileError as error:
            raise InputError(f"broken audio ({error}); export it again or drop it") from error
        if len(samples) < last - first:
            raise InputError(
                f"broken audio: it ends at {(first + len(samples)) / self.rate:.1f} s of {self.seconds:.1f}"
            )
        if not samples.isfinite().all() or samples.abs().max() > MAX_AMPLITUDE:
            raise InputError("samples that are NaN, infinite or far beyond [-1, 1]; export it again or drop it")
        return samples


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
