"""Open the sources of a corpus, Hub datasets and folders, as rows that are read one at a time.

`datasets` uses torchcodec, which needs FFmpeg, to decode audio and to open audio folders. Here audio stays undecoded,
and a folder of recordings with a metadata file is read directly, by the same rules.
"""

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from accelerate import PartialState
from datasets import ClassLabel, DatasetDict, load_dataset, load_from_disk

from higgs_recipes.configs.corpus import CONSTANTS, EncodeConfig
from higgs_recipes.corpus.rows import Cell, SourceRow
from higgs_recipes.corpus.sources.hub_dataset import DatasetTable, explain_datasets, find_files, open_hub
from higgs_recipes.corpus.sources.metadata import METADATA_FILES, MetadataTable, find_metadata, read_metadata
from higgs_recipes.corpus.sources.streamed import StreamedTable
from higgs_recipes.corpus.sources.table import Table, matching_rows, select_matching
from higgs_recipes.errors import InputError
from higgs_recipes.hub.public import is_hub_id
from higgs_recipes.rejects import RejectCode, RejectedRow


logger = logging.getLogger(__name__)

# Our columns. A constant of the source replaces the column of the same name.
AUDIO_COLUMNS = ("audio", "ref_audio")
LISTED_AUDIO = {"ref_speakers": "ref_audio", "turns": "audio"}  # lists of mappings: the key of the recording in each
COLUMNS = ("id", "text", *CONSTANTS, "task", *AUDIO_COLUMNS, "ref_text", *LISTED_AUDIO)
REQUIRED = ("text", "audio")  # unless the rows have turns, which have both
SOURCE_KEYS = ("path", "name", "split", "revision", "files", "where", "streaming", "weight", "columns", *CONSTANTS)

DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class Source:
    """An open source.

    Attributes:
        label: path and split, as in messages and rejects.
        table: the stored rows.
        columns: our column to the source's column.
        constants: our column to a value for all rows.
        weight: weight in the mixture; None: all rows are used.
        folder: folder of the recordings that rows name by path; None: rows must contain the bytes (Hub datasets).
        class_names: labels of our columns that are stored as class indexes.
    """

    label: str
    table: Table
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    weight: float | None
    folder: Path | None
    class_names: Mapping[str, ClassLabel]

    def row(self, index: int) -> SourceRow:
        """A row under our column names; a recording is a cell {"path", "bytes"} or None.

        Raises:
            RejectedRow: the path of a recording is outside the source's folder, a column contains no recording or no
                list of mappings, or the table cannot read the row.
        """
        stored = self.table[index]
        row = {ours: stored.get(theirs) for ours, theirs in self.columns.items()}
        for ours, label in self.class_names.items():
            row[ours] = None if row[ours] is None else label.int2str(row[ours])
        for column in AUDIO_COLUMNS:
            if column in row:
                row[column] = self._cell(row[column], column)
        for column, audio in LISTED_AUDIO.items():
            if row.get(column):
                if not isinstance(row[column], list) or not all(isinstance(entry, Mapping) for entry in row[column]):
                    detail = f"is {str(row[column])[:60]!r}, expected a list of mappings; rename the column"
                    raise RejectedRow(RejectCode.INVALID_FIELD, column, detail)
                row[column] = [
                    {**entry, audio: self._cell(entry.get(audio), f"{column}.{position}")}
                    for position, entry in enumerate(row[column])
                ]
        return row | self.constants

    def _cell(self, value: Any, column: str) -> Cell | None:
        if value is None:
            return None
        cell = {"path": value or None, "bytes": None} if isinstance(value, str) else value
        if not isinstance(cell, Mapping) or not {"path", "bytes"} <= cell.keys():
            detail = f"found {type(value).__name__}, expected a file name or bytes"
            raise RejectedRow(RejectCode.NOT_A_RECORDING, column, detail)
        if cell["bytes"] is not None:
            return {"path": cell["path"], "bytes": cell["bytes"]}
        if cell["path"] is None:
            return None
        if self.folder is None:
            raise RejectedRow(RejectCode.NO_BYTES, column, "store the recordings in the dataset")
        # Links are not resolved: in the Hub's cache every file is a link.
        path = PurePath(cell["path"])
        if path.is_absolute() and path.is_relative_to(self.folder):
            path = path.relative_to(self.folder)
        if path.is_absolute() or ".." in path.parts:
            raise RejectedRow(RejectCode.OUTSIDE_FOLDER, column, f"{path.name}; move the recording into it")
        return {"path": str(self.folder / path), "bytes": None}


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
    spec = {"path": entry} if isinstance(entry, str) else entry
    for key, value in spec.items():
        _require_known(key, SOURCE_KEYS, field="sources")
        types = {"weight": (int, float), "columns": (dict,), "where": (dict,), "streaming": (bool,)}
        expected = types.get(key, (str,))
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool) != (bool in expected)):
            raise InputError(f"sources: {key} is {value!r}; it must be {' or '.join(t.__name__ for t in expected)}")
    if not spec.get("path"):
        raise InputError(f"sources: {spec} has no path; name a Hub id or a folder")
    if spec.get("weight") is not None and not 0 < spec["weight"] < float("inf"):
        raise InputError(f"sources: weight of {spec['path']} is {spec['weight']}; it must be positive")
    return spec


