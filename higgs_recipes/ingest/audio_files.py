"""Files in a folder and its subfolders."""

import logging
import os
from pathlib import Path

from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)


def find_files(folder: Path, *, follow_links: bool) -> list[Path]:
    """Find all files in a folder and its subfolders, sorted, without hidden ones (such as ._x.wav of macOS).

    Each folder is read once. Skipped folders are logged. Linked files are returned wherever they lead, so that they
    can be reported; also one that leads to nothing.

    Args:
        follow_links: enter links to folders outside; otherwise they are skipped.

    Raises:
        InputError: a folder that cannot be read.
    """
    root = os.path.realpath(folder)
    visited: set[str] = set()
    files: list[Path] = []
    folders = [folder]  # a stack with the first folder on top
    while folders:
        current = folders.pop()
        real = os.path.realpath(current)
        is_link = current != folder and current.is_symlink()
        reason = None
        # A linked folder inside the root is read under its own name.
        if real in visited or is_link and _overlap(real, root):
            reason = "read already"
        elif current != folder and current.name.startswith("."):
            reason = "hidden folder"
        elif is_link and not follow_links:
            reason = "a link to a folder outside: name that folder as a source, or set follow_links: true"
        if reason is not None:
            logger.warning("%s: skipped, %s", current, reason)
            continue
        visited.add(real)
        try:
            paths = [current / name for name in sorted(os.listdir(current))]
        except OSError as error:
            raise InputError(f"{current}: cannot be read: {error.strerror}") from error
        files += [path for path in paths if not os.path.isdir(path) and not path.name.startswith(".")]
        folders += [path for path in reversed(paths) if os.path.isdir(path)]
    return sorted(files)


def _overlap(folder: str, other: str) -> bool:
    """Whether one of two folders contains the other."""
    return os.path.commonpath([folder, other]) in (folder, other)
