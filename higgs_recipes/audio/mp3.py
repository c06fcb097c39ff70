"""MPEG audio (mp3, mp2): its frames, counted.

Decoders estimate the length of a file without a Xing or Info frame from the file's size and the first bit rate. Here
the frames are counted. The decoder is given only these frames, after an Info frame that states their number.

References: ISO/IEC 11172-3, 2.4.1.3 (the frame header); the Xing header and its extension by LAME (the Info frame).
"""

import re
import struct
from itertools import product
from typing import BinaryIO, NamedTuple

from higgs_recipes.audio.file_parts import Part, share


_HEAD = 48  # bytes read of each frame: header, side information, and the name of an Info frame
_GAP = 2**24  # bytes searched for the next frame
_WINDOW = 2**16  # bytes searched at once
_DECODER_DELAY = 529  # samples; gapless decoding skips them at the beginning

_RATES = {1: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 2.5: (11_025, 12_000, 8_000)}
_VERSIONS = {0: 2.5, 2: 2, 3: 1}
_LOW_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _LOW_KBPS,
    (False, 3): _LOW_KBPS,
}
_INFO = re.compile(rb"Xing|Info|VBRI")


class Frame(NamedTuple):
    """What the first three bytes of a frame state. All frames of a recording have the same `stream`."""

    length: int  # bytes
    samples: int  # per channel
    stream: tuple[float, int, int]  # version, layer, rate in Hz
    side_info: tuple[int, int]  # bytes of side information, stereo and mono


