"""Recordings of any rate and container -> mono float32 waveforms (N,) at the codec's rate, and back to wav.

Read by libsndfile (wav, flac, ogg, mp3): nothing here needs FFmpeg.
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
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write


AudioSource = str | Path | bytes | Mapping[str, Any]

_LOWEST_RATE = 4_000  # Hz; below lies no speech, only broken headers
_LOUDEST = 8.0  # decoders overshoot 1.0 a little; a float file with samples of an int16's size is a mistake
_RATIO_LIMIT = 1_000  # the resampler's kernel grows with the product of the ratio's terms


def read_audio(source: AudioSource, *, name: str) -> Tensor:
    """A recording as a waveform (N,), float32 at `SAMPLE_RATE`; its channels are averaged.

    Args:
        source: path, encoded bytes, or a cell {"path", "bytes"} of an undecoded `datasets` audio column.
        name: what messages call the recording.

    Raises:
        InputError: no such file, empty, not audio that libsndfile reads, no samples, NaN or infinite samples, samples
            far beyond [-1, 1], a sample rate below any speech.
    """
    samples, rate, _ = _decode(source, name)
    return _resample(samples.mean(dim=1), rate)


def read_measured(source: AudioSource, *, name: str) -> tuple[Tensor, Levels]:
    """`read_audio`, and what is measured on the recording while it is decoded.

    Raises:
        InputError: as `read_audio`.
    """
    samples, rate, subtype = _decode(source, name)
    waveform = _resample(samples.mean(dim=1), rate)
    # Before the channels are averaged and the rate is changed: either rounds a flat top off.
    clipped = count_clipped(samples, full_scale=full_scale(subtype))
    return waveform, Levels(rate, clipped, *silent_edges(waveform, rate=SAMPLE_RATE))


def recorded_seconds(source: AudioSource, *, name: str) -> float:
    """Length that the header states, without decoding: a ten-hour file is refused before it fills the memory.

    Raises:
        InputError: as `read_audio`, for what the header alone tells.
    """
    with _open(source, name) as file:
        return file.frames / file.samplerate


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
    """A waveform (N,) heard `speed` times as fast, and as much higher -> (about N / speed,).

    >>> change_speed(torch.zeros(300), 1.5).shape
    torch.Size([200])
    """
    ratio = Fraction(speed).limit_denominator(_RATIO_LIMIT)
    return torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)


def read_bytes(source: AudioSource, *, name: str) -> bytes:
    """The encoded recording as it is stored.

    Raises:
        InputError: no such file, not readable, neither path nor bytes, zero bytes.
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
    """Samples (frames, channels), their rate and how they are stored."""
    with _open(source, name) as file:
        rate, subtype = file.samplerate, file.subtype
        try:
            samples = torch.from_numpy(file.read(dtype="float32", always_2d=True))  # (frames, channels)
        except soundfile.LibsndfileError as error:
            raise InputError(f"{name}: broken audio ({error}); export it again or drop it") from error
    if rate < _LOWEST_RATE:
        raise InputError(f"{name}: sample rate is {rate} Hz, the header is broken; export it again or drop it")
    if not samples.numel():
        raise InputError(f"{name}: no samples; export it again or drop it")
    if not samples.isfinite().all():
        raise InputError(f"{name}: NaN or infinite samples; export it again or drop it")
    if samples.abs().max() > _LOUDEST:
        raise InputError(
            f"{name}: samples reach {samples.abs().max():.0f}, float audio lies in [-1, 1]; divide by 32768 if they "
            "were 16-bit numbers"
        )
    return samples, rate, subtype


def _resample(waveform: Tensor, rate: int) -> Tensor:
    # 47,999 Hz is taken for 48,000: its exact ratio needs a kernel of gigabytes, and nobody hears 1 in 48,000.
    ratio = Fraction(rate, SAMPLE_RATE).limit_denominator(_RATIO_LIMIT)
    return torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)
