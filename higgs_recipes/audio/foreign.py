"""Formats that libsndfile does not read: their names, and the recordings in those that FFmpeg decodes.

Files that are not audio are identified too. Web pages and Git LFS pointers are common in place of recordings.
"""

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import BinaryIO

from higgs_recipes.audio.containers import find_parts, skip_id3
from higgs_recipes.audio.file_parts import Part


_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


@dataclass(frozen=True)
class ForeignFormat:
    """A format that must be converted, or decoded by FFmpeg.

    Attributes:
        name: for messages.
        suffix: of its files.
        demuxer: FFmpeg's name of the format. FFmpeg must not guess: it takes some text files for playlists, and opens
            the files and URLs in them.
        element: parses the beginning of an element of the file (see `_parts`); None if the elements do not matter.
    """

    name: str
    suffix: str
    demuxer: str
    element: Callable[[bytes], tuple[bool, int] | None] | None = None

    def find_parts(self, file: BinaryIO, size: int) -> list[Part]:
        """Find the recordings in a file, in order."""
        if self.demuxer == "ogg":
            return find_parts(file, size, limit=math.inf)
        if self.demuxer == "tta":
            return _repeated_parts(file, size, b"TTA1\1\0")
        return [Part((range(size),))] if self.element is None else _parts(file, size, self.element)

    def conversion(self, file_name: str) -> str:
        """The command that converts a file of this name ("" if unknown) to wav.

        >>> _BY_MAGIC[b"wvpk"].conversion("take 1.wv")
        "ffmpeg -i 'take 1.wv' 'take 1.wav'"
        """
        path = PurePath(file_name or f"recording{self.suffix}")
        converted = path.with_suffix(".wav")
        if converted == path:
            converted = path.with_stem(f"{path.stem}-converted")
        return shlex.join(["ffmpeg", "-i", path.name, converted.name])


def foreign_format(file: BinaryIO) -> ForeignFormat | None:
    """Identify a format by its first bytes; None for formats that libsndfile reads, and for anything else."""
    start = skip_id3(file)
    file.seek(start)
    head = file.read(64)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return _MP4 if head[8:11] != b"3gp" else _3GP
    if head[:4] == b"OggS":
        codec = head[27 + head[26] :] if len(head) > 27 else b""
        return next((foreign for magic, foreign in _OGG.items() if codec.startswith(magic)), None)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _WEBM if b"webm" in head else _MATROSKA
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _AVI
    if head[:1] == b"\xff" and len(head) > 6 and head[1] & 0xF6 == 0xF0:
        return _AAC
    return next((foreign for magic, foreign in _BY_MAGIC.items() if head.startswith(magic)), None)


def unread_format(file: BinaryIO) -> ForeignFormat | None:
    """Identify a container that libsndfile reads, but not with this codec."""
    file.seek(0)
    head = file.read(12)
    return next((foreign for magic, foreign in _CONTAINERS.items() if head.startswith(magic)), None)


def not_audio(file: BinaryIO) -> str:
    """Describe a file that is not audio, by its first bytes."""
    file.seek(0)
    head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _OTHERS.items():
        if head.startswith(magic) or text[: len(magic)].lower() == magic:
            return name
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if not any(head):
        return "only zeros, an unfinished copy or download: copy it again"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return "text"
    return "unknown format"


