"""Paths of recordings as a source writes them -> paths relative to the folder of all recordings."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from higgs_recipes.rejects import RejectCode, RejectedRow, field_name


def relative_path(path: Any, root: Path, *, field: str) -> PurePosixPath:
    """Convert the path in a row to a path relative to `root`.

    Raises:
        RejectedRow: not a file name, or a path outside `root`.
    """
    if not isinstance(path, str) or not PurePosixPath(path.strip()).name or "\0" in path:
        raise RejectedRow(RejectCode.NO_FILE_NAME, field, f"{field_name(field)} is {path!r}")
    windows = PureWindowsPath(path)
    inner = PurePosixPath(windows.as_posix() if "\\" in path else path)
    if inner.is_absolute() and inner.is_relative_to(root):
        inner = inner.relative_to(root)
    if inner.is_absolute() or windows.drive or ".." in inner.parts:
        detail = f"{path} is not in {root}; set audio_dir to the folder of all recordings"
        raise RejectedRow(RejectCode.OUTSIDE_FOLDER, field, detail)
    return inner
