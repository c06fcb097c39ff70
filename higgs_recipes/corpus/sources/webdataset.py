"""Read recordings in tar files in the format of WebDataset, without unpacking them."""

import io
import logging
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.corpus.rows import AUDIO_ENDINGS
from higgs_recipes.corpus.sources.lines import decode, json_object, lines_of
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectCode, RejectedRow


logger = logging.getLogger(__name__)

TEXT_ENDING, JSON_ENDING = "txt", "json"
AUDIO_COLUMN = "audio"  # the one recording of a row, whatever its extension
MAX_TEXT_BYTES = 2**24  # of a .json or .txt; a longer one is not the text of a clip


@dataclass(frozen=True)
class _Member:
    """A file in a tar file: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


@dataclass
class _Row:
    """Members of one key by extension; `problem` says why the row cannot be read."""

    path: Path
    fields: dict[str, Any]
    members: dict[str, _Member] = field(default_factory=dict)
    endings: set[str] = field(default_factory=set)
    problem: str | None = None

    @property
    def recordings(self) -> list[str]:
        """Extensions of the recordings: "flac", "left.wav"."""
        return [ending for ending in self.members if ending.rpartition(".")[2] in AUDIO_ENDINGS]


class WebDatasetTable(Sequence):
    """The rows of tar files: members whose names differ only in the extension are one row.

    A row has `__key__` (the name without extension), the fields of the .json as `json.<field>`, the text of the .txt
    as `txt`, and every other member under its extension, in lower case, as {"path", "bytes"}: `EN_1.json` and
    `EN_1.mp3` give `__key__`, `json.text` ..., `mp3`. `audio` is the recording of a row that has one. Bytes are read
    with the row. Files whose names begin with a dot, as macOS adds them, are skipped.

    An extension is what follows the last dot, so that names may have dots. Members that are not a whole row, such as
    `a.left.wav`, `a.right.wav` or `a.meta.json` next to `a.json`, belong to the row of the shorter name.

    Raises:
        InputError: a file is not a tar file, or truncated. A row whose .json is not a JSON object, or with two members
            of one extension, raises when it is read.
    """

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rows: list[_Row] = [row for path in paths for row in _read_rows(path)]
        self._columns: Sequence[str] | None = None
        names = dict.fromkeys(name for row in self._rows for name in (*row.fields, *row.members))
        if any(row.recordings for row in self._rows):
            names.setdefault(AUDIO_COLUMN)
        self.column_names = list(names)

    def __len__(self) -> int:
        return len(self._rows)

    def recordings_folder(self, index: int) -> Path | None:
        """None: rows contain their recordings."""

    def column(self, name: str) -> list[Any]:
        """A field of the .json, the text of the .txt, or `__key__` in every row; None for rows that do not have it."""
        return [row.fields.get(name) for row in self._rows]

    def broken(self) -> list[int]:
        """Indexes of rows that raise when they are read, whose fields are unknown."""
        return [index for index, row in enumerate(self._rows) if row.problem]

    def select(self, indices: Sequence[int]) -> "WebDatasetTable":
        """A table of these rows."""
        chosen = WebDatasetTable([])
        chosen._rows, chosen.column_names = [self._rows[index] for index in indices], self.column_names
        chosen._columns = self._columns
        return chosen

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._rows[index]
        if row.problem:
            raise RejectedRow(RejectCode.BROKEN_TAR_ROW, detail=row.problem)
        stored = dict(row.fields)
        with row.path.open("rb") as file:
            for ending, member in row.members.items():
                file.seek(member.offset)
                stored[ending] = {"path": member.name, "bytes": file.read(member.size)}
        if AUDIO_COLUMN not in stored and (recordings := row.recordings):
            if len(recordings) > 1 and self._columns is not None and AUDIO_COLUMN in self._columns:
                names = " and ".join(row.members[ending].name for ending in recordings)
                detail = f"{names} are recordings of one row; set columns, e.g. {{audio: {recordings[0]}}}"
                raise RejectedRow(RejectCode.BROKEN_TAR_ROW, detail=f"{row.path.name}: {detail}")
            stored[AUDIO_COLUMN] = stored[recordings[0]]
        return stored

    def use_columns(self, names: Sequence[str]) -> None:
        """Rows are read as a whole; a row of two recordings is an error only if `audio` is used."""
        self._columns = names

    def close(self) -> None:
        """Do nothing: the table has no files of its own."""


def _read_rows(path: Path) -> list[_Row]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = list(_members(tar, path))
    # Damaged headers raise errors of many types in tarfile.
    except (tarfile.TarError, ValueError, OverflowError, IndexError, EOFError, OSError) as error:
        raise InputError(f"{path.name} is not a complete tar file ({error}); download it again") from error
    rows: dict[str, _Row] = {}
    with path.open("rb") as file:
        for (key, ending), problem, member in _keyed(members):
            row = rows.setdefault(key, _Row(path, {"__key__": key}))
            place = f"{path.name}: {member.name}"
            if problem:
                row.problem = f"{place} {problem}"
            elif ending in row.endings:
                row.problem = f"{place} occurs twice"
            elif ending in (TEXT_ENDING, JSON_ENDING):
                try:
                    row.fields |= _read_text(file, member, ending)
                except RejectedRow as error:  # rejects this row only
                    row.problem = f"{place}: {error}"
            else:
                row.members[ending] = member
            row.endings.add(ending)
    return list(rows.values())


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tuple[str | None, _Member]]:
    """(problem, member) of each file, without those that macOS adds."""
    by_name: dict[str, _Member] = {}
    skipped = 0
    size = path.stat().st_size
    for info in tar:
        parts = PurePosixPath(info.name).parts
        if info.isdir() or not parts:
            continue
        if parts[-1].startswith(".") or "__MACOSX" in parts:
            skipped += 1
            continue
        member = _Member(info.name, info.offset_data, info.size)
        problem = None
        if info.islnk() and info.linkname in by_name:  # tar stores a file with two names once
            member = _Member(info.name, by_name[info.linkname].offset, by_name[info.linkname].size)
        elif not info.isreg() or info.issparse():
            problem = "is not a regular file"
        elif member.size < 0 or member.offset + member.size > size:
            problem = "is longer than the tar file"
        by_name[info.name] = member
        yield problem, member
    if skipped:
        logger.info("%s: %d files whose names begin with a dot are skipped", path.name, skipped)


def _keyed(members: Sequence[tuple[str | None, _Member]]) -> Iterator[tuple[tuple[str, str], str | None, _Member]]:
    """Key and extension of each member."""
    endings: dict[str, set[str]] = defaultdict(set)
    names = []
    for problem, member in members:
        name = PurePosixPath(member.name)
        stem, _, ending = name.name.rpartition(".")
        stem, ending = (stem, ending.lower()) if stem else (ending, "")
        names.append((str(name.with_name(stem)), ending, problem, member))
        endings[names[-1][0]].add(ending)
    for key, ending, problem, member in names:
        has_recording = not AUDIO_ENDINGS.isdisjoint(endings[key])
        is_whole = has_recording and not endings[key] <= AUDIO_ENDINGS
        folder, _, name = key.rpartition("/")
        while not is_whole and "." in name:
            name, _, inner = name.rpartition(".")
            shorter = f"{folder}/{name}" if folder else name
            if shorter in endings and not (has_recording and not AUDIO_ENDINGS.isdisjoint(endings[shorter])):
                key, ending = shorter, key[len(shorter) + 1 :].lower() + f".{ending}"
                break
        yield (key, ending), problem, member


def _read_text(file: Any, member: _Member, ending: str) -> dict[str, Any]:
    if member.size > MAX_TEXT_BYTES:
        detail = f"{member.size:,} bytes; a text of a clip has at most {MAX_TEXT_BYTES:,}"
        raise RejectedRow(RejectCode.LONG_TRANSCRIPT, "text", detail)
    file.seek(member.offset)
    content = file.read(member.size)
    if ending == JSON_ENDING:
        return {f"json.{name}": value for name, value in json_object(content).items()}
    return {TEXT_ENDING: "".join(map(decode, lines_of(io.BytesIO(content), member.name))).strip()}
