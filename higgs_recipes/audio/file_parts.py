"""The recordings in a file as byte ranges, with wrong headers replaced."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO


@dataclass(frozen=True)
class Part:
    """One recording in a file. A file holds several if files were joined end to end.

    Attributes:
        pieces: input of the decoder: byte ranges of the file, and bytes that replace a wrong header.
        present: share of the stated audio that is in the file; below 1 if the file is truncated.
        num_frames: samples per channel by the header, if this is hidden from the decoder; None if unknown.
        flaw: evidence of missing audio if the header does not state the length, as "kind: detail"; None otherwise.
    """

    pieces: tuple[range | bytes, ...]
    present: float = 1.0
    num_frames: int | None = None
    flaw: str | None = None


def share(there: int, stated: int) -> float:
    """Share of the stated amount that exists, from 0 to 1.

    >>> share(50, 200), share(300, 200), share(-4, 200)
    (0.25, 1.0, 0.0)
    """
    return min(1.0, max(0, there) / stated) if stated > 0 else 1.0


def patched(span: range, patches: Mapping[int, bytes]) -> tuple[range | bytes, ...]:
    """The pieces of a byte range, with the bytes at some offsets replaced.

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

    libsndfile and FFmpeg call it from C, which cannot pass an exception on: a disk error ends the file, and is stored
    in `error`.
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
