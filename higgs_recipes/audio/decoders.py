"""Sequential decoders: libsndfile (package soundfile) and FFmpeg (package av)."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import soundfile

from higgs_recipes.audio.foreign import ForeignFormat
from higgs_recipes.errors import InputError, import_module
from higgs_recipes.rejects import InvalidAudioError, RejectCode


INSTALL_AV = "pip install 'av>=18,<19'"
_BLOCK = 2**18  # samples of all channels in the largest block
_TAIL = 4096  # samples requested after the expected end
_NUM_WAITING = 100  # FFmpeg's frames, of about 1,000 samples, in a block
_BAD_INFO = 24  # libsndfile's error code for a header with 0 channels or 0 Hz
# Demuxers of formats that state the length; others estimate it from the bit rate.
_EXACT = {"mov", "matroska", "asf", "tta", "wv", "ape", "dsf", "caf", "wav", "aiff"}


class _Sequential(soundfile.SoundFile):
    """A file that is read from the beginning to the end.

    soundfile seeks after each block, and reads no further than the stated length. Seeking fails in some formats (GSM
    6.10, DWVW) and is inexact in others (mp3).
    """

    def seekable(self) -> bool:
        return False


class SndfileDecoder:
    """A recording that libsndfile reads.

    Args:
        num_frames: samples per channel by the header, if this is hidden from libsndfile.

    Attributes:
        rate: in Hz.
        channels: number of channels.
        subtype: name of the sample format.
        expected: samples per channel by the corrected header; None if unknown.
        error: the error that ended reading early; None if there was none.

    Raises:
        soundfile.LibsndfileError: a format or codec that libsndfile does not read.
        InputError: the header states 0 Hz or 0 channels.
    """

    def __init__(self, reader: BinaryIO, *, num_frames: int | None) -> None:
        try:
            self.file = _Sequential(reader, mode="r")
        except soundfile.LibsndfileError as error:
            if error.code == _BAD_INFO:
                raise InvalidAudioError(
                    RejectCode.BAD_SAMPLE_RATE, "sample rate out of range: 0 Hz, or 0 channels; the header is broken"
                ) from error
            raise
        if self.file.format == "MP3":
            self.file.seek(0)  # as soundfile does before reading: without it, samples differ by rounding
        self.rate, self.channels, self.subtype = self.file.samplerate, self.file.channels, self.file.subtype
        self.expected = self.file.frames if self.file.frames < 2**62 else num_frames
        self.error: str | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the recording in blocks (n, channels) of float32. Can be called once."""
        largest = max(1, _BLOCK // self.channels)
        left = largest if self.expected is None else self.expected
        while True:
            # soundfile does not tell how much was read before an error: the rest of the block is still NaN.
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
    """A recording that FFmpeg reads. It has the attributes of `SndfileDecoder`.

    Raises:
        InputError: av is not installed, FFmpeg cannot read the file, or the file has no audio track.
    """

    subtype = ""

    def __init__(self, reader: BinaryIO, foreign: ForeignFormat, *, file_name: str) -> None:
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
        self.expected = round(seconds * self.rate) if seconds and foreign.demuxer in _EXACT else None

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the recording in blocks (n, channels) of float32. Can be called once."""
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
