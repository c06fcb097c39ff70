"""Find the audio in containers whose headers may be wrong, and how much of it is missing.

A file is truncated if its header states more audio than the file holds. An exception is a size that programs write
before they know the length: 0, or about the largest number. In this case, and if the header states less than the file
holds, the audio ends at the end of the file. A second header after the audio begins a second recording.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from higgs_recipes.audio.file_parts import Part, patched, share
from higgs_recipes.audio.mp3 import id3_size, mp3_parts, starts_mp3


_MP3_IN_WAV = (0x50, 0x55)  # format tags of MPEG audio
_GARBAGE = 4096  # bytes; this much data after the stated audio that is not in a chunk is audio too
_MAX_ZEROS = 2**24  # bytes skipped before an mp3
_JUNK = 3000  # bytes, two frames: searched for the first frame of an mp3 that was cut out of a stream
_GAP = 2**24  # bytes searched for the next Ogg page
_CLIP_BYTES = 2**26  # the FLAC file of a clip is smaller, including its pictures
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits reversed
_MAX_TAGS = 4  # ID3 tags before a recording
_FLAC = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")  # marker and header of STREAMINFO, the second if it is the last


@dataclass(frozen=True)
class _Chunks:
    """How a container stores chunks.

    Attributes:
        header: number of bytes before the first chunk.
        name, size: length of a chunk's name, and `struct` format of its size.
        data: name of the chunk that holds the audio.
        counted: bytes of a chunk's header that are included in its size.
        align: chunks begin at multiples of this number of bytes.
        whole: offset of the size of the whole file; None if there is nothing to correct.
    """

    header: int
    name: int
    size: str
    data: bytes
    counted: int = 0
    align: int = 2
    whole: int | None = 4

    @property
    def width(self) -> int:
        return struct.calcsize(self.size)


_WAV = _Chunks(12, 4, "<I", b"data")
_RF64 = _Chunks(12, 4, "<I", b"data", whole=None)
_AIFF = _Chunks(12, 4, ">I", b"SSND")
_CHUNKED = {  # by bytes 0 to 4 and 8 to 12 (None: any)
    (b"RIFF", b"WAVE"): _WAV,
    (b"RIFX", b"WAVE"): _Chunks(12, 4, ">I", b"data"),
    (b"RF64", b"WAVE"): _RF64,
    (b"BW64", b"WAVE"): _RF64,
    (b"FORM", b"AIFF"): _AIFF,
    (b"FORM", b"AIFC"): _AIFF,
    (b"caff", None): _Chunks(8, 4, ">q", b"data", align=1, whole=None),
    (b"riff", b"\xa5\xd6\x28\xdb"): _Chunks(
        40, 16, "<q", b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"), counted=24, align=8, whole=16
    ),
}


def find_parts(file: BinaryIO, size: int, *, limit: float) -> list[Part]:
    """Find the recordings in a file, in order; none if the container is unknown.

    Args:
        limit: in seconds; of a longer recording, the exact end does not matter.
    """
    start = skip_id3(file)
    head = _read(file, start, 12)
    if _chunk_kind(head) is not None:
        return list(_chunked_parts(file, start, size))
    if head[:4] == b"fLaC":
        return list(_flac_parts(file, start, size, limit=limit))
    for magic, parts in {b"OggS": _ogg_parts, b".snd": _au_parts, b"NIST": _sphere_parts}.items():
        if head.startswith(magic):
            return list(parts(file, start, size))
    zeros = 0
    while zeros < _MAX_ZEROS and (block := _read(file, start + zeros, _JUNK)) and not block.strip(b"\0"):
        zeros += _JUNK
    start += zeros
    content = _read(file, start, 2 * _JUNK if zeros else _JUNK)
    for match in re.finditer(rb"\xff[\xe2-\xff]", content):
        if starts_mp3(file, start + match.start(), size):
            return mp3_parts(file, start + match.start(), size)
    return []


def skip_id3(file: BinaryIO) -> int:
    """Offset of the first byte after the ID3 tags at the beginning of a file."""
    start = 0
    for _ in range(_MAX_TAGS):
        start += id3_size(_read(file, start, 10))
    return start


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


def _chunk_kind(head: bytes) -> _Chunks | None:
    return _CHUNKED.get((head[:4], head[8:12])) or _CHUNKED.get((head[:4], None))


def _chunks(file: BinaryIO, position: int, end: int, kind: _Chunks, *, base: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the content, stated size) of consecutive chunks; `base` is the offset of the file."""
    while position + kind.name + kind.width <= end:
        head = _read(file, position, kind.name + kind.width)
        name, stated = head[: kind.name], struct.unpack(kind.size, head[kind.name :])[0] - kind.counted
        if not re.fullmatch(rb"[\x20-\x7e]{4}", name[:4]):
            return
        position += len(head)
        yield name, position, stated
        if stated < 0:
            return
        position += stated
        position += (base - position) % kind.align


