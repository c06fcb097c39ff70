"""Recordings of any container, decoded in blocks: their length is what was read, never what a header says.

libsndfile reads wav, flac, ogg, mp3, aiff, caf, w64, au and more, and FFmpeg what libsndfile does not. Either is given
the bytes of one recording, with the sizes in its header corrected, and read until nothing comes.
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
from higgs_recipes.errors import InputError


AudioSource = str | Path | bytes | Mapping[str, Any]

LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000  # Hz; beyond them are only broken headers
LOUDEST = 8.0  # decoders overshoot 1.0 a little; a float file with samples of an int16's size is a mistake
CANCELED = 0.01  # power of the averaged channels, relative to theirs, below which they cancel out: -20 dB
AGAIN = "copy it again or drop it"
EXPORT = "export it again or drop it"
_SLACK_SECONDS = 0.02  # headers are wrong by some bytes; less than this is not missed
_FFMPEG_SLACK_SECONDS = 0.15  # FFmpeg counts and trims the silence that coders add differently from one to the other


def open_source(source: AudioSource) -> tuple[BinaryIO, int, str]:
    """The encoded recording as a file, its size in bytes, and its name ("" if unknown).

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
        except ValueError as error:  # a NUL or half a surrogate pair in the name
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
    """How the channels of a recording become one.

    They are averaged. Where that cancels the sound, as of a microphone whose second channel is inverted (balanced
    wiring read as stereo), the louder channel is taken alone.
    """

    def __init__(self) -> None:
        self.channel_power: Tensor | float = 0.0  # (channels,), summed over samples
        self.mean_power = 0.0

    def add(self, samples: Tensor) -> None:
        """Measure some samples (n, channels). The more of a recording is measured, the better the choice."""
        if samples.shape[1] > 1:
            self.channel_power += samples.square().sum(dim=0, dtype=torch.float64)
            self.mean_power += float(samples.mean(dim=1).square().sum(dtype=torch.float64))

    @property
    def channel(self) -> int | None:
        """The channel that is taken alone; None where all are averaged."""
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
        limit: seconds after which nobody needs to know how long it is.

    Attributes:
        rate: in Hz.
        channels: how many.
        subtype: how samples are stored, by libsndfile's name; "" where FFmpeg decodes.
        expected_seconds: length by the corrected header, before any is decoded; None if unknown.
        num_frames: samples per channel that were read.
        flaw: after reading, what is missing or broken and how much can be read; None of a whole recording.

    Raises:
        InputError: what `open_source` finds, not audio, a format that is not decoded here, a rate that no recording
            has, or several recordings of different rates or channels in one file. In reading: an error of the disk, or
            samples that are NaN, infinite or far beyond [-1, 1].
    """

    def __init__(self, source: AudioSource, *, limit: float = math.inf) -> None:
        self.file, self.size, self.file_name = open_source(source)
        self.num_frames, self.flaw = 0, None
        self.opened: tuple[PartReader, SndfileDecoder | FFmpegDecoder] | None = None  # of the first part
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
        """What was read."""
        return self.num_frames / self.rate

    def blocks(self) -> Iterator[Tensor]:
        """The whole recording in blocks (n, channels) of float32. Each call begins at the beginning.

        Raises:
            InputError: as the class.
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
            if reader.error is not None:
                raise InputError(f"cannot be read: {reader.error.strerror}; {AGAIN}") from reader.error
            read = self.num_frames - before
            stated = part.num_frames or decoder.stated or (round(read / part.present) if part.present else read)
            slack = _SLACK_SECONDS if self.foreign is None else _FFMPEG_SLACK_SECONDS
            if stated - read > slack * self.rate:
                missing += stated - read
            elif part.num_frames or decoder.stated:
                continue  # whole, whatever follows
            if decoder.error is not None and reader.position < reader.size:
                flaws.append(f"broken audio: {decoder.error}")
            elif decoder.error is not None or part.flaw is not None:
                flaws.append(part.flaw or "truncated: its last frame is incomplete")
        self.flaw = self._describe(missing, flaws)

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
        """Open all parts and find out rate, channels and length."""
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
            if not LOWEST_RATE <= rate <= HIGHEST_RATE:
                raise InputError(f"sample rate out of range: {rate} Hz, the header is broken; {EXPORT}")
        if len(formats) > 1:
            shown = ", then ".join(f"{rate} Hz with {channels} channel(s)" for rate, channels in formats)
            raise InputError(f"several recordings joined into one file: {shown}; split them")
        self.expected_seconds = None if None in lengths else sum(lengths) / self.rate

    def _open(self, part: Part) -> tuple[PartReader, SndfileDecoder | FFmpegDecoder]:
        reader = PartReader(self.file, part)
        if self.foreign is None:
            try:
                return reader, SndfileDecoder(reader, num_frames=part.num_frames)
            except soundfile.LibsndfileError as error:
                self.foreign = unread_format(self.file) if self.is_known else None
                if self.foreign is None and part.flaw is not None:
                    raise InputError(f"{part.flaw}; {AGAIN}") from error
                if self.foreign is None:
                    what = error.error_string.rstrip(".") if self.is_known else not_audio(self.file)
                    raise InputError(f"not audio that can be read ({what}); use wav, flac, ogg or mp3") from error
                reader.seek(0)
        try:
            return reader, FFmpegDecoder(reader, self.foreign, file_name=self.file_name)
        except InputError as error:
            if part.flaw is not None and str(error).startswith("not audio"):
                raise InputError(f"{part.flaw} ({self.foreign.name}); {AGAIN}") from error
            raise


def _check_samples(samples: Tensor) -> None:
    """Refuse samples (n, channels) that are not sound."""
    loudest = float(samples.abs().max())
    if not math.isfinite(loudest):
        raise InputError(f"NaN or infinite samples; {EXPORT}")
    if loudest > LOUDEST:
        raise InputError(
            f"samples reach {loudest:.0f}, float audio lies in [-1, 1]; divide by 32768 if they were 16-bit numbers"
        )
