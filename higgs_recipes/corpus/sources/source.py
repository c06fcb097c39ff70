"""Open the sources of a corpus, Hub datasets and folders, as rows that are read one at a time.

`datasets` uses torchcodec, which needs FFmpeg, to decode audio and to open audio folders. Here audio stays undecoded,
and a folder of recordings with a metadata file is read directly, by the same rules.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from higgs_recipes.configs.corpus import CONSTANTS, EncodeConfig
from higgs_recipes.configs.model import source_mapping
from higgs_recipes.corpus.rows import Cell, SourceRow
from higgs_recipes.corpus.sources import columns
from higgs_recipes.corpus.sources.cells import as_cell, is_null
from higgs_recipes.corpus.sources.hub_dataset import class_names, find_files, open_hub
from higgs_recipes.corpus.sources.local_folder import DEFAULT_SPLIT, open_folder
from higgs_recipes.corpus.sources.paths import LINK_HINT, SourceFolder
from higgs_recipes.corpus.sources.streamed import StreamedTable
from higgs_recipes.corpus.sources.table import Table, matching_rows, select_matching
from higgs_recipes.errors import InputError
from higgs_recipes.hub.public import is_hub_id
from higgs_recipes.rejects import RejectCode, RejectedRow


logger = logging.getLogger(__name__)

SOURCE_KEYS = ("path", "name", "split", "revision", "files", "where", "streaming", "weight", "columns", *CONSTANTS)


@dataclass(frozen=True)
class Source:
    """An open source.

    Attributes:
        label: path and split, as in messages and rejects.
        table: the stored rows.
        columns: our column to the source's column, and to fields in it.
        constants: our column to a value for all rows.
        weight: weight in the mixture; None: all rows are used.
        files: folder that recordings, which rows name by path, must be in; None: rows must contain the bytes (Hub
            datasets).
        class_names: labels of our columns that are stored as class indexes.
    """

    label: str
    table: Table
    columns: Mapping[str, columns.Path]
    constants: Mapping[str, str]
    weight: float | None
    files: SourceFolder | None
    class_names: Mapping[str, Any]

    @property
    def folder(self) -> Path | None:
        """The folder of `files`."""
        return None if self.files is None else self.files.root

    def row(self, index: int) -> SourceRow:
        """A row under our column names; a recording is a cell {"path", "bytes"} or None.

        Raises:
            RejectedRow: as `stored_row` and `with_recordings`.
        """
        return self.with_recordings(self.stored_row(index), index)

    def stored_row(self, index: int) -> SourceRow:
        """A row under our column names, with recordings as they are stored; NaN is None.

        Raises:
            RejectedRow: the table cannot read the row, a column is not a list of mappings, or a class index is
                unknown.
        """
        stored = self.table[index]
        row = {ours: columns.value_at(stored, path) for ours, path in self.columns.items()}
        row = {ours: None if is_null(value) else value for ours, value in row.items()}
        for ours, label in self.class_names.items():
            row[ours] = None if row[ours] is None else _class_name(row[ours], label, ours)
        for column in columns.LISTED_AUDIO:
            if row.get(column):
                row[column] = _mappings(row[column], column)
        return row | self.constants

    def with_recordings(self, row: SourceRow, index: int) -> SourceRow:
        """The row with every recording as a cell {"path", "bytes"} or None.

        Raises:
            RejectedRow: a column does not contain a recording, or its file is missing or outside the folder.
        """
        row = dict(row)
        for column in columns.AUDIO_COLUMNS:
            if column in row:
                row[column] = self.recording(row, index, column)
        for column, audio in columns.LISTED_AUDIO.items():
            row[column] = [
                {**entry, audio: self.recording(row, index, f"{column}.{position}")}
                for position, entry in enumerate(row.get(column) or [])
            ]
        return row

    def recording(self, row: SourceRow, index: int, field: str) -> Cell | None:
        """The cell of one recording: "audio", "ref_audio", "ref_speakers.<index>" or "turns.<index>".

        Raises:
            RejectedRow: as `with_recordings`.
        """
        column, _, position = field.partition(".")
        value = row[column][int(position)].get(columns.LISTED_AUDIO[column]) if position else row[column]
        cell = as_cell(value, field=field, rate=row.get(columns.RATE))
        if cell is None or cell["bytes"] is not None:
            return cell
        folder = self.table.recordings_folder(index)
        if self.files is None or folder is None:
            raise RejectedRow(RejectCode.NO_BYTES, field, "store the recordings in the dataset")
        path = self.files.resolve(cell["path"], field=field, folder=folder)
        return {"path": str(self.files.root / path), "bytes": None}


def _class_name(value: Any, label: Any, column: str) -> str | None:
    if value == -1:  # as datasets store a missing label
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(label.names):
        detail = f"has the class {str(value)[:60]!r}, which is not one of {len(label.names)}"
        raise RejectedRow(RejectCode.INVALID_FIELD, column, detail)
    return label.int2str(value)


def _mappings(value: Any, column: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        detail = f"is {str(value)[:60]!r}, expected a list of mappings; rename the column"
        raise RejectedRow(RejectCode.INVALID_FIELD, column, detail)
    return [{name: None if is_null(inner) else inner for name, inner in entry.items()} for entry in value]


def open_sources(config: EncodeConfig) -> list[Source]:
    """Open each source of the recipe.

    Raises:
        InputError: an unknown key or column; a source that is missing, unreadable or empty; an unknown split or column
            (the message has the existing ones); weights on only some of the sources.
    """
    specs = [_source_spec(entry) for entry in config.sources]
    weights = [spec.get("weight") for spec in specs]
    if None in weights and any(weight is not None for weight in weights):
        raise InputError("sources: only some have a weight; give a weight to all of them or to none")
    with PartialState().main_process_first():  # the others use its downloads
        return [_open(index, spec, config) for index, spec in enumerate(specs)]


def _source_spec(entry: str | dict[str, Any]) -> dict[str, Any]:
    spec = source_mapping(entry)
    for key, value in spec.items():
        columns.require_known(key, SOURCE_KEYS, field="sources")
        types = {"weight": (int, float), "columns": (dict,), "where": (dict,), "streaming": (bool,)}
        expected = types.get(key, (str,))
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool) != (bool in expected)):
            raise InputError(f"sources: {key} is {value!r}; it must be {' or '.join(t.__name__ for t in expected)}")
    if not spec.get("path"):
        raise InputError(f"sources: {spec} has no path; name a Hub id or a folder")
    if spec.get("weight") is not None and not 0 < spec["weight"] < float("inf"):
        raise InputError(f"sources: weight of {spec['path']} is {spec['weight']}; it must be positive")
    return spec


def _open(index: int, spec: dict[str, Any], config: EncodeConfig) -> Source:
    path, split = spec["path"], spec.get("split") or DEFAULT_SPLIT
    folder = _folder(path)
    if spec.get("files") and (spec.get("split") or spec.get("name")):
        raise InputError(f"sources: files of {path} cannot be combined with name or split; leave them out")
    if spec.get("streaming") and not is_hub_id(path):
        raise InputError(
            f"sources: streaming requires a dataset on the Hub, and {path} is not one; leave streaming out"
        )
    table: Table | None = None
    if spec.get("streaming"):
        table, folder = _open_stream(index, spec, split, config), None
    elif not folder.is_dir():
        if not is_hub_id(path):
            raise InputError(f"sources: {path} is neither a folder nor a Hub id (user/name)")
        table, folder = open_hub(spec, split)
    if table is None:
        table = open_folder(folder, spec, split)
    label = f"{path}:{split}"
    if table.streamed:
        return _stream_source(table, label, spec, config)
    if not len(table):
        raise InputError(f"{label}: no rows")
    if spec.get("where"):
        table = _select_where(table, spec["where"], label=label)
    return _source(label, table, spec, config, folder)


def _folder(path: str) -> Path:
    try:
        return Path(os.path.abspath(Path(path).expanduser()))
    except RuntimeError as error:  # ~name of no user
        raise InputError(f"sources: {path}: {error}") from error


def _source(label: str, table: Table, spec: dict[str, Any], config: EncodeConfig, folder: Path | None) -> Source:
    constants = {key: spec[key] for key in CONSTANTS if spec.get(key) is not None}
    general, own = config.columns or {}, spec.get("columns") or {}
    paths = columns.map_columns(table, general=general, own=own, label=label, constants=constants)
    table.use_columns(sorted({path[0] for path in paths.values()}))
    labels = {ours: class_names(table.features, path) for ours, path in paths.items()}
    labels = {ours: label for ours, label in labels.items() if label is not None}
    files = None if folder is None else SourceFolder(folder, link_hint=LINK_HINT, shows_paths=False)
    return Source(label, table, paths, constants, spec.get("weight"), files, labels)


def _open_stream(index: int, spec: dict[str, Any], split: str, config: EncodeConfig) -> StreamedTable:
    # Next to the corpus, on the disk that has room for it; each process has its own folder.
    output_dir = Path(config.output_dir).expanduser().resolve()
    folder = output_dir.with_name(f".{output_dir.name}.{PartialState().process_index}-{index}.streaming")
    return StreamedTable(find_files(spec, split), folder, where=spec.get("where") or {})


def _stream_source(table: StreamedTable, label: str, spec: dict[str, Any], config: EncodeConfig) -> Source:
    """Open a streamed source: its columns are those of the first file, which stays open."""
    try:
        table.open_file(0)
        for column in table.where:
            if len(_require_column(table, column, label=label)) > 1:
                raise InputError(
                    f"{label}: where: {column!r} is a field of a column; streaming requires whole columns"
                )
        source = _source(label, table, spec, config, None)
        if "id" not in source.columns:  # rows are named by their number
            table.count()
        return source
    except InputError:
        table.close()
        raise


def _select_where(table: Table, where: dict[str, str], *, label: str) -> Table:
    """The rows whose columns match the patterns."""
    values = {column: columns.column_values(table, _require_column(table, column, label=label)) for column in where}
    kept = matching_rows(values, where)
    if not kept:
        raise InputError(f"{label}: none of {len(table)} rows matches where {where}")
    logger.info("%s: %d of %d rows match where", label, len(kept), len(table))
    return select_matching(table, kept)


def _require_column(table: Table, column: str, *, label: str) -> columns.Path:
    path = columns.column_path(table, column)
    if path is None:
        raise InputError(f"{label}: where: no column {column!r}; the columns are {', '.join(table.column_names)}")
    return path