def _chunked_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    while start < size:
        kind = _chunk_kind(_read(file, start, 12))
        found: dict[bytes, tuple[int, int]] = {}
        for name, content, stated in _chunks(file, start + kind.header, size, kind, base=start):
            found.setdefault(name, (content, stated))
            if name == kind.data:
                break
        if kind.data not in found:
            yield Part((range(start, size),))
            return
        offset, stated = found[kind.data]
        if b"ds64" in found:
            (stated,) = struct.unpack("<Q", _read(file, found[b"ds64"][0] + 8, 8))
        end, following = _end_of_audio(file, offset, stated, size, kind, base=start)
        span, there = range(start, size if following is None else following), end - offset
        if b"fmt " in found and struct.unpack("<H", _read(file, found[b"fmt "][0], 2))[0] in _MP3_IN_WAV:
            yield from mp3_parts(file, offset, end)
        elif there == stated:
            yield Part((span,))
        else:
            present = 1.0 if _is_unknown(stated, kind) else share(there, stated)
            yield Part(_corrected(range(start, end), offset, kind, found), present=present)
        start = span.stop


def _is_unknown(stated: int, kind: _Chunks) -> bool:
    """Whether a size is a placeholder: 0 (plus 8 bytes in AIFF), -1, or about the largest number."""
    largest = 2 ** (8 * kind.width)
    near_half = 2**24 + 64  # sox: 0x7f000000, or 0x7ffff000 minus the header; arecord: 0x7fffff00
    return stated <= 8 or stated >= largest - 2**16 or abs(stated - largest // 2) <= near_half or stated >= 2**62


def _end_of_audio(
    file: BinaryIO, offset: int, stated: int, size: int, kind: _Chunks, *, base: int
) -> tuple[int, int | None]:
    """Offsets of the end of the audio and of the next recording (None if there is none)."""
    end = offset + stated
    if stated < 0 or end > size:
        return size, None
    for following in (end + (base - end) % kind.align, end):  # some programs omit the padding
        is_chained = False
        for _, content, length in _chunks(file, following, size, kind, base=base):
            first = content - kind.name - kind.width
            if _chunk_kind(_read(file, first, 12)) is not None:
                return end, first
            is_chained |= content + length <= size
        if is_chained:
            return end, None
    rest = _read(file, end, _GARBAGE)
    is_audio = len(rest) == _GARBAGE and any(rest) and rest[:3] not in (b"ID3", b"APE")
    is_wrapped = size - end >= 2**32 - _GARBAGE  # the lower 32 bits of a larger size
    return (size if is_audio or is_wrapped or _is_unknown(stated, kind) else end), None


def _corrected(
    span: range, offset: int, kind: _Chunks, found: Mapping[bytes, tuple[int, int]]
) -> tuple[range | bytes, ...]:
    """The pieces of a recording with correct sizes. Its audio begins at `offset` and ends with the span."""
    there = span.stop - offset
    if kind is _WAV and len(span) >= 2**32:
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, len(span) + 28, there, 0, 0)
        head, unknown = b"RF64\xff\xff\xff\xffWAVE" + sizes, b"\xff" * 4
        return head, range(span.start + kind.header, offset - 4), unknown, range(offset, span.stop)
    patches = {offset - kind.width: struct.pack(kind.size, there + kind.counted)}
    if b"ds64" in found:
        patches = {found[b"ds64"][0]: struct.pack("<QQ", len(span) - 8, there)}
    if kind.whole is not None:
        patches[span.start + kind.whole] = struct.pack(kind.size, len(span) - 8 * (kind.width == 4))
    return patched(span, patches)


