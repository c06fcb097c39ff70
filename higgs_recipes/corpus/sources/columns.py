"""Map the columns of a source to ours."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from higgs_recipes.configs.corpus import CONSTANTS
from higgs_recipes.corpus.sources.table import Table
from higgs_recipes.errors import InputError


# Our columns. A constant of the source replaces the column of the same name.
AUDIO_COLUMNS = ("audio", "ref_audio")
LISTED_AUDIO = {"ref_speakers": "ref_audio", "turns": "audio"}  # lists of mappings: the key of the recording in each
RATE = "sampling_rate"  # of recordings that are stored as samples
COLUMNS = ("id", "text", *CONSTANTS, "task", *AUDIO_COLUMNS, RATE, "ref_text", *LISTED_AUDIO)
REQUIRED = ("text", "audio")  # unless the rows have turns, which have both
# As audio folders name them: used if there is no column of our name.
FILE_NAMES = {"audio": "file_name", "ref_audio": "ref_audio_file_name"}
# Columns of tar files that need no mapping: ours to the stored ones, of which a source may have one.
TAR_COLUMNS = {"id": ("__key__",), "text": ("txt", "json.text")}

Path = tuple[str, ...]  # a column, and fields of the mappings in it


def map_columns(
    table: Table, *, general: Mapping[str, str], own: Mapping[str, str], label: str, constants: Iterable[str] = ()
) -> dict[str, Path]:
    """Our column to the stored column, and the fields in it for a name such as "meta.text".

    Args:
        general: the recipe's columns, for all sources.
        own: the columns of this source.
        constants: our columns that have one value for all rows.

    Raises:
        InputError: an unknown column (the message has the existing ones), or two columns for one of ours.
    """
    present = table.column_names
    for ours in (*general, *own):
        require_known(ours, COLUMNS, field="columns")
    wanted = _tar_columns(present, {*general, *own}, label) | general | own
    for ours, stored in general.items():
        if ours not in own and ours not in constants and stored != ours and {ours, stored} <= set(present):
            raise InputError(
                f"{label}: both {stored} (by columns) and {ours} are a row's {ours}; set columns in this source, e.g. "
                f"{{{ours}: {stored}}}, or remove one"
            )
    required = () if wanted.get("turns", "turns") in present else REQUIRED
    paths: dict[str, Path] = {ours: (stored,) for ours, stored in FILE_NAMES.items() if stored in present}
    paths |= {ours: (ours,) for ours in COLUMNS if ours in present}
    for ours in [*wanted, *(ours for ours in required if ours not in paths)]:
        stored = wanted.get(ours, ours)
        path = column_path(table, stored)
        if path is None:
            lowered = {str(name).strip().lower(): name for name in present}
            near = difflib.get_close_matches(str(stored).lower(), lowered, n=1)
            example = lowered[near[0]] if near else present[0]
            raise InputError(
                f"{label}: no column {stored!r} for {ours}; the columns are {', '.join(present)}; set columns, e.g. "
                f"{{{ours}: {example}}}"
            )
        paths[ours] = path
    return paths


def _tar_columns(present: Sequence[str], mapped: set[str], label: str) -> dict[str, str]:
    if "__key__" not in present:
        return {}
    found: dict[str, str] = {}
    for ours, candidates in TAR_COLUMNS.items():
        stored = [name for name in candidates if name in present]
        if len(stored) > 1 and ours not in mapped:
            raise InputError(
                f"{label}: both {' and '.join(stored)} are a row's {ours}; set columns, e.g. {{{ours}: {stored[0]}}}"
            )
        if stored:
            found[ours] = stored[0]
    return found


def column_path(table: Table, name: str) -> Path | None:
    """The column of this name, else the column and the fields that it names with dots; None if there is no such."""
    if name in table.column_names:
        return (name,)
    parts = str(name).split(".")
    for end in range(len(parts) - 1, 0, -1):
        column, fields = ".".join(parts[:end]), parts[end:]
        if column not in table.column_names:
            continue
        if column in table.features:
            feature: Any = table.features[column]
            for field in fields:
                feature = feature.get(field) if isinstance(feature, Mapping) else None
            found = feature is not None
        else:
            found = any(value_at({column: value}, (column, *fields)) is not None for value in table.column(column))
        if found:
            return (column, *fields)
    return None


def value_at(row: Mapping[str, Any], path: Path) -> Any:
    """The value of a column, or of a field in it; None if the row does not have it.

    >>> value_at({"meta": {"text": "Hi."}}, ("meta", "text")), value_at({"meta": None}, ("meta", "text"))
    ('Hi.', None)
    """
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def column_values(table: Table, path: Path) -> Sequence[Any]:
    """The values of a column, or of a field in it, in all rows."""
    values = table.column(path[0])
    return values if len(path) == 1 else [value_at({path[0]: value}, path) for value in values]


def require_known(name: str, known: Sequence[str], *, field: str) -> None:
    """Raise `InputError` unless a name is known; the message has a similar one."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        raise InputError(
            f"{field}: unknown key {name!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}")
        )
