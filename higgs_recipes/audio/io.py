"""Read recordings of any rate and container as mono float32 waveforms (N,) at `SAMPLE_RATE`; write wav files."""

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
from higgs_recipes.audio.signal_limits import MAX_FILTER_SIZE, MAX_RATIO_DENOMINATOR
from higgs_recipes.audio.wav_file import pcm16
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError, TooLongError
from higgs_recipes.files import atomic_write
from higgs_recipes.rejects import InvalidAudioError, RejectCode


def read_audio(source: AudioSource, *, name: str, max_seconds: float = math.inf) -> Tensor:
    """Read a recording as a waveform (N,), float32 at `SAMPLE_RATE`; channels are averaged (see `ChannelMix`).

    Args:
        source: path, encoded bytes, or a cell {"path", "bytes"} of an undecoded `datasets` audio column.
        name: name of the recording in messages.
        max_seconds: longer recordings are refused, without decoding if the header states the length.

    Raises:
        InputError: see `Recording`; or no samples.
        TooLongError: longer than `max_seconds`.
        InvalidAudioError: truncated or broken.
    """
    samples, recording = _read(source, name, max_seconds)
    return _waveform(samples, recording.rate)


def read_first_channel(source: AudioSource, *, name: str, rate: int) -> Tensor:
    """Read the first channel of a recording as a waveform (N,), float32, resampled once: from its own rate to `rate`.

    Speaker models of benchmarks read recordings so; `read_audio` averages channels, and resamples to `SAMPLE_RATE`.

    Raises:
        InputError: as `read_audio`.
    """
    samples, recording = _read(source, name, math.inf)
    ratio = resampling_ratio(recording.rate, rate)
    return torchaudio.functional.resample(samples[:, 0].contiguous(), ratio.numerator, ratio.denominator)


def read_measured(source: AudioSource, *, name: str, max_seconds: float = math.inf) -> tuple[Tensor, Levels]:
    """Read a recording as `read_audio` does, and measure its levels.

    Raises:
        InputError: as `read_audio`.
    """
    samples, recording = _read(source, name, max_seconds)
    waveform = _waveform(samples, recording.rate)
    # Counted on the stored samples: averaging channels and resampling round off flat tops.
    clipped = count_clipped(samples, full_scale=full_scale(recording.subtype))
    return waveform, Levels(recording.rate, clipped, *silent_edges(waveform, rate=SAMPLE_RATE))


def recorded_seconds(source: AudioSource, *, name: str) -> float:
    """Length of a recording. It is decoded to the end in blocks, so that memory use does not depend on its length.

    Raises:
        InputError: as `read_audio`.
    """
    with _named(name), Recording(source) as recording:
        for _ in recording.blocks():
            pass
        _check_whole(recording)
        return recording.seconds


def read_bytes(source: AudioSource, *, name: str) -> bytes:
    """Read the encoded recording as it is stored.

    Raises:
        InputError: see `open_source`.
    """
    with _named(name):
        file, _, _ = open_source(source)
        with file:
            return file.read()


def wav_bytes(waveform: Tensor) -> bytes:
    """Encode a waveform (N,) as a wav file: 16-bit PCM at `SAMPLE_RATE`, clipped to [-1, 1]."""
    (num_samples,) = waveform.shape
    assert num_samples and waveform.isfinite().all(), "the waveform is empty or has samples that are not finite"
    wav = io.BytesIO()
    soundfile.write(wav, pcm16(waveform).numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return wav.getvalue()


def write_wav(path: str | Path, waveform: Tensor) -> None:
    """Write a waveform (N,) as a wav file, atomically."""
    atomic_write(path, wav_bytes(waveform))


def join_waveforms(waveforms: Sequence[Tensor], *, gaps: Sequence[float]) -> Tensor:
    """Concatenate waveforms (N_i,) -> (N,), with `gaps` seconds of silence between them; negative gaps overlap.

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
    """Speed a waveform (N,) up by a factor, which also raises its pitch -> (about N / speed,).

    >>> change_speed(torch.zeros(300), 1.5).shape
    torch.Size([200])
    """
    ratio = Fraction(speed).limit_denominator(MAX_RATIO_DENOMINATOR)
    return torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)


def resampling_ratio(rate: int, target: int) -> Fraction:
    """Samples at `rate` per sample at `target`, as a ratio whose resampling filter is small.

    47,999 Hz is resampled as 48,000 Hz: the exact ratio needs a filter of gigabytes, the difference is inaudible.

    >>> resampling_ratio(47_999, 24_000)
    Fraction(2, 1)
    """
    limit = min(MAX_RATIO_DENOMINATOR, math.isqrt(MAX_FILTER_SIZE * target // rate))
    return Fraction(rate, target).limit_denominator(max(1, limit))


def _read(source: AudioSource, name: str, max_seconds: float) -> tuple[Tensor, Recording]:
    """Samples (n, channels), and the closed recording."""
    with _named(name), Recording(source, limit=max_seconds) as recording:
        if recording.expected_seconds is not None:
            _check_length(recording.expected_seconds, max_seconds)
        blocks = []
        for block in recording.blocks():
            blocks.append(block)
            _check_length(recording.seconds, max_seconds, at_least="at least ")
        _check_whole(recording)
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
        raise TooLongError(f"{at_least}{seconds:.2f} s, max_seconds is {max_seconds}")


def _check_whole(recording: Recording) -> None:
    if recording.flaw is not None:
        raise InvalidAudioError(RejectCode.TRUNCATED_AUDIO, f"{recording.flaw}; {AGAIN}")
    if not recording.num_frames:
        raise InputError(f"no samples; {EXPORT}")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the name of the recording before the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        error.args = (f"{name}: {error}",)
        raise
