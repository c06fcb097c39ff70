"""Recordings in any container, decoded in blocks. Their length is what was read, not what a header states.

libsndfile reads wav, flac, ogg, mp3, aiff, caf, w64, au and more; FFmpeg reads what libsndfile does not. Each decoder
is given the bytes of one recording, with corrected sizes in the header, and is read to the end.
"""

import io
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import soundfile
import torch
from torch import Tensor

from higgs_recipes.audio.containers import find_parts
from higgs_recipes.audio.decoders import FFmpegDecoder, SndfileDecoder
from higgs_recipes.audio.file_parts import Part, PartReader
from higgs_recipes.audio.foreign import foreign_format, not_audio, unread_format
from higgs_recipes.audio.signal_limits import MAX_AMPLITUDE, MAX_RATE, MIN_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import InvalidAudioError, RejectCode


AudioSource = str | Path | bytes | Mapping[str, Any]

CANCELED = 0.01  # -20 dB: ratio of the power of the mean to that of the channels, below which they cancel out
_BUFFER = 2**16  # bytes; libmpg123 reads each frame in two
AGAIN = "copy it again or drop it"
EXPORT = "export it again or drop it"
_SLACK_SECONDS = 0.02  # some programs write sizes that are wrong by a few bytes
_ROUGH_SLACK_SECONDS = 0.15  # of lengths by a decoder, which may include the silence that an encoder adds


def open_source(source: AudioSource) -> tuple[BinaryIO, int, str]:
    """Open an encoded recording; returns the file, its size in bytes, and its name ("" if unknown).

    Args:
        source: path, encoded bytes, or a cell {"path", "bytes"} of an undecoded `datasets` audio column.

    Raises:
        InputError: no such file, not a regular file (folders, pipes and devices are not opened), not readable, neither
            path nor bytes, zero bytes.
    """
    file_name = ""
    if isinstance(source, Mapping):
        file_name = PurePath(source["path"] or "").name
        source = source["path"] if source["bytes"] is None else source["bytes"]
    if source is None:
        raise InputError("no recording: neither path nor bytes; give one or drop the row")
    if isinstance(source, bytes):
        file, size = io.BytesIO(source), len(source)
    else:
        file_name = PurePath(source).name
        try:
            status = os.stat(source)
            file = open(source, "rb") if stat.S_ISREG(status.st_mode) else None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror} ({source})") from error
        except ValueError as error:  # NUL or a lone surrogate in the name
            raise InputError(f"cannot be read: {error} ({source!r})") from error
        if file is None:
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
            raise InputError(f"cannot be read: it is {kind}, not a file ({source})")
        size = status.st_size
    if not size:
        file.close()
        raise InputError(f"zero bytes; {AGAIN}")
    return file, size, file_name


class ChannelMix:
    """Decide how the channels of a recording become one: they are averaged, unless they cancel each other out.

    Channels cancel out if one is the inverse of the other, as when a balanced cable is recorded as stereo. The loudest
    channel is then used alone.
    """

    def __init__(self) -> None:
        self.channel_power: Tensor | float = 0.0  # (channels,), summed over samples
        self.mean_power = 0.0

    def add(self, samples: Tensor) -> None:
        """Measure samples (n, channels) of the recording."""
        if samples.shape[1] > 1:
            self.channel_power += samples.square().sum(dim=0, dtype=torch.float64)
            self.mean_power += float(samples.mean(dim=1).square().sum(dtype=torch.float64))

    @property
    def channel(self) -> int | None:
        """The channel that is used alone; None if all are averaged."""
        if isinstance(self.channel_power, float) or self.mean_power >= CANCELED * float(self.channel_power.mean()):
            return None
        return int(self.channel_power.argmax())