def _parts(file: BinaryIO, size: int, element: Callable[[bytes], tuple[bool, int] | None]) -> list[Part]:
    """Find the recordings in a file that is a sequence of elements.

    Args:
        element: from the first bytes of an element, returns whether it begins a new file, and its length in bytes;
            None if it is not an element.
    """
    position = skip_id3(file)
    starts = [0]
    while position < size:
        file.seek(position)
        found = element(file.read(32).ljust(32, b"\0"))
        if found is None:
            break
        begins, length = found
        if begins and position:
            starts.append(position)
        position += length
    is_cut, stops = position > size, [*starts[1:], size]
    flaws = [None] * (len(starts) - 1) + ["truncated: the last part of the file is incomplete" if is_cut else None]
    spans = [range(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return [Part((span,), flaw=flaw) for span, flaw in zip(spans, flaws, strict=True)]


def _repeated_parts(file: BinaryIO, size: int, beginning: bytes) -> list[Part]:
    """Find the recordings in a file of which FFmpeg reads the first only, by the bytes that each begins with."""
    starts, tail, position = [0], b"", skip_id3(file) + 1
    file.seek(position)
    while block := file.read(2**20):
        content = tail + block
        starts += [position - len(tail) + match.start() for match in re.finditer(re.escape(beginning), content)]
        tail, position = content[1 - len(beginning) :], position + len(block)
    return [Part((range(start, stop),)) for start, stop in pairwise([*starts, size])]


def _box(head: bytes) -> tuple[bool, int] | None:
    """A box of MPEG-4 (ISO/IEC 14496-12, 4.2)."""
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return (head[4:8] == b"ftyp", length) if length >= 8 else None  # 0: up to the end of the file


def _ebml(head: bytes) -> tuple[bool, int] | None:
    """An element of Matroska (RFC 8794, 4 and 6). Of one without a length, as in live streams, only the header."""
    id_bytes = 9 - head[0].bit_length()
    if id_bytes > 4:
        return None
    length_bytes = 9 - head[id_bytes].bit_length()
    if length_bytes > 8:
        return None
    end = id_bytes + length_bytes
    kind, unknown = int.from_bytes(head[:id_bytes], "big"), 2 ** (7 * length_bytes) - 1
    length = int.from_bytes(head[id_bytes:end], "big") & unknown
    return kind == _EBML, end + (0 if kind == _SEGMENT or length == unknown else length)


def _adts(head: bytes) -> tuple[bool, int] | None:
    """A frame of AAC (ISO/IEC 13818-7, 6.2)."""
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return (False, length) if head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and length >= 7 else None


def _ac3(head: bytes) -> tuple[bool, int] | None:
    """A frame of AC-3 or E-AC-3 (ATSC A/52, 5.4.1 and E.2.2)."""
    if head[:2] != b"\x0b\x77":
        return None
    if head[5] >> 3 > 10:  # E-AC-3
        return False, 2 * (int.from_bytes(head[2:4], "big") & 0x7FF) + 2
    rate, size = head[4] >> 6, head[4] & 0x3F
    if rate == 3 or size >= 2 * len(_AC3_KBPS):
        return None
    kbps = _AC3_KBPS[size // 2]
    return False, 2 * (2 * kbps, kbps * 96_000 // 44_100 + size % 2, 3 * kbps)[rate]


def _asf(head: bytes) -> tuple[bool, int] | None:
    """An object of ASF (Advanced Systems Format, 2.1)."""
    length = int.from_bytes(head[16:24], "little")
    return (head[:16] == _ASF, length) if length >= 24 else None


def _riff(head: bytes) -> tuple[bool, int] | None:
    """A RIFF chunk, of which an AVI file has one for each 1 or 2 GB."""
    length = 8 + int.from_bytes(head[4:8], "little")
    return (head[8:12] == b"AVI ", length + length % 2) if head[:4] == b"RIFF" else None


def _flv(head: bytes) -> tuple[bool, int] | None:
    """The header or a tag of Flash video, with the size of the tag before the next one (FLV, annex E)."""
    if head[:4] == b"FLV\x01":
        return True, int.from_bytes(head[5:9], "big") + 4
    return (False, int.from_bytes(head[1:4], "big") + 15) if head[0] & 0x1F in (8, 9, 18) else None


def _wavpack(head: bytes) -> tuple[bool, int] | None:
    """A block of WavPack; the first of a recording has the index 0, and the flag of the first of its channels.

    Tags in the format of APE are after the blocks.
    """
    if head[:8] == b"APETAGEX":
        return False, 32 + int.from_bytes(head[12:16], "little")
    index, is_first = int.from_bytes(head[16:20], "little"), head[25] & 8
    length = 8 + int.from_bytes(head[4:8], "little")
    return (index == 0 and bool(is_first), length) if head[:4] == b"wvpk" else None


_MP4 = ForeignFormat("MPEG-4 with AAC or ALAC, as in m4a and mp4", ".m4a", "mov", _box)
_3GP = ForeignFormat("3GPP with AMR or AAC", ".3gp", "mov", _box)
_WEBM = ForeignFormat("WebM", ".webm", "matroska", _ebml)
_MATROSKA = ForeignFormat("Matroska", ".mka", "matroska", _ebml)
_AVI = ForeignFormat("AVI video", ".avi", "avi", _riff)
_AAC = ForeignFormat("AAC in ADTS", ".aac", "aac", _adts)
_OGG = {
    b"\x7fFLAC": ForeignFormat("Ogg FLAC", ".ogg", "ogg"),
    b"Speex   ": ForeignFormat("Ogg Speex", ".ogg", "ogg"),
    b"\x80theora": ForeignFormat("Ogg with video", ".ogv", "ogg"),
    b"fishead": ForeignFormat("Ogg with several streams", ".ogg", "ogg"),
}
_BY_MAGIC = {
    _ASF: ForeignFormat("Windows Media, as in wma", ".wma", "asf", _asf),
    b"#!AMR": ForeignFormat("AMR", ".amr", "amr"),
    b"\x0b\x77": ForeignFormat("AC-3", ".ac3", "ac3", _ac3),
    b"MAC ": ForeignFormat("Monkey's Audio", ".ape", "ape"),
    b"wvpk": ForeignFormat("WavPack", ".wv", "wv", _wavpack),
    b"TTA1": ForeignFormat("True Audio", ".tta", "tta"),
    b"DSD ": ForeignFormat("DSD", ".dsf", "dsf"),
    b".RMF": ForeignFormat("RealMedia", ".rm", "rm"),
    b"FLV\x01": ForeignFormat("Flash video", ".flv", "flv", _flv),
}
_CONTAINERS = {
    b"RIFF": ForeignFormat("WAV with a codec that libsndfile does not read", ".wav", "wav"),
    b"caff": ForeignFormat("CAF with a codec that libsndfile does not read", ".caf", "caf"),
    b"FORM": ForeignFormat("AIFF-C with a codec that libsndfile does not read", ".aifc", "aiff"),
    b"NIST_1A": ForeignFormat("NIST SPHERE, compressed", ".sph", "nistsphere"),
}
_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS: fetch the recordings by git lfs pull",
    b"<!doctype html": "a web page: download the recording again",
    b"<html": "a web page: download the recording again",
    b"<?xml": "XML",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!": "a rar archive: unpack it",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"MThd": "a MIDI file: notes, not audio",
    b"\x93NUMPY": "a NumPy array: write it as wav",
}