def _frames() -> dict[bytes, Frame]:
    frames = {}
    for (bits, version), layer, crc in product(_VERSIONS.items(), (1, 2, 3), (0, 1)):
        second = 0xE0 | bits << 3 | (4 - layer) << 1 | crc
        for index, (rate_index, rate), padding in product(range(14), enumerate(_RATES[version]), (0, 1)):
            bits_per_second = 1000 * _KBPS[version == 1, layer][index]
            samples = 384 if layer == 1 else 576 if layer == 3 and version != 1 else 1152
            slot = 4 if layer == 1 else 1  # bytes
            length = (samples // 8 // slot * bits_per_second // rate + padding) * slot
            third = (index + 1) << 4 | rate_index << 2 | padding << 1
            side_info = (32, 17) if version == 1 else (17, 9)
            for private in (0, 1):
                key = bytes((0xFF, second, third | private))
                frames[key] = Frame(length, samples, (version, layer, rate), side_info)
    return frames


FRAMES = _frames()


def starts_mp3(file: BinaryIO, position: int, end: int) -> bool:
    """Whether three frames of one stream follow each other, or fewer up to the exact end of the file."""
    stream = None
    for _ in range(3):
        file.seek(position)
        frame = FRAMES.get(file.read(3))
        if frame is None or stream not in (None, frame.stream) or position + frame.length > end:
            return False
        stream, position = frame.stream, position + frame.length
        if position == end:
            break
    return True


def mp3_parts(file: BinaryIO, start: int, end: int) -> list[Part]:
    """Find the recordings between two offsets. Each Xing or Info header and each change of format begins a new one."""
    file.seek(max(start, end - 128))
    if file.read(3) == b"TAG":  # ID3v1
        end -= 128
    streams: list[_Stream] = []
    stream, position, window, window_start = None, start, b"", start
    while position < end:
        if position + _HEAD > window_start + len(window):
            file.seek(position)
            window, window_start = file.read(_WINDOW), position
        head = window[position - window_start : position - window_start + _HEAD]
        frame = FRAMES.get(head[:3])
        if frame is not None and position + frame.length > end:
            if stream is not None:
                stream.flaw = stream.flaw or "truncated: its last frame is incomplete"
            break
        if frame is not None:
            kind = (*frame.stream, head[3] >> 6 == 3)
            info = _info_offset(frame, head)
            changes = stream is not None and kind != stream.kind
            if changes and not starts_mp3(file, position, end):
                frame = None
            elif stream is None or changes or (info and (stream.num_frames or stream.info is not None)):
                stream = _Stream(file, kind, frame, head)
                streams.append(stream)
        if frame is None:
            found = _next_frame(file, position, end)
            if found is None:
                if stream is not None and end - position > _GAP:
                    stream.flaw = f"broken audio: what follows {stream.seconds:.2f} s is not mp3"
                break
            position, is_tag = found
            window = b""
            if stream is not None and not is_tag:
                stream.flaw = f"broken audio: what follows {stream.seconds:.2f} s is not mp3"
            continue
        if info and not stream.num_frames:
            stream.info = range(position, position + frame.length), info
        else:
            stream.add(position, frame.length)
        position += frame.length
    return [stream.part() for stream in streams if stream.num_frames]


class _Stream:
    """The frames of one recording, collected one at a time."""

    def __init__(self, file: BinaryIO, kind: tuple, frame: Frame, head: bytes) -> None:
        self.file, self.kind, self.samples, self.head = file, kind, frame.samples, head
        self.side_info = frame.side_info[kind[3]]
        self.num_frames, self.flaw = 0, None
        self.spans: list[range] = []
        self.first = self.stop = -1  # the span that is not in the list yet
        self.info: tuple[range, int] | None = None  # span of the Info frame, and offset of "Info" in it

    @property
    def seconds(self) -> float:
        return self.num_frames * self.samples / self.kind[2]

    def add(self, position: int, length: int) -> None:
        if position != self.stop:
            self._end_span()
            self.first = position
        self.num_frames += 1
        self.stop = position + length

    def _end_span(self) -> None:
        if self.first >= 0:
            self.spans.append(range(self.first, self.stop))

    def part(self) -> Part:
        self._end_span()
        if self.kind[1] != 3:  # layers 1 and 2 have one bit rate and no Info frame
            return Part(tuple(self.spans), flaw=self.flaw)
        stated, present, info = self._info_frame()
        if stated is not None and self.num_frames >= stated - 1:  # some encoders count the Info frame
            present, flaw = 1.0, None
        else:
            flaw = self.flaw if stated is None else None
        return Part((info, *self.spans), present=present, flaw=flaw)

    def _info_frame(self) -> tuple[int | None, float, range | bytes]:
        """Return the stated number of frames, the share of these that exists, and a correct Info frame."""
        if self.info is None:
            return None, 1.0, self._new_info_frame()
        span, at = self.info
        self.file.seek(span.start)
        frame = bytearray(self.file.read(len(span)))
        if frame[at : at + 4] == b"VBRI":
            stated = int.from_bytes(frame[at + 14 : at + 18], "big")
            return stated or None, share(self.num_frames, stated), self._new_info_frame()
        flags = int.from_bytes(frame[at + 4 : at + 8], "big")
        stated = int.from_bytes(frame[at + 8 : at + 12], "big") if flags & 1 else 0
        if not stated:
            return None, 1.0, self._new_info_frame()
        if self.num_frames in (stated, stated - 1):
            return stated, 1.0, span
        # Corrected: otherwise the decoder stops early, or trims the end as if it were the padding.
        frame[at + 8 : at + 12] = self.num_frames.to_bytes(4, "big")
        extension = at + 12 + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
        if flags & 2:
            frame[at + 12 : at + 16] = sum(map(len, (span, *self.spans))).to_bytes(4, "big")
        here, whole = self.num_frames * self.samples, stated * self.samples
        if frame[extension : extension + 1].isalpha() and len(frame) >= extension + 24:  # LAME, Lavc
            skipped = int.from_bytes(frame[extension + 21 : extension + 24], "big")
            delay, padding = (skipped >> 12) + _DECODER_DELAY, max(0, (skipped & 0xFFF) - _DECODER_DELAY)
            here, whole = here - delay, whole - delay - padding
            frame[extension + 21 : extension + 24] = (skipped & 0xFFF000).to_bytes(3, "big")
        return stated, share(here, whole), bytes(frame)

    def _new_info_frame(self) -> bytes:
        """Build an Info frame that states only the number of frames, at the lowest bit rate that has room for it."""
        content = bytes(self.side_info) + struct.pack(">4sII", b"Info", 1, self.num_frames)
        for bits in range(1, 15):
            key = bytes((0xFF, self.head[1] | 1, bits << 4 | self.head[2] & 0x0C))  # no checksum, no padding
            if FRAMES[key].length >= 4 + len(content) + 120:  # mpg123 requires room for all fields
                return (key + self.head[3:4] + content).ljust(FRAMES[key].length, b"\0")
        raise AssertionError("320 kb/s hold an Info frame at any rate")


def _info_offset(frame: Frame, head: bytes) -> int:
    """Offset of a Xing, Info or VBRI header in the frame; 0 if the frame is audio."""
    found = _INFO.search(head, 13)
    if found is None or frame.stream[1] != 3:
        return 0
    expected = 4 + frame.side_info[head[3] >> 6 == 3]
    places = (36,) if found[0] == b"VBRI" else (expected, expected + 2)  # 2 bytes of checksum
    return found.start() if found.start() in places else 0


def _next_frame(file: BinaryIO, position: int, end: int) -> tuple[int, bool] | None:
    """Offset where frames continue after other data, and whether the data is a tag; None if they do not continue."""
    file.seek(position)
    head = file.read(32)
    if size := id3_size(head):
        return position + size, True
    if head[:8] == b"APETAGEX":
        return position + 32 + int.from_bytes(head[12:16], "little"), True
    if head[:3] == b"TAG":
        return position + 128, True
    limit = min(end, position + _GAP)
    for window in range(position + 1, limit, _WINDOW):
        file.seek(window)
        content = file.read(_WINDOW + 2)
        for match in re.finditer(rb"\xff[\xe2-\xff]", content):
            at = window + match.start()
            if content[match.start() : match.start() + 3] in FRAMES and starts_mp3(file, at, end):
                return at, False
    return None


def id3_size(head: bytes) -> int:
    """Size in bytes of an ID3v2 tag that begins with these bytes; 0 if they do not begin one.

    >>> id3_size(b"ID3" + bytes([3, 0, 0, 0, 0, 2, 1]))
    267
    """
    if head[:3] != b"ID3" or len(head) < 10 or any(byte > 127 for byte in head[6:10]):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + 10 * bool(head[5] & 0x10)  # with a footer
