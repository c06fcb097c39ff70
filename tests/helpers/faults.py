"""Faults at the n-th change of a file system: a kill, after which nothing can be changed, or a full disk.

    with faults(tmp_path, at=3, kind="kill") as fault:
        ...            # Killed is raised at the third file that is opened for writing, renamed, deleted ...
    fault.count        # of the changes; faults(tmp_path) only counts

Python's audit events are used, so nothing has to be replaced; code in C, C++ and Rust that writes is not seen. The
file of a lock does not count: the operating system ends the lock of a killed process.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


Kind = Literal["kill", "full"]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEEDS_ROOM = ("open", "os.mkdir", "os.symlink")
_CHANGES = ("open", "os.mkdir", "os.symlink", "os.link", "os.rename", "os.remove", "os.rmdir", "os.truncate")


class Killed(BaseException):
    """Raised in place of a kill, at the change and at all later ones, so that no cleanup works."""


@dataclass
class Fault:
    root: str
    at: int | None
    kind: Kind
    count: int = 0
    names: list[str] = field(default_factory=list)  # of the changes, for messages

    def check(self, event: str, path: object) -> None:
        if isinstance(path, int) or not isinstance(path, (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(path)
        if os.path.isabs(path) and not path.startswith(self.root) or path.endswith(".lock"):
            return
        if self.kind == "full" and event not in _NEEDS_ROOM:
            return
        self.count += 1
        self.names.append(f"{event} {path}")
        if self.at is None or self.count < self.at:
            return
        if self.kind == "kill":
            raise Killed(self.names[-1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


_active: list[Fault] = []
_installed: list[bool] = []


def _hook(event: str, args: tuple) -> None:
    if not _active or event not in _CHANGES:
        return
    if event == "open" and not (args[2] or 0) & _WRITES:
        return
    _active[-1].check(event, args[0])


@contextmanager
def faults(root: Path, *, at: int | None = None, kind: Kind = "kill") -> Iterator[Fault]:
    """Count the changes below a folder; with `at`, make that one and all later ones fail."""
    if not _installed:
        sys.addaudithook(_hook)  # stays for the life of the process
        _installed.append(True)
    fault = Fault(str(root), at, kind)
    _active.append(fault)
    try:
        yield fault
    finally:
        _active.pop()
