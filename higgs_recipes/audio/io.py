"""Read recordings of any sample rate and container as mono float32 waveforms (N,) at `SAMPLE_RATE`; write wav files.

libsndfile reads wav, flac, ogg and mp3; FFmpeg is not needed.
"""

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.clipping import Levels, count_clipped, full_scale, silent_edges
from higgs_recipes.audio.limits import MAX_AMPLITUDE, MAX_RATIO_DENOMINATOR, MIN_RATE
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write


AudioSource = str | Path | bytes | Mapping[str, Any]


def read_audio(source: AudioSource, *, name: str) -> Tensor:
    """Read a recording as a waveform (N,), float32 at `SAMPLE_RATE`; channels are averaged.

    Args:
        source: path, encoded bytes, or a cell {"path", "bytes"} of an undecoded `datasets` audio column.
        name: name of the recording in messages.

    Raises:
        InputError: no such file, empty, not audio that libsndfile reads, no samples, NaN or infinite samples, samples
            beyond `MAX_AMPLITUDE`, or a sample rate below `MIN_RATE`.
    """
    samples, rate, _ = _decode(source, name)
    return _resample(samples.mean(dim=1), rate)


def read_measured(source: AudioSource, *, name: str) -> tuple[Tensor, Levels]:
    """Read a recording as `read_audio` does, and measure its levels.

    Raises:
        InputError: as `read_audio`.
    """
    samples, rate, subtype = _decode(source, name)
    waveform = _resample(samples.mean(dim=1), rate)
    # Counted on the stored samples: averaging channels and resampling round off flat tops.
    clipped = count_clipped(samples, full_scale=full_scale(subtype))
    return waveform, Levels(rate, clipped, *silent_edges(waveform, rate=SAMPLE_RATE))


def recorded_seconds(source: AudioSource, *, name: str) -> float:
    """Length of a recording by its header, so that a file of ten hours can be rejected without decoding it.

    Raises:
        InputError: as `read_audio`, for the checks that need the header only.
    """
    with _open(source, name) as file:
        return file.frames / file.samplerate


def wav_bytes(waveform: Tensor) -> bytes:
    """Encode a waveform (N,) as a wav file: 16-bit PCM at `SAMPLE_RATE`, clipped to [-1, 1]."""
    (num_samples,) = waveform.shape
    assert num_samples and waveform.isfinite().all(), "the waveform is empty or has samples that are not finite"
    wav = io.BytesIO()
    soundfile.write(wav, waveform.detach().cpu().float().numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
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


def read_bytes(source: AudioSource, *, name: str) -> bytes:
    """Read the encoded recording as it is stored.

    Raises:
        InputError: no such file, not readable, neither path nor bytes, or zero bytes.
    """
    if isinstance(source, Mapping):
        source = source["path"] if source["bytes"] is None else source["bytes"]
    if source is None:
        raise InputError(f"{name}: no recording: neither path nor bytes; give one or drop the row")
    if not isinstance(source, bytes):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror} ({source})") from error
    if not source:
        raise InputError(f"{name}: zero bytes; copy it again or drop it")
    return source


def _open(source: AudioSource, name: str) -> soundfile.SoundFile:
    encoded = read_bytes(source, name=name)
    try:
        return soundfile.SoundFile(io.BytesIO(encoded))
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{name}: not audio that can be read ({error.error_string}); use wav, flac, ogg or mp3"
        ) from error


def _decode(source: AudioSource, name: str) -> tuple[Tensor, int, str]:
    """Samples (frames, channels), sample rate and sample format (libsndfile's subtype)."""
    with _open(source, name) as file:
        rate, subtype = file.samplerate, file.subtype
        try:
            samples = torch.from_numpy(file.read(dtype="float32", always_2d=True))  # (frames, channels)
        except soundfile.LibsndfileError as error:
            raise InputError(f"{name}: broken audio ({error}); export it again or drop it") from error
    if rate < MIN_RATE:
        raise InputError(f"{name}: sample rate is {rate} Hz, the header is broken; export it again or drop it")
    if not samples.numel():
        raise InputError(f"{name}: no samples; export it again or drop it")
    if not samples.isfinite().all():
        raise InputError(f"{name}: NaN or infinite samples; export it again or drop it")
    if samples.abs().max() > MAX_AMPLITUDE:
        raise InputError(
            f"{name}: samples reach {samples.abs().max():.0f}, but float audio ranges from -1 to 1; divide by 32768 "
            "if they were 16-bit integers"
        )
    return samples, rate, subtype


def _resample(waveform: Tensor, rate: int) -> Tensor:
    # 47,999 Hz is resampled as 48,000 Hz: the exact ratio needs a filter of gigabytes, the difference is inaudible.
    ratio = Fraction(rate, SAMPLE_RATE).limit_denominator(MAX_RATIO_DENOMINATOR)
    return torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)