def mix_channels(samples: Tensor, channel: int | None) -> Tensor:
    """Samples (n, channels) as a waveform (n,): one channel, or the mean of all (None)."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    return samples.mean(dim=1) if channel is None else samples[:, channel]


class Recording:
    """An open recording; a context manager.

    Args:
        limit: in seconds; of a longer recording, the exact end does not matter.

    Attributes:
        rate: in Hz.
        channels: number of channels.
        subtype: libsndfile's name of the sample format; "" if FFmpeg decodes.
        expected_seconds: length by the corrected header, known before decoding; None if unknown.
        num_frames: samples per channel that were read.
        flaw: known after reading: what is missing or broken, and how much was read; None for a whole recording.

    Raises:
        InputError: what `open_source` finds, not audio, a format that is not decoded here, a sample rate out of range,
            or several recordings with different rates or channels in one file. While reading: a disk error, or samples
            that are NaN, infinite or far beyond [-1, 1].
    """

    def __init__(self, source: AudioSource, *, limit: float = math.inf) -> None:
        self.file, self.size, self.file_name = open_source(source)
        self.num_frames, self.flaw = 0, None
        self.opened: tuple[io.BufferedReader, SndfileDecoder | FFmpegDecoder] | None = None  # of the first part
        try:
            self.foreign = foreign_format(self.file)
            if self.foreign is None:
                self.parts = find_parts(self.file, self.size, limit=limit)
            else:
                self.parts = self.foreign.find_parts(self.file, self.size)
            self.is_known = bool(self.parts)
            self.parts = self.parts or [Part((range(self.size),))]
            self._check_parts()
        except OSError as error:
            self.close()
            raise InputError(f"cannot be read: {error.strerror}") from error
        except InputError:
            self.close()
            raise

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.opened is not None:
            self.opened[1].close()
            self.opened = None
        self.file.close()

    @property
    def seconds(self) -> float:
        """Length of what was read."""
        return self.num_frames / self.rate

    def blocks(self) -> Iterator[Tensor]:
        """Read the whole recording from the beginning, in blocks (n, channels) of float32.

        Raises:
            InputError: see the class.
        """
        self.num_frames, self.flaw = 0, None
        missing, flaws = 0, []
        for index, part in enumerate(self.parts):
            reader, decoder = self._open(part) if index or self.opened is None else self.opened
            self.opened = None
            before = self.num_frames
            try:
                for block in decoder.blocks():
                    block = torch.from_numpy(block)
                    _check_samples(block)
                    self.num_frames += len(block)
                    yield block
            finally:
                decoder.close()
            if reader.raw.error is not None:
                raise InputError(f"cannot be read: {reader.raw.error.strerror}; {AGAIN}") from reader.raw.error
            missing_here = self._missing(part, decoder, self.num_frames - before)
            missing += missing_here
            states_length = part.num_frames or (self.foreign is not None and decoder.expected)
            if states_length and not missing_here:
                continue  # whole: what follows is not audio
            if decoder.error is not None and reader.tell() < reader.raw.size:
                flaws.append(f"broken audio: {decoder.error}")
            elif decoder.error is not None or part.flaw is not None:
                flaws.append(part.flaw or "truncated: its last frame is incomplete")
        self.flaw = self._describe(missing, flaws)

    def _missing(self, part: Part, decoder: SndfileDecoder | FFmpegDecoder, read: int) -> int:
        """Samples per channel that are missing after those that were read."""
        slack = _SLACK_SECONDS
        if part.present < 1:
            stated = round(read / part.present) if part.present else read
        elif part.num_frames is not None:
            stated = part.num_frames
        else:
            stated, slack = decoder.expected or 0, _ROUGH_SLACK_SECONDS
        return stated - read if stated - read > slack * self.rate else 0

    def _describe(self, missing: int, flaws: list[str]) -> str | None:
        if not missing and not flaws:
            return None
        kind, _, detail = flaws[0].partition(": ") if flaws else ("truncated", "", "")
        there = f"{self.seconds:.2f} s are there"
        if missing:
            there = f"{self.seconds:.2f} s of {(self.num_frames + missing) / self.rate:.2f} s are there"
            detail = detail if kind != "truncated" else ""
        return f"{kind}: {there}" + (f", {detail}" if detail else "")

    def _check_parts(self) -> None:
        """Open each part, for the rate, the channels and the expected length."""
        formats, lengths = {}, []
        for index, part in enumerate(self.parts):
            opened = self._open(part)
            decoder = opened[1]
            formats[decoder.rate, decoder.channels] = None
            lengths.append(decoder.expected)
            if index == 0:
                self.opened, self.subtype = opened, decoder.subtype
            else:
                decoder.close()
        self.rate, self.channels = next(iter(formats))
        for rate, _ in formats:
            if not MIN_RATE <= rate <= MAX_RATE:
                raise InvalidAudioError(
                    RejectCode.BAD_SAMPLE_RATE, f"sample rate out of range: {rate} Hz, the header is broken; {EXPORT}"
                )
        if len(formats) > 1:
            shown = ", then ".join(f"{rate} Hz with {channels} channel(s)" for rate, channels in formats)
            raise InputError(f"several recordings joined into one file: {shown}; split them")
        self.expected_seconds = None if None in lengths else sum(lengths) / self.rate

    def _open(self, part: Part) -> tuple[io.BufferedReader, SndfileDecoder | FFmpegDecoder]:
        reader = io.BufferedReader(PartReader(self.file, part), _BUFFER)
        if self.foreign is None:
            try:
                return reader, SndfileDecoder(reader, num_frames=part.num_frames)
            except soundfile.LibsndfileError as error:
                self.foreign = unread_format(self.file) if self.is_known else None
                if self.foreign is None and part.flaw is not None:
                    raise InvalidAudioError(RejectCode.TRUNCATED_AUDIO, f"{part.flaw}; {AGAIN}") from error
                if self.foreign is None:
                    what = error.error_string.rstrip(".") if self.is_known else not_audio(self.file)
                    raise InputError(f"not audio that can be read ({what}); use wav, flac, ogg or mp3") from error
                reader.seek(0)
        try:
            return reader, FFmpegDecoder(reader, self.foreign, file_name=self.file_name)
        except InputError as error:
            if part.flaw is not None and str(error).startswith("not audio"):
                raise InvalidAudioError(
                    RejectCode.TRUNCATED_AUDIO, f"{part.flaw} ({self.foreign.name}); {AGAIN}"
                ) from error
            raise


def _check_samples(samples: Tensor) -> None:
    """Refuse samples (n, channels) that cannot be audio."""
    loudest = float(samples.abs().max())
    if not math.isfinite(loudest):
        raise InputError(f"NaN or infinite samples; {EXPORT}")
    if loudest > MAX_AMPLITUDE:
        raise InputError(
            f"samples reach {loudest:.0f}, but float audio ranges from -1 to 1; divide by 32768 "
            "if they were 16-bit integers"
        )
