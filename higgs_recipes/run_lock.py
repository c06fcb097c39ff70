"""One run per output folder: a second one is refused, with the name of the first, before it changes anything.

The lock is one of the operating system: it ends with its process, also with a killed one. Its file is next to the
folder, which may be replaced, or in a folder that is not.
"""

import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from filelock import FileLock, Timeout

from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_write_errors, make_folder, real_path


LOCK = ".lock"
_TOKEN, _TOKEN_VALUE = re.compile(r"--\w*token"), re.compile(r"^(--\w*token=).*")
_SECONDS = 0.1  # a lock that ends at the same moment is not one of another run


@contextmanager
def lock_output(path: str | Path, *, inside: bool = False) -> Iterator[None]:
    """Hold the lock of an output folder or file; a nested call of the same thread does nothing.

    Of several launched processes, the first one holds it for all.

    Args:
        path: the folder or file. Its parents are created, so a place that cannot be written is found now.
        inside: put the lock into the folder, which is created: it is never renamed, or its parent may be read-only.

    Raises:
        InputError: another run holds the lock; or the place cannot be written.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    path = real_path(path)
    folder = path if inside else path.parent
    file = folder / LOCK if inside else path.with_name(f".{path.name}{LOCK}")
    lock = FileLock(file, timeout=_SECONDS, poll_interval=_SECONDS / 5, is_singleton=True)
    is_outer = not lock.is_locked
    created = make_folder(folder)
    with explain_write_errors(folder):
        try:
            lock.acquire()
        except Timeout:
            raise InputError(f"{path} is in use by {_owner(file)}: wait for it or choose another folder") from None
    try:
        if is_outer:
            with explain_write_errors(folder):
                file.write_text(json.dumps(_this_run(), indent=1) + "\n", encoding="utf-8")
        yield
    finally:
        try:
            if is_outer:  # still locked: who has opened the file meanwhile finds that it was deleted
                with suppress(OSError):
                    file.unlink()
                    for empty in created:  # only if the run has written nothing
                        empty.rmdir()
        finally:
            lock.release()


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
