"""Where recordings come from: a Hub dataset or a folder, opened as rows that are read one at a time, undecoded.

`datasets` decodes audio, and even opens audio folders, through torchcodec, which needs FFmpeg. Here audio stays
undecoded, and a folder of recordings with its metadata file is read directly, by the same rules.
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

# Our columns. Text and recording must be there; a constant of the source stands for a column of the same name.
AUDIO_COLUMNS = ("audio", "ref_audio")
LISTED_AUDIO = {"ref_speakers": "ref_audio", "turns": "audio"}  # lists of mappings, and the recording in each
COLUMNS = ("id", "text", *CONSTANTS, "task", *AUDIO_COLUMNS, "ref_text", *LISTED_AUDIO)
REQUIRED = ("text", "audio")  # unless there are turns, which have both
SOURCE_KEYS = ("path", "name", "split", "revision", "files", "where", "streaming", "weight", "columns", *CONSTANTS)

DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class Source:
    """One corpus, open.

    Attributes:
        label: path and split, as messages and rejects name it.
        table: the rows as they are stored.
        columns: our column to the corpus's.
        constants: our column to the value that all rows have.
        weight: share in the mixture, relative to the other sources; None takes all rows.
        folder: where recordings lie that rows name by path; None where rows must hold the bytes (a Hub dataset).
        class_names: of each column that is stored as numbers of classes.
    """

    label: str
    table: Table
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    weight: float | None
    folder: Path | None
    class_names: Mapping[str, ClassLabel]

    def row(self, index: int) -> SourceRow:
        """The row under our column names; a recording is a cell {"path", "bytes"} or None.

        Raises:
            RejectedRow: a recording's path leaves the source's folder, the column holds no recording, a list of
                mappings is none, or the table cannot read the row.
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
                if not isinstance(row[column], list) or not all(isinstance(each, Mapping) for each in row[column]):
                    detail = f"is {str(row[column])[:60]!r}, need a list of mappings; rename the column"
                    raise RejectedRow(RejectCode.INVALID_FIELD, column, detail)
                row[column] = [
                    {**each, audio: self._cell(each.get(audio), f"{column}.{position}")}
                    for position, each in enumerate(row[column])
                ]
        return row | self.constants

    def _cell(self, value: Any, column: str) -> Cell | None:
        if value is None:
            return None
        cell = {"path": value or None, "bytes": None} if isinstance(value, str) else value
        if not isinstance(cell, Mapping) or not {"path", "bytes"} <= cell.keys():
            detail = f"it is a {type(value).__name__}, need a file name or bytes"
            raise RejectedRow(RejectCode.NOT_A_RECORDING, column, detail)
        if cell["bytes"] is not None:
            return {"path": cell["path"], "bytes": cell["bytes"]}
        if cell["path"] is None:
            return None
        if self.folder is None:
            raise RejectedRow(RejectCode.NO_BYTES, column, "embed the recordings in the dataset")
        # Not resolved: in the Hub's cache every file is a link, and a person's own links are theirs to make.
        path = PurePath(cell["path"])
        if path.is_absolute() and path.is_relative_to(self.folder):
            path = path.relative_to(self.folder)
        if path.is_absolute() or ".." in path.parts:
            raise RejectedRow(RejectCode.OUTSIDE_FOLDER, column, f"{path.name}; move the recording into it")
        return {"path": str(self.folder / path), "bytes": None}


def open_sources(config: EncodeConfig) -> list[Source]:
    """Open each source of the recipe.

    Raises:
        InputError: an unknown key or column, a source that is not there, not readable or empty, a split that it does
            not have (names those it has), a missing column (names those there are), weights on some sources only.
    """
    specs = [_source_spec(entry) for entry in config.sources]
    weights = [spec.get("weight") for spec in specs]
    if None in weights and any(weight is not None for weight in weights):
        raise InputError("sources: some have a weight and some have none; give one to all or to none of them")
    with PartialState().main_process_first():  # the others find what it has downloaded
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
        raise InputError(f"sources: files of {path} go with a Hub id, and stand in place of name and split")
    if spec.get("streaming") and not is_hub_id(path):
        raise InputError(f"sources: streaming is for a dataset on the Hub, and {path} is none; leave streaming out")
    if spec.get("streaming"):
        table, folder = _open_stream(index, spec, split, config), None
    elif folder.is_dir():
        table, folder = _open_folder(folder, spec, split)
    elif is_hub_id(path):
        table, folder = open_hub(spec, split)
        if table is None:
            table, folder = _open_folder(folder, spec, split)
    else:
        raise InputError(f"sources: no such folder, and no Hub id of the form user/name: {path}")
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
    class_names = {o: features[t] for o, t in columns.items() if isinstance(features.get(t), ClassLabel)}
    constants = {key: spec[key] for key in CONSTANTS if spec.get(key) is not None}
    return Source(label, table, columns, constants, spec.get("weight"), folder, class_names)


