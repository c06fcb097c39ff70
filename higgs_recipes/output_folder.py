"""The folder of a result: it appears complete or not at all, and replaces only an earlier result of the same kind.

A result lists its files in `.higgs_recipes.json`. Only files on this list are ever deleted.
"""

import ctypes
import errno
import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from higgs_recipes import __version__
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_write_errors, hidden_sibling, leftovers, real_path
from higgs_recipes.run_lock import lock_output


logger = logging.getLogger(__name__)

FILE_LIST = ".higgs_recipes.json"  # of a result on this machine; never pushed
_PROJECT = "higgs_recipes"
_PARTIAL_FILE = re.compile(r"\..+\.[0-9a-f]{8}\.partial")  # of `atomic_write`
_NUM_NAMED = 5  # files of others in a message


def check_output_dir(path: str | Path, *, kind: str, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Run the checks of `staged_folder` early, before work that takes long. Nothing is changed.

    Args:
        kind: the kind of result, the name of the script.
        overwrite: replace an earlier result of this kind.
        inputs: files and folders that the run reads.

    Raises:
        InputError: `path` is a file, a mount point or the working folder; or it is not empty, and `overwrite` is false
            or it is not only a result of this kind.
    """
    real = real_path(path)
    if real.exists() and not real.is_dir():
        raise InputError(f"{real} is a file, expected a folder: remove it or choose another output_dir")
    if not real.exists():
        return
    is_filled = any(real.iterdir())
    if is_filled and not overwrite:
        raise InputError(f"{real} exists and is not empty: choose another output_dir or pass --overwrite_output_dir")
    refused = f"{path} cannot be replaced"
    for name, folder in (("working", os.getcwd()), ("home", os.path.expanduser("~"))):
        if Path(os.path.realpath(folder)).is_relative_to(real):
            raise InputError(f"{refused}: it is or contains the {name} folder; choose a folder in it as output_dir")
    mounts = [mount for mount in _mount_points() if mount.is_relative_to(real)]
    if mounts:
        example = real / "result"
        raise InputError(f"{refused}: {mounts[0]} is a mount point; choose a folder in it as output_dir: {example}")
    if not is_filled:
        return
    if Path(os.path.abspath(os.path.expanduser(path))).is_symlink():
        raise InputError(f"{refused}: it is a link; choose {real} or another output_dir")
    for source in inputs:
        if source.is_relative_to(real):
            raise InputError(f"output_dir {path} contains the source {source}: choose another one")
    _check_contents(real, kind=kind, refused=refused)


def _check_contents(folder: Path, *, kind: str, refused: str) -> None:
    record = _read_list(folder)
    if record is None:
        raise InputError(
            f"{refused}: it is not a complete result of this version ({FILE_LIST} is missing or of another program); "
            "choose another output_dir, or remove it yourself"
        )
    if record["kind"] != kind:
        raise InputError(f"{refused}: it is a result of {record['kind']}, not of {kind}; choose another output_dir")
    foreign = sorted(_entries(folder) - {*record["files"], FILE_LIST})
    if foreign:
        more = f" and {len(foreign) - _NUM_NAMED} more" if len(foreign) > _NUM_NAMED else ""
        raise InputError(
            f"{refused}: it contains files that are not of the result: {', '.join(foreign[:_NUM_NAMED])}{more}; move "
            "them, or choose another output_dir"
        )


def named_paths(config: Any) -> list[Path]:
    """The existing files and folders that the fields of a config name, other than output_dir."""
    fields = asdict(config)
    fields.pop("output_dir")
    names, values = [], list(fields.values())
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
        elif isinstance(value, str) and "\0" not in value:
            names.append(os.path.expanduser(value))
    return [Path(os.path.realpath(name)) for name in names if name and os.path.exists(name)]


@contextmanager
def staged_folder(
    path: str | Path, *, kind: str, overwrite: bool = False, inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """A hidden sibling of `path` to write into, renamed to `path` when the block ends and deleted when it raises.

    So a folder named `path` is always complete, and an old one is kept until the new one is complete. The block holds
    the lock of `path`; what killed runs have left is removed first.

    Raises:
        InputError: as `check_output_dir` and `lock_output`; or a file cannot be written.
    """
    with lock_output(path):
        real = real_path(path)
        remove_leftovers(real)
        check_output_dir(path, kind=kind, overwrite=overwrite, inputs=inputs)
        staging = hidden_sibling(real, "partial")
        try:
            with explain_write_errors(real.parent):
                staging.mkdir()
                yield staging
                write_file_list(staging, kind=kind)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        with explain_write_errors(real.parent):
            replace_folder(staging, real, kind=kind, overwrite=overwrite)


def check_output(config: Any, *, kind: str) -> None:
    """`check_output_dir` for a recipe with the fields output_dir and overwrite_output_dir."""
    options = {"overwrite": config.overwrite_output_dir, "inputs": named_paths(config)}
    check_output_dir(config.output_dir, kind=kind, **options)


def staged_output(config: Any, *, kind: str) -> AbstractContextManager[Path]:
    """`staged_folder` for a recipe with the fields output_dir and overwrite_output_dir."""
    options = {"overwrite": config.overwrite_output_dir, "inputs": named_paths(config)}
    return staged_folder(config.output_dir, kind=kind, **options)


def write_file_list(folder: Path, *, kind: str, without: Collection[str] = ()) -> None:
    """List the files of a complete result.

    Args:
        without: names in the folder that are not of the result.
    """
    files = sorted(name for name in _entries(folder) if name.partition("/")[0] not in {FILE_LIST, *without})
    record = {"project": _PROJECT, "version": __version__, "kind": kind, "files": files}
    atomic_write(folder / FILE_LIST, json.dumps(record, indent=1) + "\n")


def replace_folder(staging: Path, path: Path, *, kind: str, overwrite: bool) -> None:
    """Rename a complete folder to `path`; with `overwrite`, it replaces an earlier result, whose files are deleted.

    If it cannot be renamed, it is kept under a similar name.

    Raises:
        InputError: it cannot be renamed; names where the result is.
    """
    try:
        check_output_dir(path, kind=kind, overwrite=overwrite)  # the user may have added files meanwhile
        if not (path.exists() and any(path.iterdir())):
            os.replace(staging, path)
            return
        old = _swap(staging, path)
    except (InputError, OSError) as error:
        kept = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
        os.replace(staging, kept)
        raise InputError(f"{path} cannot be written: {error}. The complete result is in {kept}") from error
    _delete_result(old, name=path.name)


def remove_leftovers(path: Path) -> None:
    """Finish or remove what killed runs have left next to `path`. Requires its lock, so that no other run writes."""
    with explain_write_errors(path.parent):
        for old in leftovers(path, "replaced"):  # killed between the two renames of `_swap`
            if not path.exists():
                complete = [folder for folder in leftovers(path, "partial") if _read_list(folder)]
                os.replace(complete[0] if complete else old, path)
        for leftover in leftovers(path, "partial", "replaced"):
            logger.info("%s is from a run that was killed; it is removed", leftover)
            if leftover.is_symlink() or not leftover.is_dir():
                leftover.unlink()
            elif _read_list(leftover):
                _delete_result(leftover, name=path.name)
            else:
                shutil.rmtree(leftover)


def remove_partial_files(folder: Path) -> None:
    """Remove the incomplete files of killed runs from a folder into which runs write one after the other."""
    for path in sorted(folder.glob(".*.partial")):
        if _PARTIAL_FILE.fullmatch(path.name) and path.is_file():
            path.unlink()


def _swap(staging: Path, path: Path) -> Path:
    """Exchange two folders; returns the new path of the old one."""
    if _exchange(staging, path):
        return staging
    # Not atomic: `remove_leftovers` finishes it if it is killed between the renames.
    old = hidden_sibling(path, "replaced")
    os.replace(path, old)
    try:
        os.replace(staging, path)
    except BaseException:
        os.replace(old, path)
        raise
    return old


def _exchange(one: Path, two: Path) -> bool:
    """Exchange the names of two folders atomically; False if the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    sys.audit("os.rename", str(one), str(two), -1, -1)
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # glibc before 2.28
        return False
    current_folder, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(current_folder, os.fsencode(one), current_folder, os.fsencode(two), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(two))


def _delete_result(folder: Path, *, name: str) -> None:
    """Delete the files that a result lists; if there are others, the folder is kept with them, next to `name`."""
    listed = set(_read_list(folder)["files"])
    for entry in _entries(folder) & listed:
        path = folder / entry
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        if parent != str(folder) and not os.listdir(parent):
            os.rmdir(parent)
    if _entries(folder) == {FILE_LIST}:
        shutil.rmtree(folder)
        return
    kept = folder.with_name(f"{name}-kept-{secrets.token_hex(4)}")
    os.replace(folder, kept)
    (kept / FILE_LIST).unlink()
    logger.warning("the replaced folder has files that are not of its result; they are in %s", kept)


def _entries(folder: Path) -> set[str]:
    """The files, links and empty folders below a folder, by relative path; no link is followed."""
    entries = set()
    for parent, folders, files in os.walk(folder):
        inner = Path(parent).relative_to(folder)
        linked = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        entries |= {(inner / name).as_posix() for name in (*files, *linked)}
        if not files and not folders and inner.name:
            entries.add(inner.as_posix())
    return entries


def _read_list(folder: Path) -> dict[str, Any] | None:
    """The record of a complete result; None if there is none or it is not of this project."""
    try:
        record = json.loads((folder / FILE_LIST).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("project") != _PROJECT or not isinstance(record.get("kind"), str):
        return None
    files = record.get("files")
    is_list = isinstance(files, list) and all(isinstance(name, str) for name in files)
    return record if is_list else None


def is_result(folder: Path, *, kind: str) -> bool:
    """Whether a folder is a complete result of a kind."""
    record = _read_list(folder)
    return record is not None and record["kind"] == kind


def _mount_points() -> list[Path]:
    """The mount points of this system, bind mounts included; none where Linux does not list them."""
    table = Path("/proc/self/mountinfo")
    if not table.is_file():
        return []
    points = (line.split(b" ")[4] for line in table.read_bytes().splitlines())
    return [Path(os.fsdecode(point.decode("unicode_escape").encode("latin-1"))) for point in points]
