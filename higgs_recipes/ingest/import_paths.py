"""Paths in lists -> files in the folder of all recordings."""

import logging
import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.audio_files import audio_stem, is_audio_name
from higgs_recipes.ingest.rows import shown
from higgs_recipes.rejects import RejectCode, RejectedRow, field_name


logger = logging.getLogger(__name__)

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:/")  # "Q: who.wav" is a file name
_AUDIO_FIELDS = ("audio", "ref_audio")


def check_source(source: str | Path, output_dir: str | Path) -> None:
    """Refuse an output folder that contains a source: overwrite_output_dir would delete the source.

    Raises:
        InputError: `source` is `output_dir` or in it.
    """
    real_source, real_output = (Path(os.path.realpath(os.path.expanduser(path))) for path in (source, output_dir))
    if real_source.is_relative_to(real_output):
        raise InputError(f"output_dir {output_dir} contains the source {source}: choose another one")


class ImportFolder:
    """The folder that contains all files that a source names.

    Paths never leave the folder, except by links in it, which are counted. Lists are often written elsewhere: quotes,
    backslashes, ".." and another Unicode normalization are resolved.

    Args:
        root: the folder.
        match_ends: find paths outside the folder by the longest end that is a path in the folder, as GPT-SoVITS does
            by the file name: "D:\\project\\clips\\a.wav" is clips/a.wav or a.wav.
        hint: what to do about a path outside the folder.
    """

    def __init__(self, root: Path, *, match_ends: bool = False, hint: str = "move the file into it") -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        self.match_ends = match_ends
        self.hint = "nor is any end of it" if match_ends else hint
        self._real_root = Path(os.path.realpath(self.root))
        self._listings: dict[PurePosixPath, _Listing] = {}
        self._matched_ends: dict[str, PurePosixPath] = {}
        self._links_outside: set[PurePosixPath] = set()

    def resolve(self, path: Any, *, field: str) -> PurePosixPath:
        """Find the file of a path in a row.

        Returns:
            The path relative to the folder.

        Raises:
            RejectedRow: not a file name, no such file, or a path outside the folder.
        """
        if not isinstance(path, str) or not PurePosixPath(path.strip(" \t\r\n\"'")).name or "\0" in path:
            raise RejectedRow(RejectCode.NO_FILE_NAME, field, f"{field_name(field)} is {shown(path)}")
        try:
            os.fsencode(path)
        except UnicodeEncodeError as error:  # half of a surrogate pair in a JSON escape
            raise RejectedRow(RejectCode.INVALID_UNICODE, field, f"{field_name(field)} is {shown(path)}") from error
        spellings = _spellings(path)
        for relative in filter(None, map(self._relative, spellings)):
            if (found := self._find(relative)) is not None:
                return self._checked(found)
        if self.match_ends and (found := self._find_end(spellings[-1])) is not None:
            self._matched_ends.setdefault(path, found)
            return self._checked(found)
        if (relative := self._relative(spellings[-1])) is None:
            raise RejectedRow(RejectCode.OUTSIDE_FOLDER, field, f"{path} is not in {self.root}; {self.hint}")
        code, name = RejectCode.UNREADABLE_FILE, ""
        if field in _AUDIO_FIELDS:
            code, name = RejectCode.UNREADABLE_AUDIO, f"{field_name(field)}: "
        raise RejectedRow(code, field, f"{name}cannot be read: {self._explain_missing(relative)}")

    def find_recording(self, stem: str) -> PurePosixPath | None:
        """Find a recording by its path with or without a suffix; .wav is preferred to others."""
        if (relative := self._relative(stem)) is None:
            return None
        if is_audio_name(stem) and (found := self._find(relative)) is not None:
            return found
        names = self._listing(relative.parent).by_stem.get(_nfc(relative.name), [])
        names = sorted(names, key=lambda name: (not name.lower().endswith(".wav"), name))
        return relative.with_name(names[0]) if names else None

    def log_notes(self) -> None:
        """Log how many paths were found by their ends, and how many links lead outside the folder."""
        if self._matched_ends:
            path, found = next(iter(self._matched_ends.items()))
            count = len(self._matched_ends)
            logger.warning("%d paths outside %s were found by their ends: %s is %s", count, self.root, path, found)
        if self._links_outside:
            count, link = len(self._links_outside), min(self._links_outside)
            logger.warning("%d files are links that lead outside %s, such as %s", count, self.root, link)

    def _relative(self, spelling: str) -> PurePosixPath | None:
        """The path relative to the folder, by its name or, if it leads through links, by its target; else None."""
        if _WINDOWS_DRIVE.match(spelling) or "\0" in spelling:
            return None
        path = os.path.join(self.root, spelling)
        for place, root in ((os.path.normpath(path), self.root), (os.path.realpath(path), self._real_root)):
            if Path(place).is_relative_to(root) and Path(place) != root:
                return PurePosixPath(Path(place).relative_to(root))
        return None

    def _find(self, relative: PurePosixPath) -> PurePosixPath | None:
        """The file in the folder whose path is `relative` in any Unicode normalization."""
        if os.path.isfile(self.root / relative):
            return relative
        if str(relative).isascii():
            return None
        found = PurePosixPath()
        for part in relative.parts:
            if not os.path.lexists(self.root / found / part):
                names = self._listing(found).by_name.get(_nfc(part))
                if names is None:
                    return None
                part = names[0]
            found /= part
        return found if os.path.isfile(self.root / found) else None

    def _find_end(self, spelling: str) -> PurePosixPath | None:
        parts = [part for part in PurePosixPath(os.path.normpath(spelling)).parts if part not in ("/", "//", "..")]
        ends = (PurePosixPath(*parts[first:]) for first in range(len(parts)))
        return next((found for end in ends if (found := self._find(end)) is not None), None)

    def _checked(self, relative: PurePosixPath) -> PurePosixPath:
        if not Path(os.path.realpath(self.root / relative)).is_relative_to(self._real_root):
            self._links_outside.add(relative)
        return relative

    def _listing(self, folder: PurePosixPath) -> "_Listing":
        if folder not in self._listings:
            self._listings[folder] = _Listing(self.root / folder)
        return self._listings[folder]

    def _explain_missing(self, relative: PurePosixPath) -> str:
        path = self.root / relative
        if os.path.lexists(path):
            kind = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "not a file"
            return f"{path} is {kind}"
        near = self._listing(relative.parent).near(relative.name)
        hint = f"; did you mean {' or '.join(map(repr, near[:3]))}?" if near else ""
        return f"No such file or directory ({path}){hint}"


class _Listing:
    """The names in a folder (none if it is not a folder), by their normalized forms."""

    def __init__(self, folder: Path) -> None:
        try:
            names = sorted(os.listdir(folder))
        except OSError:  # missing or unreadable: the message names the file
            names = []
        self.by_name: dict[str, list[str]] = defaultdict(list)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        self.by_key: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self.by_name[_nfc(name)].append(name)
            self.by_key[_near_key(name)].append(name)
            if is_audio_name(name):
                self.by_stem[_nfc(audio_stem(name))].append(name)

    def near(self, name: str) -> list[str]:
        """The names that differ from `name` only in case, whitespace, separators or the suffix of a recording."""
        return self.by_key.get(_near_key(name), [])


def _spellings(path: str) -> list[str]:
    """The path as written, without quotes and whitespace, and with slashes for backslashes."""
    bare = path.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1].strip()
    return list(dict.fromkeys((path, bare, bare.replace("\\", "/"))))


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _near_key(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", audio_stem(name)).casefold())
