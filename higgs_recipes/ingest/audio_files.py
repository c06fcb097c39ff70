"""Files of recordings in a folder and its subfolders."""

import logging
import os
from pathlib import Path

from higgs_recipes.corpus.rows import AUDIO_ENDINGS
from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = frozenset({f".{ending}" for ending in AUDIO_ENDINGS} | {".mkv"})  # encode knows .mkv as no recording


def is_audio_name(name: str) -> bool:
    """Whether a file name has the suffix of a recording, in any case.

    >>> is_audio_name("a.WAV"), is_audio_name("a.txt"), is_audio_name(".wav")
    (True, False, False)
    """
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def audio_stem(name: str) -> str:
    """Remove the suffix of a recording from a name or path; other dots are kept.

    >>> audio_stem("wavs/take.1.wav"), audio_stem("take.1")
    ('wavs/take.1', 'take.1')
    """
    return os.path.splitext(name)[0] if is_audio_name(name) else name


def find_files(folder: Path) -> list[Path]:
    """Find all files in a folder and its subfolders, sorted, without hidden ones (such as ._x.wav of macOS).

    Links to folders outside `folder` are followed, each folder once. Skipped folders are logged. A link that leads to
    nothing is returned like a file, so that it can be reported as one.

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
        # A linked folder inside the root is read under its own name.
        is_known = real in visited or current != folder and current.is_symlink() and _overlap(real, root)
        if is_known or current != folder and current.name.startswith("."):
            logger.warning("%s: skipped, %s", current, "read already" if is_known else "hidden folder")
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