def _require_known(name: str, known: Sequence[str], *, field: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"{field}: unknown key {name!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}")
        )


def _open(index: int, spec: dict[str, Any], config: EncodeConfig) -> Source:
    path, split = spec["path"], spec.get("split") or DEFAULT_SPLIT
    folder: Path | None = Path(path).expanduser()
    if spec.get("files") and (folder.is_dir() or spec.get("split") or spec.get("name")):
        raise InputError(f"sources: files of {path} requires a Hub id, and cannot be combined with name or split")
    if spec.get("streaming") and not is_hub_id(path):
        raise InputError(
            f"sources: streaming requires a dataset on the Hub, and {path} is not one; leave streaming out"
        )
    if spec.get("streaming"):
        table, folder = _open_stream(index, spec, split, config), None
    elif folder.is_dir():
        table, folder = _open_folder(folder, spec, split)
    elif is_hub_id(path):
        table, folder = open_hub(spec, split)
        if table is None:
            table, folder = _open_folder(folder, spec, split)
    else:
        raise InputError(f"sources: {path} is neither a folder nor a Hub id (user/name)")
    label = f"{path}:{split}"
    if table.streamed:
        return _stream_source(table, label, spec, config)
    if not len(table):
        raise InputError(f"{label}: no rows")
    if spec.get("where"):
        table = _select_where(table, spec["where"], label=label)
    columns = _map_columns(spec, config, table.column_names, label=label)
    table.use_columns(sorted(set(columns.values())))
    return _source(label, table, columns, spec, folder)


def _source(label: str, table: Table, columns: dict[str, str], spec: dict[str, Any], folder: Path | None) -> Source:
    features = table.features
    class_names = {
        ours: features[stored] for ours, stored in columns.items() if isinstance(features.get(stored), ClassLabel)
    }
    constants = {key: spec[key] for key in CONSTANTS if spec.get(key) is not None}
    return Source(label, table, columns, constants, spec.get("weight"), folder, class_names)


def _open_stream(index: int, spec: dict[str, Any], split: str, config: EncodeConfig) -> StreamedTable:
    # Next to the corpus, on the disk that has room for it; each process has its own folder.
    output_dir = Path(config.output_dir).expanduser().resolve()
    folder = output_dir.with_name(f".{output_dir.name}.{PartialState().process_index}-{index}.streaming")
    return StreamedTable(find_files(spec, split), folder, where=spec.get("where") or {})