def _open_stream(index: int, spec: dict[str, Any], split: str, config: EncodeConfig) -> StreamedTable:
    # Beside the corpus, where there is room for what is made of it; each process has a file of its own.
    place = Path(config.output_dir).expanduser().resolve()
    folder = place.with_name(f".{place.name}.{PartialState().process_index}-{index}.streaming")
    return StreamedTable(find_files(spec, split), folder, where=spec.get("where") or {})


def _stream_source(table: StreamedTable, label: str, spec: dict[str, Any], config: EncodeConfig) -> Source:
    """The source as its first file shows it, which stays open."""
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
    """The rows in which each of these columns of the corpus matches its pattern."""
    _require_columns(where, table.column_names, label=label)
    kept = matching_rows({column: table.column(column) for column in where}, where)
    if not kept:
        raise InputError(f"{label}: no row is left of {len(table)} by where {where}")
    logger.info("%s: %d of %d rows are as where says", label, len(kept), len(table))
    return select_matching(table, kept)


def _require_columns(where: Iterable[str], present: Sequence[str], *, label: str) -> None:
    for column in where:
        if column not in present:
            raise InputError(f"{label}: where names {column!r}, which is no column; it has {', '.join(present)}")


def _map_columns(spec: dict[str, Any], config: EncodeConfig, present: Sequence[str], *, label: str) -> dict[str, str]:
    own_ids = {"id": "__key__"} if "__key__" in present else {}  # of tar files
    wanted = own_ids | (config.columns or {}) | (spec.get("columns") or {})
    for ours in wanted:
        _require_known(ours, COLUMNS, field="columns")
    required = () if wanted.get("turns", "turns") in present else REQUIRED
    for ours in [*wanted, *required]:
        theirs = wanted.get(ours, ours)
        if theirs not in present:
            raise InputError(
                f"{label}: no column {theirs!r} for {ours}; it has {', '.join(present)}; name the right one under "
                f"columns, e.g. {{{ours}: {present[0]}}}"
            )
    return {ours: ours for ours in COLUMNS if ours in present} | wanted


def _open_folder(folder: Path, spec: dict[str, Any], split: str) -> tuple[Table, Path]:
    """A folder saved by `save_to_disk`, one with a metadata file beside the recordings, or one of parquet files."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        with explain_datasets(spec, split):
            saved = load_from_disk(folder)
        if isinstance(saved, DatasetDict):
            if split not in saved:
                raise InputError(f"{folder}: no split {split!r}; it has {', '.join(saved)}")
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
        raise InputError(f"{folder}: no split {split!r}; it has {', '.join(split_folders)}")
    if next(folder.rglob("*.parquet"), None) is None:
        raise InputError(
            f"{folder}: no corpus; need metadata.csv or metadata.jsonl (file_name, text, ...) beside the recordings, "
            "parquet files, or a folder made by save_to_disk"
        )
    with explain_datasets(spec, split):
        return DatasetTable(load_dataset(str(folder), spec.get("name"), split=split)), folder


def _audio_rows(metadata: Path) -> MetadataTable:
    """As in an audio folder: `file_name` is the audio column, and `ref_audio_file_name` is ref_audio."""
    names = {"file_name": "audio"} | {f"{column}_file_name": column for column in AUDIO_COLUMNS}
    rows = read_metadata(metadata)
    return MetadataTable([{names.get(key, key): value for key, value in row.items()} for row in rows])


def _require_default_split(folder: Path, split: str) -> None:
    if split != DEFAULT_SPLIT:
        raise InputError(f"{folder}: no split {split!r}; it has only one, leave split out")
