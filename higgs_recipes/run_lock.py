"""One run per output folder: a second one is refused, with the name of the first, before it changes anything.

The lock is one of the operating system: it ends with its process, also with a killed one. Its file is next to the
folder, which may be renamed; or in a folder that is not renamed and whose parent cannot be written.
"""

import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from filelock import FileLock, Timeout

from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_write_errors, hidden_sibling, leftovers, make_folder, real_path


LOCK = ".lock"
PROBE = "probe"  # what a file is called by which a run tries whether it can write
_TOKEN, _TOKEN_VALUE = re.compile(r"--\w*token"), re.compile(r"^(--\w*token=).*")
_SECONDS = 0.1  # a lock that ends at the same moment is not one of another run


@contextmanager
def lock_output(path: str | Path, *, in_place: bool = False) -> Iterator[None]:
    """Hold the lock of an output folder or file; a nested call of the same thread does nothing.

    Of several launched processes, the first one holds it for all.

    Args:
        path: the folder or file. Its parents are created, so a place that cannot be written is found now.
        in_place: the run writes into the folder and never renames it; it is created and tried, too.

    Raises:
        InputError: another run holds the lock; or the place cannot be written.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    path = real_path(path)
    created = make_folder(path if in_place else path.parent)
    file = path.with_name(f".{path.name}{LOCK}")
    if in_place and not os.access(path.parent, os.W_OK):  # such as a disk that is mounted into a container
        file = path / LOCK
    lock = FileLock(file, timeout=_SECONDS, poll_interval=_SECONDS / 5, is_singleton=True)
    is_outer = not lock.is_locked
    with explain_write_errors(file.parent):
        try:
            lock.acquire()
        except Timeout:
            _remove_empty(created)
            raise InputError(f"{path} is in use by {_owner(file)}: wait for it or choose another folder") from None
    try:
        if is_outer:
            with explain_write_errors(file.parent):
                file.write_text(json.dumps(_this_run(), indent=1) + "\n", encoding="utf-8")
        if in_place:
            with explain_write_errors(path):
                hidden_sibling(path / PROBE, "partial").touch()
                for probe in leftovers(path / PROBE, "partial"):  # also those of killed runs
                    probe.unlink(missing_ok=True)
        yield
    finally:
        try:
            if is_outer:  # still locked: who has opened the file meanwhile finds that it was deleted
                with suppress(OSError):
                    file.unlink()
                _remove_empty(created)  # if the run has written nothing
        finally:
            lock.release()


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _this_run() -> dict[str, str | int]:
    words = [os.path.basename(sys.argv[0])]
    for previous, word in pairwise(sys.argv):  # another user may read the file: no tokens
        words.append("***" if _TOKEN.fullmatch(previous) else _TOKEN_VALUE.sub(r"\1***", word))
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now().isoformat(" ", "seconds"),
        "command": shlex.join(words),
    }


def _owner(file: Path) -> str:
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        return f"another run (process {run['pid']} on {run['host']}, started {run['started']}: {run['command']})"
    except (OSError, ValueError, KeyError, TypeError):  # it begins or ends at this moment
        return "another run"