def _stream_source(table: StreamedTable, label: str, spec: dict[str, Any], config: EncodeConfig) -> Source:
    """Open a streamed source: its columns are those of the first file, which stays open."""
    try:
        table.open_file(0)
        _require_columns(table.where, table.column_names, label=label)
        columns = _map_columns(spec, config, table.column_names, label=label)
        table.use_columns(sorted(set(columns.values())))
        if "id" not in columns:  # rows are named by their number
            table.count()
        return _source(label, table, columns, spec, None)
    except InputError:
        table.close()
        raise


def _select_where(table: Table, where: dict[str, str], *, label: str) -> Table:
    """The rows whose columns match the patterns."""
    _require_columns(where, table.column_names, label=label)
    kept = matching_rows({column: table.column(column) for column in where}, where)
    if not kept:
        raise InputError(f"{label}: none of {len(table)} rows matches where {where}")
    logger.info("%s: %d of %d rows match where", label, len(kept), len(table))
    return select_matching(table, kept)


def _require_columns(where: Iterable[str], present: Sequence[str], *, label: str) -> None:
    for column in where:
        if column not in present:
            raise InputError(f"{label}: where: no column {column!r}; the columns are {', '.join(present)}")


def _map_columns(spec: dict[str, Any], config: EncodeConfig, present: Sequence[str], *, label: str) -> dict[str, str]:
    own_ids = {"id": "__key__"} if "__key__" in present else {}  # tar files
    wanted = own_ids | (config.columns or {}) | (spec.get("columns") or {})
    for ours in wanted:
        _require_known(ours, COLUMNS, field="columns")
    required = () if wanted.get("turns", "turns") in present else REQUIRED
    for ours in [*wanted, *required]:
        stored = wanted.get(ours, ours)
        if stored not in present:
            raise InputError(
                f"{label}: no column {stored!r} for {ours}; the columns are {', '.join(present)}; set columns, e.g. "
                f"{{{ours}: {present[0]}}}"
            )
    return {ours: ours for ours in COLUMNS if ours in present} | wanted


def _open_folder(folder: Path, spec: dict[str, Any], split: str) -> tuple[Table, Path]:
    """Open a folder made by `save_to_disk`, a folder of recordings with a metadata file, or one of parquet files."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        with explain_datasets(spec, split):
            saved = load_from_disk(folder)
        if isinstance(saved, DatasetDict):
            if split not in saved:
                raise InputError(f"{folder}: no split {split!r}; the splits are {', '.join(saved)}")
            return DatasetTable(saved[split]), folder
        _require_default_split(folder, split)
        return DatasetTable(saved), folder

    if found := find_metadata(folder):
        _require_default_split(folder, split)
        return _audio_rows(found), folder
    if found := find_metadata(folder / split):
        return _audio_rows(found), folder / split
    split_folders = sorted(inner.parent.name for name in METADATA_FILES for inner in folder.glob(f"*/{name}"))
    if split_folders:
        raise InputError(f"{folder}: no split {split!r}; the splits are {', '.join(split_folders)}")
    if next(folder.rglob("*.parquet"), None) is None:
        raise InputError(
            f"{folder} is not a corpus: expected recordings with metadata.csv or metadata.jsonl (file_name, text, "
            "...), parquet files, or a folder made by save_to_disk"
        )
    with explain_datasets(spec, split):
        return DatasetTable(load_dataset(str(folder), spec.get("name"), split=split)), folder


def _audio_rows(metadata: Path) -> MetadataTable:
    """Rename columns as audio folders do: `file_name` is audio, `ref_audio_file_name` is ref_audio."""
    names = {"file_name": "audio"} | {f"{column}_file_name": column for column in AUDIO_COLUMNS}
    rows = read_metadata(metadata)
    return MetadataTable([{names.get(key, key): value for key, value in row.items()} for row in rows])


def _require_default_split(folder: Path, split: str) -> None:
    if split != DEFAULT_SPLIT:
        raise InputError(f"{folder}: no split {split!r}; the folder has no splits, leave split out")
