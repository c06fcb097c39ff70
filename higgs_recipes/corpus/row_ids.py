"""Ids of rows: one to one with the ids of the source, or with its files, and usable as file names."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, count
from pathlib import PurePosixPath

from higgs_recipes.corpus.rows import AUDIO_ENDINGS, CheckedRow, SourceRow, file_safe_id, hashed_id
from higgs_recipes.corpus.sources.paths import name_in_folder
from higgs_recipes.corpus.sources.source import Source
from higgs_recipes.rejects import RejectCode, RejectedRow


PATH = "path:"


def row_identity(row: SourceRow, source: Source, index: int) -> tuple[str, str]:
    """(key, id) of a row.

    The key is the row's id, else the path of its recording, else its index, each with its kind. The id is made of it,
    and rows of different keys may have one id until `make_unique` has seen them all.

    Raises:
        RejectedRow: the id is neither text nor a number.
    """
    row_id = row.get("id")
    if isinstance(row_id, str) and not row_id.strip():
        row_id = None
    if row_id is not None:
        if isinstance(row_id, bool) or not isinstance(row_id, (str, int, float)):
            detail = f"is a {type(row_id).__name__}; map a column of text or numbers to id"
            raise RejectedRow(RejectCode.INVALID_FIELD, "id", detail)
        key, name = f"id:{row_id}", str(row_id)
    else:
        path, folder = _recording_path(row), source.table.recordings_folder(index)
        if path is None or source.folder is None or folder is None:
            return f"row:{index}", f"{index:06d}"
        folder = source.folder if os.path.isabs(path) else folder
        path = os.path.normpath(name_in_folder(path, folder))
        key, name = path_key(folder / path), _without_ending(path)
    return key, file_safe_id(name)


def path_key(path: str | os.PathLike) -> str:
    """The key of a row that is known by its recording."""
    return f"{PATH}{os.path.normpath(path)}"


def make_unique(rows: Sequence[CheckedRow], sources: Sequence[Source]) -> list[CheckedRow]:
    """The rows with different ids, where rows of different keys have one.

    A key that is an id without a change keeps it. A recording is named by its path with its extension if that is
    unique, everything else with a hash of its name.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        groups[row["id"]].append(position)
    unique, taken = list(rows), set(groups)
    for row_id, positions in groups.items():
        if len(positions) == 1:
            continue
        names = {position: _full_name(rows[position], sources) for position in positions}
        kept = [position for position in positions if row_id in (names[position], _without_ending(names[position]))]
        counts = Counter(file_safe_id(name) for name in names.values())
        for position in positions if len(kept) != 1 else [other for other in positions if other != kept[0]]:
            name, hashed = file_safe_id(names[position]), hashed_id(names[position])
            others = (f"{hashed}-{number}" for number in count(2))
            free = (
                candidate
                for candidate in chain([name, hashed], others)
                if candidate not in taken and counts[candidate] < 2
            )
            taken.add(new_id := next(free))
            unique[position] = rows[position] | {"id": new_id}
    return unique


def id_prefix(sources: Sequence[Source], source: int) -> str:
    """What the ids of a source begin with: several sources may have the same ids."""
    return f"{source}-" if len(sources) > 1 else ""


def _recording_path(row: SourceRow) -> str | None:
    """The path by which the row names its recording, None if it has the bytes."""
    audio = row.get("audio")
    if isinstance(audio, dict) and audio.get("bytes") is None and audio.get("array") is None:
        audio = audio.get("path")
    return audio if isinstance(audio, str) and audio else None


def _full_name(row: CheckedRow, sources: Sequence[Source]) -> str:
    name = row["key"].partition(":")[2]
    folder = sources[row["source"]].folder
    if row["key"].startswith(PATH) and folder is not None:
        name = os.path.relpath(name, folder)
    return id_prefix(sources, row["source"]) + name


def _without_ending(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix[1:].lower() in AUDIO_ENDINGS else name