def _au_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    while start + 12 <= size:
        offset, stated = struct.unpack(">II", _read(file, start + 4, 8))
        offset, is_known = offset + start, stated not in (0, 2**32 - 1)
        end = min(size, offset + stated) if is_known else size
        following = end if _read(file, end, 4) == b".snd" and end > offset else size
        there = max(0, end - offset)
        pieces = patched(range(start, following), {start + 8: struct.pack(">I", min(there, 2**32 - 1))})
        yield Part(pieces, present=share(there, stated) if is_known else 1.0)
        start = following


def _sphere_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    header = _read(file, start, 1024)
    fields = dict(re.findall(rb"^(\w+) -i (\d+)", header, flags=re.MULTILINE))
    bytes_of = [int(fields.get(name, 0)) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    stated = bytes_of[0] * bytes_of[1] * bytes_of[2]
    length = re.match(rb"NIST_1A\n\s*(\d+)\n", header)
    there = size - start - (int(length[1]) if length else 1024)
    yield Part((range(start, size),), present=share(there, stated))


def _flac_parts(file: BinaryIO, start: int, size: int, *, limit: float) -> Iterator[Part]:
    window = size if limit == math.inf else _CLIP_BYTES
    if _read(file, max(start, size - 128), 3) == b"TAG":  # ID3v1
        size -= 128
    while start < size:
        following = _find(file, b"fLaC", start + 4, size, window=window)
        while following is not None and _read(file, following, 8) not in _FLAC:
            following = _find(file, b"fLaC", following + 4, size, window=window)
        following = size if following is None else following
        fields = _read(file, start + 18, 8)  # 28 bits: rate, channels and depth; 36 bits: number of samples
        if len(fields) < 8:
            yield Part((range(start, size),))
            return
        stated = int.from_bytes(fields, "big") & (2**36 - 1)
        # Set to 0, unknown: the decoder then reads to the end.
        unknown = {start + 21: bytes((fields[3] & 0xF0, 0, 0, 0, 0))}
        yield Part(patched(range(start, following), unknown), num_frames=stated or None)
        start = following


def _find(file: BinaryIO, sought: bytes, position: int, size: int, *, window: int) -> int | None:
    """Offset of the next occurrence; None if it does not begin within the window."""
    limit, block = min(size, position + window), 2**20
    while position < limit:
        content = _read(file, position, block + len(sought) - 1)
        if (at := content.find(sought)) >= 0:
            return position + at
        position += block
    return None


def _ogg_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    position, has_audio, is_ended, flaw = start, False, False, None
    while position < size:
        head = _read(file, position, 27 + 255)
        length = 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) > 27 and head[:4] == b"OggS" else 0
        if not length:
            if size - position <= 27 and b"OggS".startswith(head[:4]):  # an incomplete page header
                is_ended = False
                break
            found = None if is_ended else _find(file, b"OggS", position + 1, size, window=_GAP)
            if found is None:
                break
            position, flaw = found, "broken audio: pages of it are missing"
            continue
        if position + length > size:
            is_ended = False
            break
        if not _has_checksum(_read(file, position, length)):  # decoders skip it
            flaw = "broken audio: a page of it is damaged"
        begins = bool(head[5] & 2)
        if begins and has_audio:
            yield _ogg_link(range(start, position), is_ended, flaw)
            start, has_audio, is_ended, flaw = position, False, False, None
        has_audio |= not begins
        is_ended |= bool(head[5] & 4)
        position += length
    yield _ogg_link(range(start, position), is_ended, flaw)


def _has_checksum(page: bytes) -> bool:
    """Whether an Ogg page has the content of its checksum (RFC 3533, 6): the CRC of zlib, with bits in other order."""
    content = page[:22] + b"\0" * 4 + page[26:]
    crc = zlib.crc32(content.translate(_REVERSED), 2**32 - 1) ^ (2**32 - 1)
    return crc.to_bytes(4, "big").translate(_REVERSED) == page[22:26]


def _ogg_link(span: range, is_ended: bool, flaw: str | None) -> Part:
    return Part((span,), flaw=flaw or (None if is_ended else "truncated: its last page is missing"))
