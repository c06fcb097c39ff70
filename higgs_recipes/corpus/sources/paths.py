"""Find the recordings that rows name by path: inside the folder of their source, and nowhere else."""

import difflib
import os
import re
import stat
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath

from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectCode, RejectedRow, field_name


MAX_SIMILAR = 3
MAX_COMPARED = 2000  # names of a folder that are compared one by one


def find_recording(name: str, *, root: Path, folder: Path, field: str) -> Path:
    """The file that a row names.

    A backslash may separate folders, as on Windows. Names that differ only in their Unicode form (NFC, NFD) are equal.

    Args:
        name: a path relative to `folder`, else to `root`; or an absolute path inside `root`.
        root: the folder of the source; files outside it are not read.
        field: the row's field, for messages.

    Raises:
        RejectedRow: no such file, not a regular file, or it is outside `root`, by its path or by a link. The message
            has similar names.
    """
    for written in dict.fromkeys((name, name.replace("\\", "/"))):
        for base in dict.fromkeys((folder, root)):
            path = base / _relative(written, root, field=field)
            found = _existing(path)
            if found is not None:
                _require_inside(found, name, root=root, field=field)
                if not stat.S_ISREG(os.stat(found).st_mode):
                    detail = f"{field_name(field)}: {name!r} is not a regular file"
                    raise RejectedRow(RejectCode.UNREADABLE_AUDIO, field, detail)
                return found
            _require_inside(path, name, root=root, field=field)
    missing = folder / _relative(name.replace("\\", "/"), root, field=field)
    similar = ", ".join(map(repr, _similar_names(missing)))
    detail = f"{field_name(field)}: cannot be read: No such file or directory ({missing})"
    detail += f"; similar names: {similar}" if similar else ""
    raise RejectedRow(RejectCode.UNREADABLE_AUDIO, field, detail)


def name_in_folder(name: str, root: Path) -> str:
    """The path of a recording with slashes, relative to `root` if it is inside it; of others outside only the name.

    >>> name_in_folder("/corpus/a/b.wav", Path("/corpus")), name_in_folder("a\\\\b.wav", Path("/corpus"))
    ('a/b.wav', 'a/b.wav')
    """
    path = PurePosixPath(name.replace("\\", "/"))
    for base in _bases(root):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name if path.is_absolute() else path.as_posix()


def require_file_inside(path: Path, root: Path) -> None:
    """Refuse a file of a source that is a link to a file outside.

    Raises:
        InputError: it leads out of `root`.
    """
    if not _is_inside(path, root):
        raise InputError(f"{path} is a link to a file outside {root}: copy the file into the folder")


def _bases(root: Path) -> tuple[Path, ...]:
    return Path(os.path.abspath(root)), root, Path(os.path.realpath(root))


def _relative(name: str, root: Path, *, field: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.is_absolute():
        return path
    for base in _bases(root):
        if path.is_relative_to(base):
            return path.relative_to(base)
    real = _real(path)
    if real is not None and real.is_relative_to(os.path.realpath(root)):  # through a link to the source
        return PurePosixPath(real.relative_to(os.path.realpath(root)))
    raise _outside(path.name, field)


def _outside(name: str, field: str) -> RejectedRow:
    return RejectedRow(RejectCode.OUTSIDE_FOLDER, field, f"{name}; move the recording into it")


def _real(path: str | os.PathLike) -> Path | None:
    """The path without links; None if it cannot be a path: a NUL character, or no bytes for it in this file system."""
    try:
        return Path(os.path.realpath(path))
    except (ValueError, OSError):
        return None


def _exists(path: Path) -> bool:
    try:
        os.stat(path)
    except (ValueError, OSError):  # no such file, a NUL character, too long a name
        return False
    return True


@lru_cache(maxsize=256)
def _allowed_folders(root: Path) -> tuple[str, ...]:
    """Where links of a source may lead: into it; from a snapshot in the Hub's cache also to its repository's files."""
    real = Path(os.path.realpath(root))
    blobs = [str(real.parents[1] / "blobs")] if real.parent.name == "snapshots" else []
    return (str(real), *blobs)


def _is_inside(path: Path, root: Path) -> bool:
    real = _real(path)
    return real is not None and any(real.is_relative_to(folder) for folder in _allowed_folders(root))


def _require_inside(path: Path, name: str, *, root: Path, field: str) -> None:
    if _is_inside(path, root) or _real(path) is None:
        return
    normalized = Path(os.path.normpath(os.path.abspath(path)))
    if not any(normalized.is_relative_to(base) for base in _bases(root)):
        raise _outside(PurePosixPath(name.replace("\\", "/")).name or name, field)
    if not _was_imported(root):
        detail = f"{name} is a link to a file outside; copy the recording into it"
        raise RejectedRow(RejectCode.OUTSIDE_FOLDER, field, detail)


def _was_imported(root: Path) -> bool:
    """Whether the links are those of scripts/import_corpus.py, which links to recordings unless copy_audio is set."""
    return os.path.isfile(root / "import.json")


def _existing(path: Path) -> Path | None:
    """The path, or the one file whose name differs in its Unicode form only."""
    if _exists(path):
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts if path.anchor else path.parts:
        if part == ".." or _exists(found / part):
            found /= part
            continue
        names = _listing(found)[0].get(_composed(part), ())
        if len(names) != 1:
            return None
        found /= names[0]
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _loose(name: str) -> str:
    """What names share that differ only in case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", _composed(name).casefold())


def _listing(folder: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]], tuple[str, ...]]:
    try:
        return _listing_at(folder, os.stat(folder).st_mtime_ns)
    except (ValueError, OSError):
        return {}, {}, ()


@lru_cache(maxsize=32)
def _listing_at(
    folder: Path, modified: int
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Names in a folder by their NFC form and by their loose form, and all names."""
    names = tuple(sorted(os.listdir(folder)))
    composed: dict[str, tuple[str, ...]] = {}
    loose: dict[str, tuple[str, ...]] = {}
    for name in names:
        composed[_composed(name)] = (*composed.get(_composed(name), ()), name)
        loose[_loose(name)] = (*loose.get(_loose(name), ()), name)
    return composed, loose, names


def _similar_names(path: Path) -> list[str]:
    _, loose, names = _listing(path.parent)
    similar = list(loose.get(_loose(path.name), ()))
    if not similar and len(names) <= MAX_COMPARED:
        similar = difflib.get_close_matches(path.name, names, n=MAX_SIMILAR, cutoff=0.8)
    return similar[:MAX_SIMILAR]
