"""Files that are written completely or not at all, and the failures of disks in plain words."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from higgs_recipes.errors import DiskError, InputError, describe_disk_failure, disk_failure, is_full_disk


def real_path(path: str | Path) -> Path:
    """The absolute path of a file or folder that may not exist yet, without links and "~".

    Raises:
        InputError: it is not a path, or the root folder.
    """
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is not a path: remove the character \\0")
    real = Path(os.path.realpath(os.path.expanduser(path)))
    if not real.name:
        raise InputError(f"{path} is the root folder: name a folder in it")
    return real


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents, unless they exist; returns the created ones, inner ones first.

    Raises:
        InputError: it, or a part of its path, is a file.
        DiskError: it cannot be created.
    """
    missing = list(takewhile(lambda path: not os.path.lexists(path), (folder, *folder.parents)))
    existing = missing[-1].parent if missing else folder
    if not existing.is_dir():
        raise InputError(f"{existing} is a file, expected a folder: remove it or choose another output_dir")
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) and its parent folders; a reader sees either the old or the new content.

    Raises:
        DiskError: the disk is full, or the file cannot be written.
    """
    path = Path(path).absolute()
    partial = hidden_sibling(path, "partial")
    try:
        with explain_write_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def explain_write_errors(folder: str | Path) -> Iterator[None]:
    """Convert a failure of the file system (full, read-only, busy, no permission ...) to a `DiskError`.

    It is found in the exceptions in which a library has wrapped it, too.

    Args:
        folder: where the block writes.
    """
    with explain_full_disk(folder):
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            failure = disk_failure(error)
            if failure is None or is_full_disk(error):
                raise
            number, path = failure
            raise DiskError(describe_disk_failure(number, path or str(folder))) from error


@contextmanager
def explain_full_disk(folder: str | Path) -> Iterator[None]:
    """Convert a "no space left" error to a `DiskError`, also if a library has wrapped it in another exception."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_full_disk(error):
            raise
        free = shutil.disk_usage(_nearest_existing(Path(folder))).free // 2**20
        raise DiskError(f"disk full at {folder}: {free} MB free; make room or choose another folder") from error


def read_text_file(path: str | Path, *, name: str | None = None) -> str:
    """Read a text file in UTF-8, without its byte order mark; line ends become line feeds.

    Args:
        name: of the file in the error message; None: its path.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name or path} is not UTF-8 ({error}); save it as UTF-8") from error


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read a mebibyte at a time."""
    return _hex_digest(path, hashlib.sha256())


def sha256_files(paths: Iterable[str | Path]) -> str:
    """16 hexadecimal digits of a hash of several files' contents, in this order."""
    return hashlib.sha256("".join(map(sha256_file, paths)).encode()).hexdigest()[:16]


def has_git_hash(path: str | Path, expected: str) -> bool:
    """Whether a file has a hash by which the Hub names contents: SHA-256 for large files, git's SHA-1 for others.

    A file that another process removes has not.
    """
    try:
        if len(expected) == 64:
            return sha256_file(path) == expected
        return _hex_digest(path, hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size)) == expected
    except FileNotFoundError:
        return False


def _hex_digest(path: str | Path, digest: Any) -> str:
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def hidden_sibling(path: Path, ending: str) -> Path:
    """A new name for what a killed run may leave next to `path`; `leftovers` finds it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


def leftovers(path: Path, *endings: str) -> list[Path]:
    """What killed runs have left next to `path`, under the names of `hidden_sibling`."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.({'|'.join(endings)})")
    if not path.parent.is_dir():
        return []
    return sorted(path.with_name(entry) for entry in os.listdir(path.parent) if name.fullmatch(entry))


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def file_inside(folder: str | Path, relative: str, *, field: str) -> Path:
    """Resolve the path of a file that a record names relative to its folder.

    Args:
        folder: the folder of the record.
        relative: the path in the record.
        field: the field of the record, for the error message.

    Raises:
        InputError: the path is not text, is absolute, points outside the folder (by ".." or a link), or does not
            exist.
    """
    if not isinstance(relative, str):
        raise InputError(f"{field} is {relative!r}: it must name a file")
    folder = Path(folder).resolve()
    path = (folder / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(folder):
        raise InputError(f"{field} is {relative!r}: it leaves the folder {folder}")
    if not path.is_file():
        raise InputError(f"{field} is {relative!r}: no such file in {folder}")
    return path
