"""Recordings of any rate and container -> mono float32 waveforms (N,) at the codec's rate, and back to wav."""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.clipping import Levels, count_clipped, full_scale, silent_edges
from higgs_recipes.audio.decoding import AGAIN, EXPORT, AudioSource, ChannelMix, Recording, mix_channels, open_source
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write


_RATIO_LIMIT = 1_000
_KERNEL_LIMIT = 10**7  # the resampler's kernel grows with the product of the ratio's terms


def read_audio(source: AudioSource, *, name: str, max_seconds: float = math.inf) -> Tensor:
    """A recording as a waveform (N,), float32 at `SAMPLE_RATE`, its channels mixed (see `ChannelMix`).

    Args:
        source: path, encoded bytes, or a cell {"path", "bytes"} of an undecoded `datasets` audio column.
        name: what messages call the recording.
        max_seconds: a longer recording is refused, by its header if that states a length.

    Raises:
        InputError: what `Recording` finds, a recording that is longer, broken or truncated, or no samples.
    """
    samples, recording = _read(source, name, max_seconds)
    return _waveform(samples, recording.rate)


def read_measured(source: AudioSource, *, name: str, max_seconds: float = math.inf) -> tuple[Tensor, Levels]:
    """`read_audio`, and what is measured on the recording while it is decoded.

    Raises:
        InputError: as `read_audio`.
    """
    samples, recording = _read(source, name, max_seconds)
    waveform = _waveform(samples, recording.rate)
    # Before the channels are mixed and the rate is changed: either rounds a flat top off.
    clipped = count_clipped(samples, full_scale=full_scale(recording.subtype))
    return waveform, Levels(recording.rate, clipped, *silent_edges(waveform, rate=SAMPLE_RATE))


def read_part(source: AudioSource, *, name: str) -> tuple[Tensor, str | None]:
    """What can be read of a recording, as `read_audio`, and what is missing or broken (None of a whole recording).

    Raises:
        InputError: as `read_audio`, but not for a recording that is broken or truncated.
    """
    samples, recording = _read(source, name, math.inf, whole=False)
    return _waveform(samples, recording.rate), recording.flaw


def recorded_seconds(source: AudioSource, *, name: str) -> float:
    """Length of a recording. It is read to the end, in blocks: memory does not grow with it.

    Raises:
        InputError: as `read_audio`.
    """
    with _named(name), Recording(source) as recording:
        for _ in recording.blocks():
            pass
        _check_whole(recording)
        return recording.seconds


def read_bytes(source: AudioSource, *, name: str) -> bytes:
    """The encoded recording as it is stored.

    Raises:
        InputError: what `open_source` finds.
    """
    with _named(name):
        file, _, _ = open_source(source)
        with file:
            return file.read()


def wav_bytes(waveform: Tensor) -> bytes:
    """A waveform (N,) as a wav file: 16-bit PCM at `SAMPLE_RATE`, clipped to [-1, 1]."""
    (num_samples,) = waveform.shape
    assert num_samples and waveform.isfinite().all(), "a waveform has samples, and all are finite"
    wav = io.BytesIO()
    soundfile.write(wav, waveform.detach().cpu().float().numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return wav.getvalue()


def write_wav(path: str | Path, waveform: Tensor) -> None:
    """Write a waveform (N,) as `wav_bytes` gives it, whole or not at all."""
    atomic_write(path, wav_bytes(waveform))


def join_waveforms(waveforms: Sequence[Tensor], *, gaps: Sequence[float]) -> Tensor:
    """Waveforms (N_i,) one after the other -> (N,), `gaps` seconds of silence between them; below 0 they overlap.

    >>> join_waveforms([torch.ones(2), torch.ones(3)], gaps=[-1 / SAMPLE_RATE]).tolist()
    [1.0, 2.0, 1.0, 1.0]
    """
    starts = [0]
    for waveform, gap in zip(waveforms, gaps, strict=False):
        starts.append(max(0, starts[-1] + len(waveform) + round(gap * SAMPLE_RATE)))
    ends = [start + len(waveform) for start, waveform in zip(starts, waveforms, strict=True)]
    joined = torch.zeros(max(ends))
    for start, end, waveform in zip(starts, ends, waveforms, strict=True):
        joined[start:end] += waveform
    return joined


def change_speed(waveform: Tensor, speed: float) -> Tensor:
    """A waveform (N,) played `speed` times as fast, and as much higher -> (about N / speed,).

    >>> change_speed(torch.zeros(300), 1.5).shape
    torch.Size([200])
    """
    ratio = Fraction(speed).limit_denominator(_RATIO_LIMIT)
    return torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)


def resampling_ratio(rate: int, target: int) -> Fraction:
    """Samples at `rate` for those at `target`, of terms small enough for the resampler.

    47,999 Hz is taken for 48,000: its exact ratio needs a kernel of gigabytes, and 1 in 48,000 is not audible.

    >>> resampling_ratio(47_999, 24_000)
    Fraction(2, 1)
    """
    limit = min(_RATIO_LIMIT, math.isqrt(_KERNEL_LIMIT * target // rate))
    return Fraction(rate, target).limit_denominator(max(1, limit))


def _read(source: AudioSource, name: str, max_seconds: float, *, whole: bool = True) -> tuple[Tensor, Recording]:
    """Samples (n, channels), and the recording that they were read from."""
    with _named(name), Recording(source, limit=max_seconds) as recording:
        if recording.expected_seconds is not None:
            _check_length(recording.expected_seconds, max_seconds)
        blocks = []
        for block in recording.blocks():
            blocks.append(block)
            _check_length(recording.seconds, max_seconds, at_least="at least ")
        if whole:
            _check_whole(recording)
        if not blocks:
            raise InputError(f"no samples; {EXPORT}")
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks), recording


def _waveform(samples: Tensor, rate: int) -> Tensor:
    """Samples (n, channels) as a waveform (N,) at `SAMPLE_RATE`."""
    mix = ChannelMix()
    mix.add(samples)
    ratio = resampling_ratio(rate, SAMPLE_RATE)
    waveform = mix_channels(samples, mix.channel)
    return torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)


def _check_length(seconds: float, max_seconds: float, *, at_least: str = "") -> None:
    if seconds > max_seconds:
        raise InputError(f"too long: {at_least}{seconds:.2f} s, max_seconds is {max_seconds}")


def _check_whole(recording: Recording) -> None:
    if recording.flaw is not None:
        raise InputError(f"{recording.flaw}; {AGAIN}")
    if not recording.num_frames:
        raise InputError(f"no samples; {EXPORT}")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the recording's name before the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
