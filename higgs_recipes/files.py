"""Files and folders that are written completely or not at all."""

import errno
import glob
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)


def check_output_dir(path: str | Path, *, overwrite: bool = False) -> None:
    """Run the checks of `staged_folder` early, before work that takes long.

    Raises:
        InputError: `path` is a file, or a folder that is not empty and `overwrite` is false.
    """
    path = Path(path).expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, expected a folder: remove it or choose another output_dir")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(f"{path} exists and is not empty: choose another output_dir or pass --overwrite_output_dir")


@contextmanager
def staged_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A hidden sibling of `path` to write into, renamed to `path` when the block ends and deleted when it raises.

    So a folder named `path` is always complete. An old one is kept until the new one is complete.

    Raises:
        InputError: `path` is a file, or a folder that is not empty and `overwrite` is false; or the disk is full.
    """
    check_output_dir(path, overwrite=overwrite)
    path = Path(path).expanduser().resolve()
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if leftover.suffix in (".partial", ".replaced"):
            logger.warning(
                "%s is from a run that was killed or is still writing: remove it if none is running", leftover
            )

    staging = _hidden_sibling(path, "partial")
    try:
        with explain_full_disk(path.parent):
            staging.mkdir(parents=True)
            yield staging
            replace_folder(staging, path, overwrite=overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(staging: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a complete folder to `path`; with `overwrite`, it replaces an existing one.

    Raises:
        OSError: without `overwrite`, `path` is a folder that is not empty.
    """
    if not (overwrite and path.exists()):
        os.replace(staging, path)  # fails if another run has written to `path` in the meantime
        return
    # No portable system call swaps two folders: the old one is renamed, and renamed back if the new one cannot be.
    backup = _hidden_sibling(path, "replaced")
    os.replace(path, backup)
    try:
        os.replace(staging, path)
    except BaseException:
        os.replace(backup, path)
        raise
    shutil.rmtree(backup)


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) and its parent folders; a reader sees either the old or the new content."""
    path = Path(path).absolute()
    partial = _hidden_sibling(path, "partial")
    try:
        with explain_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(folder: str | Path) -> Iterator[None]:
    """Convert a "no space left" error to an `InputError`, also if a library has wrapped it in another exception."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not _is_full_disk(error):
            raise
        free = shutil.disk_usage(_nearest_existing(Path(folder))).free // 2**20
        raise InputError(f"disk full at {folder}: {free} MB free; make room or choose another folder") from error


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read a mebibyte at a time."""
    return _hex_digest(path, hashlib.sha256())


def sha256_files(paths: Iterable[str | Path]) -> str:
    """16 hexadecimal digits of a hash of several files' contents, in this order."""
    return hashlib.sha256("".join(map(sha256_file, paths)).encode()).hexdigest()[:16]


def has_git_hash(path: str | Path, expected: str) -> bool:
    """Whether a file has a hash by which the Hub names contents: SHA-256 for large files, git's SHA-1 for others."""
    if len(expected) == 64:
        return sha256_file(path) == expected
    return _hex_digest(path, hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size)) == expected


def _hex_digest(path: str | Path, digest: Any) -> str:
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _hidden_sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


def _is_full_disk(error: BaseException | None) -> bool:
    # Writers in Rust and C++ (safetensors, Arrow) keep only the text of the system's error, or wrap it.
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


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
