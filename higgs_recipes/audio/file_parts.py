"""A file as the recordings in it: byte ranges, with corrected headers in place of wrong ones."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO


@dataclass(frozen=True)
class Part:
    """One recording in a file. A file holds several where files were joined end to end.

    Attributes:
        pieces: what the decoder reads: byte ranges of the file, and bytes that replace those of a wrong header.
        present: share of the stated audio that is in the file; below 1 where the file is truncated.
        num_frames: samples per channel that the header states, where the decoder is not told; None if unknown.
        flaw: evidence of missing audio where nothing states how much there should be; None without any.
    """

    pieces: tuple[range | bytes, ...]
    present: float = 1.0
    num_frames: int | None = None
    flaw: str | None = None


def patched(span: range, patches: Mapping[int, bytes]) -> tuple[range | bytes, ...]:
    """The pieces of a byte range in which the bytes at some offsets are replaced.

    >>> patched(range(0, 100), {4: b"abcd", 40: b"ef"})
    (range(0, 4), b'abcd', range(8, 40), b'ef', range(42, 100))
    """
    pieces, position = [], span.start
    for offset, content in sorted(patches.items()):
        pieces += [range(position, offset), content]
        position = offset + len(content)
    return (*pieces, range(position, span.stop))


class PartReader(io.RawIOBase):
    """The pieces of a part as one file.

    libsndfile and FFmpeg call it through C, where an exception would be lost: an error of the disk reads as the end of
    the file, and is kept in `error`.
    """

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self.file, self.pieces = file, [piece for piece in part.pieces if len(piece)]
        self.ends = list(accumulate(len(piece) for piece in self.pieces))
        self.position, self.size = 0, self.ends[-1] if self.ends else 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = min(max(0, base + offset), self.size)
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        target, filled = memoryview(buffer).cast("B"), 0
        for piece, end in zip(self.pieces, self.ends, strict=True):
            if self.position >= end or filled == len(target):
                continue
            inside = self.position - (end - len(piece))
            length = min(len(target) - filled, end - self.position)
            read = self._copy(piece, inside, target[filled : filled + length])
            filled, self.position = filled + read, self.position + read
            if read < length:
                break
        return filled

    def _copy(self, piece: range | bytes, inside: int, target: memoryview) -> int:
        if isinstance(piece, bytes):
            target[:] = piece[inside : inside + len(target)]
            return len(target)
        try:
            self.file.seek(piece.start + inside)
            return self.file.readinto(target)
        except OSError as error:
            self.error = error
            return 0
