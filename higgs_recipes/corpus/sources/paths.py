"""Find the files that rows name by path: inside the folder of their source, and nowhere else."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.corpus.rows import nfc
from higgs_recipes.corpus.sources.link_roots import is_below, link_roots
from higgs_recipes.corpus.sources.listing import FolderListing, audio_stem, is_audio_name
from higgs_recipes.errors import InputError, shown
from higgs_recipes.rejects import RejectCode, RejectedRow, field_name


logger = logging.getLogger(__name__)

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:/")  # "Q: who.wav" is a file name
# For corpora: encode and export read what import writes.
LINK_HINT = "copy the recording into it; links are read where an import on this machine has made them"
MAX_SHOWN = 500  # characters of a path in a message
_AUDIO_FIELDS = ("audio", "ref_audio", "ref_speakers", "turns")


class SourceFolder:
    """The folder that contains all files that a source names.

    Neither paths nor links leave the folder, but for the links that `link_roots` knows. Lists are often written
    elsewhere: quotes, backslashes, ".." and another Unicode form are resolved.

    Args:
        root: the folder.
        match_ends: find paths outside the folder by the longest end that is a path in the folder, as GPT-SoVITS does
            by the file name: "D:\\project\\clips\\a.wav" is clips/a.wav or a.wav.
        hint: what to do about a path outside the folder.
        link_hint: what to do about a link to a file outside.
        follow_links: links may lead outside; the folders that they lead to are collected in `linked`.
        shows_paths: messages have whole paths outside the folder, otherwise only file names, as they may be published.

    Attributes:
        linked: real folders of the files outside that were found through links.
        notes: what a reader of a format has to say, for `log_notes`.
    """

    def __init__(
        self,
        root: Path,
        *,
        match_ends: bool = False,
        hint: str = "move the recording into it",
        link_hint: str = "copy the file into it, or set follow_links: true if the link is yours",
        follow_links: bool = False,
        shows_paths: bool = True,
    ) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        self.match_ends = match_ends
        self.follow_links = follow_links
        self.linked: set[str] = set()
        self.notes: list[str] = []
        self._hint = "nor is any end of it" if match_ends else hint
        self._link_hint = link_hint
        self._shows_paths = shows_paths
        self._real_root = Path(os.path.realpath(self.root))
        self._link_roots = link_roots(self.root)
        self._listings: dict[PurePosixPath, FolderListing] = {}
        self._matched_ends: dict[str, PurePosixPath] = {}
        self._links_outside: set[PurePosixPath] = set()

    def resolve(self, path: Any, *, field: str, folder: Path | None = None) -> PurePosixPath:
        """Find the file of a path in a row.

        Args:
            path: the path, relative to `folder` or to the root, or absolute.
            field: the row's field, for messages.
            folder: folder of the list that names the path, inside the root; None: the root.

        Returns:
            The path relative to the root.

        Raises:
            RejectedRow: not a file name, no such file, not a regular file, or outside the folder, by its path or by a
                link.
        """
        if not isinstance(path, str) or not PurePosixPath(path.strip(" \t\r\n\"'")).name or "\0" in path:
            raise RejectedRow(RejectCode.NO_FILE_NAME, field, f"{field_name(field)} is {shown(path)}")
        try:
            os.fsencode(path)
        except UnicodeEncodeError as error:  # half of a surrogate pair in a JSON escape
            raise RejectedRow(RejectCode.INVALID_UNICODE, field, f"{field_name(field)} is {shown(path)}") from error
        spellings = _spellings(path)
        bases = dict.fromkeys((folder or self.root, self.root))
        places = [place for base in bases for text in spellings if (place := self._relative(text, base)) is not None]
        for relative in places:
            if (found := self._find(relative)) is not None:
                return self._checked(found, field)
        if self.match_ends and (found := self._find_end(spellings[-1])) is not None:
            self._matched_ends.setdefault(path, found)
            return self._checked(found, field)
        missing = next((place for base in bases if (place := self._relative(spellings[-1], base)) is not None), None)
        if missing is None:
            outside = PurePosixPath(spellings[-1]).name[-MAX_SHOWN:]
            if self._shows_paths:
                outside = f"{path[:MAX_SHOWN]} is not in {self.root}"
            raise RejectedRow(RejectCode.OUTSIDE_FOLDER, field, f"{outside}; {self._hint}")
        code, name = RejectCode.UNREADABLE_FILE, ""
        if field.partition(".")[0] in _AUDIO_FIELDS:
            code, name = RejectCode.UNREADABLE_AUDIO, f"{field_name(field)}: "
        raise RejectedRow(code, field, f"{name}cannot be read: {self._explain_missing(missing)}")

    def find_recording(self, stem: str) -> PurePosixPath | None:
        """Find a recording by its path with, without or with another suffix; .wav is preferred to others."""
        if (relative := self._relative(stem, self.root)) is None:
            return None
        if is_audio_name(stem) and (found := self._find(relative)) is not None:
            return found
        by_stem = self._listing(relative.parent).by_stem
        names = by_stem.get(nfc(relative.name)) or by_stem.get(nfc(audio_stem(relative.name)), [])
        names = sorted(names, key=lambda name: (not name.lower().endswith(".wav"), name))
        return relative.with_name(names[0]) if names else None

    def check_link(self, path: Path, *, field: str) -> None:
        """Check a file in the folder, found by its name.

        Raises:
            RejectedRow: it is a link that leads outside, or is below one.
        """
        self._checked(PurePosixPath(os.path.relpath(path, self.root)), field)

    def log_notes(self) -> None:
        """Log the notes, how many paths were found by their ends, and how many links lead outside the folder."""
        for note in self.notes:
            logger.warning("%s", note)
        if self._matched_ends:
            path, found = next(iter(self._matched_ends.items()))
            count = len(self._matched_ends)
            logger.warning("%d paths outside %s were found by their ends: %s is %s", count, self.root, path, found)
        if self._links_outside:
            count, link = len(self._links_outside), min(self._links_outside)
            logger.warning("%d files are links that lead outside %s, such as %s", count, self.root, link)

    def _relative(self, spelling: str, base: Path) -> PurePosixPath | None:
        """The path relative to the folder, by its name or, if it leads through links, by its target; else None."""
        if _WINDOWS_DRIVE.match(spelling) or "\0" in spelling:
            return None
        path = os.path.join(base, spelling)
        for place, root in ((os.path.normpath(path), self.root), (os.path.realpath(path), self._real_root)):
            if Path(place).is_relative_to(root) and Path(place) != root:
                return PurePosixPath(Path(place).relative_to(root))
        return None

    def _find(self, relative: PurePosixPath) -> PurePosixPath | None:
        """The file in the folder whose path is `relative` in any Unicode form, unless there are several."""
        if os.path.isfile(self.root / relative):
            return relative
        if str(relative).isascii():
            return None
        found = PurePosixPath()
        for part in relative.parts:
            if not os.path.lexists(self.root / found / part):
                names = self._listing(found).by_name.get(nfc(part), [])
                if len(names) != 1:
                    return None
                part = names[0]
            found /= part
        return found if os.path.isfile(self.root / found) else None

    def _find_end(self, spelling: str) -> PurePosixPath | None:
        parts = [part for part in PurePosixPath(os.path.normpath(spelling)).parts if part not in ("/", "//", "..")]
        ends = (PurePosixPath(*parts[first:]) for first in range(len(parts)))
        return next((found for end in ends if (found := self._find(end)) is not None), None)

    def _checked(self, relative: PurePosixPath, field: str) -> PurePosixPath:
        real = os.path.realpath(self.root / relative)
        if not is_below(real, self._link_roots):
            if not self.follow_links:
                detail = f"{relative} is a link to a file outside; {self._link_hint}"
                raise RejectedRow(RejectCode.OUTSIDE_FOLDER, field, detail)
            self._links_outside.add(relative)
            self.linked.add(os.path.dirname(real))
        return relative

    def _listing(self, folder: PurePosixPath) -> FolderListing:
        if folder not in self._listings:
            self._listings[folder] = FolderListing(self.root / folder)
        return self._listings[folder]

    def _explain_missing(self, relative: PurePosixPath) -> str:
        path = self.root / relative
        if os.path.lexists(path):
            kind = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "not a file"
            return f"{path} is {kind}"
        similar = self._listing(relative.parent).similar(relative.name)
        hint = f"; did you mean {' or '.join(map(repr, similar))}?" if similar else ""
        if len(str(relative)) > MAX_SHOWN:  # the content of a file in the place of its name
            path = f"{str(path)[: len(str(self.root)) + MAX_SHOWN]}..."
        return f"No such file or directory ({path}){hint}"


def name_in_folder(name: str, root: Path) -> str:
    """The path of a recording with slashes, relative to `root` if it is inside it; of others outside only the name.

    >>> name_in_folder("/corpus/a/b.wav", Path("/corpus")), name_in_folder("a\\\\b.wav", Path("/corpus"))
    ('a/b.wav', 'a/b.wav')
    """
    path = PurePosixPath(name.replace("\\", "/"))
    for base in (Path(os.path.abspath(root)), root, Path(os.path.realpath(root))):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name if path.is_absolute() else path.as_posix()


def named_recordings(value: Any, folder: Path) -> Iterator[str]:
    """The recordings that the values of a row name, also nested ones, as absolute paths in NFC."""
    if isinstance(value, (Mapping, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from named_recordings(inner, folder)
    elif isinstance(value, str) and is_audio_name(value.strip(" \t\r\n\"'")):
        yield from (nfc(os.path.abspath(os.path.join(folder, spelling))) for spelling in _spellings(value))


def unnamed_recordings(metadata: Path, named: set[str]) -> list[str]:
    """A message if recordings beside a metadata file are not in `named_recordings` of its rows; not of hidden ones."""
    folder, unnamed = metadata.parent, []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in sorted(files) if is_audio_name(name) and name[0] != "."):
            if not {nfc(os.path.abspath(path)), nfc(os.path.realpath(path))} & named:
                unnamed.append(shown(path.relative_to(folder).as_posix()))
    return [f"{metadata}: no line names {len(unnamed)} recordings: {', '.join(unnamed[:3])}"] if unnamed else []


def require_file_inside(path: Path, root: Path) -> None:
    """Refuse a file of a source that is a link to a file outside.

    Raises:
        InputError: it leads out of `root`.
    """
    if not is_below(os.path.realpath(path), link_roots(root)):
        raise InputError(f"{path} is a link to a file outside {root}: copy the file into the folder")


def _spellings(path: str) -> list[str]:
    """The path as written, without quotes and whitespace, and with slashes for backslashes."""
    bare = path.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1].strip()
    return list(dict.fromkeys((path, bare, bare.replace("\\", "/"))))
