"""The doors to libsndfile (the package soundfile) and FFmpeg (the package av): one recording, in blocks, in order."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import soundfile

from higgs_recipes.audio.file_parts import PartReader
from higgs_recipes.audio.foreign import ForeignFormat
from higgs_recipes.errors import InputError, import_module


INSTALL_AV = "pip install 'av>=18,<19'"
_BLOCK = 2**18  # numbers in the largest block
_TAIL = 4096  # samples that are asked for where no more are expected
_NUM_WAITING = 100  # frames of FFmpeg, of some 1,000 samples, in a block
_BAD_INFO = 24  # libsndfile's error for a header that states 0 channels or 0 Hz
# Demuxers whose files state their length; the others estimate it from the bit rate.
_EXACT = {"mov", "matroska", "asf", "tta", "wv", "ape", "dsf", "caf", "wav", "aiff"}


class _Sequential(soundfile.SoundFile):
    """Read from the beginning to the end.

    To seek after each block, as soundfile does, is an error in some formats (GSM 6.10) and inexact in others (mp3
    without an Info frame); and no block may end where the header says that the file does.
    """

    def seekable(self) -> bool:
        return False


class SndfileDecoder:
    """A recording that libsndfile reads.

    Args:
        num_frames: samples per channel that the header states, if it was kept from the decoder.

    Attributes:
        rate, channels, subtype: `subtype` is how samples are stored.
        expected: samples per channel by the (corrected) header; None if unknown.
        stated: None; nothing is known here that the container does not tell.
        error: what ended the reading early; None if nothing did.

    Raises:
        soundfile.LibsndfileError: not a format or codec that it reads.
        InputError: a header that states 0 Hz or 0 channels.
    """

    stated: int | None = None

    def __init__(self, reader: PartReader, *, num_frames: int | None) -> None:
        try:
            self.file = _Sequential(reader, mode="r")
        except soundfile.LibsndfileError as error:
            if error.code == _BAD_INFO:
                raise InputError("sample rate out of range: 0 Hz, or 0 channels; the header is broken") from error
            raise
        if self.file.format == "MP3":
            self.file.seek(0)  # as soundfile does before it reads; without it samples differ by the rounding
        self.rate, self.channels, self.subtype = self.file.samplerate, self.file.channels, self.file.subtype
        self.expected = self.file.frames if self.file.frames < 2**62 else num_frames
        self.error: str | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks (n, channels) of float32."""
        largest = max(1, _BLOCK // self.channels)
        left = largest if self.expected is None else self.expected
        while True:
            # libsndfile does not say how much it read before an error: what it has not written is still NaN.
            block = np.full((min(largest, max(left, _TAIL)), self.channels), np.nan, dtype=np.float32)
            try:
                block = self.file.read(out=block)
            except soundfile.LibsndfileError as error:
                self.error = error.error_string.removeprefix("Error : ").rstrip(".")
                written = ~np.isnan(block[:, -1])
                block = block[: len(block) if written.all() else int(written.argmin())]
            if len(block):
                yield block
            if not len(block) or self.error is not None:
                return
            left = largest if self.expected is None else left - len(block)

    def close(self) -> None:
        self.file.close()


class FFmpegDecoder:
    """A recording that FFmpeg reads, as `SndfileDecoder`; `stated` is its length by the container, where it has one.

    Raises:
        InputError: av is not installed, a file that FFmpeg cannot read, or without an audio track.
    """

    subtype = ""

    def __init__(self, reader: PartReader, foreign: ForeignFormat, *, file_name: str) -> None:
        try:
            self.av = import_module("av", needed_by="this recording", install=INSTALL_AV)
        except InputError as error:
            raise InputError(
                f"not decoded here: {foreign.name}; convert it ({foreign.conversion(file_name)}) or install FFmpeg's "
                f"decoders ({INSTALL_AV})"
            ) from error
        self.error: str | None = None
        try:
            self.container = self.av.open(reader, format=foreign.demuxer, metadata_errors="ignore")
        except self.av.FFmpegError as error:
            raise InputError(f"not audio that can be read ({foreign.name}: {error.strerror})") from error
        self.frames = self._frames()
        self.first = next(self.frames, None)
        if self.first is None:
            self.container.close()
            reason = self.error or "no audio track that FFmpeg decodes"
            raise InputError(f"not audio that can be read ({foreign.name}: {reason})")
        self.rate, self.channels = self.first.sample_rate, self.first.layout.nb_channels
        seconds = None if self.container.duration is None else self.container.duration / self.av.time_base
        self.stated = round(seconds * self.rate) if seconds and foreign.demuxer in _EXACT else None
        self.expected = self.stated

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks (n, channels) of float32."""
        resampler = self.av.AudioResampler(format="fltp", layout=self.first.layout, rate=self.rate)
        waiting: list[np.ndarray] = []
        for frame in chain([self.first], self.frames, [None]):
            if frame is not None and (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels):
                self.error = "its sample rate or its channels change"
                frame = None
            waiting += [converted.to_ndarray().T for converted in resampler.resample(frame)]  # (n, channels)
            if waiting and (frame is None or len(waiting) >= _NUM_WAITING):
                yield np.ascontiguousarray(np.concatenate(waiting))
                waiting = []
            if frame is None:
                return

    def close(self) -> None:
        self.container.close()

    def _frames(self) -> Iterator[Any]:
        try:
            yield from self.container.decode(audio=0) if self.container.streams.audio else ()
        except self.av.FFmpegError as error:
            self.error = error.strerror
