"""Open local folders: made by `save_to_disk`, recordings with a metadata file, parquet files, or tar files."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import ReadInstruction, load_from_disk

from higgs_recipes.corpus.sources.hub_dataset import DatasetTable, explain_datasets, load_parquet, split_names
from higgs_recipes.corpus.sources.lines import json_object
from higgs_recipes.corpus.sources.metadata import METADATA_FILES, find_metadata, open_metadata
from higgs_recipes.corpus.sources.paths import named_recordings, require_file_inside, unnamed_recordings
from higgs_recipes.corpus.sources.table import ConcatTable, Table
from higgs_recipes.corpus.sources.webdataset import WebDatasetTable
from higgs_recipes.errors import InputError
from higgs_recipes.files import file_inside
from higgs_recipes.rejects import RejectedRow
from higgs_recipes.safe_yaml import load_yaml


logger = logging.getLogger(__name__)

DEFAULT_SPLIT = "train"
# As audio folders have it: the column of recordings, and that of reference clips.
RENAMED = {"file_name": "audio", "audio_file_name": "audio", "ref_audio_file_name": "ref_audio"}
# What `datasets` takes for the name of a split in names of folders and files.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5,}(-[^/]*)?")
_SHARD_COUNT = re.compile(r"-\d{5}-of-(\d{5,})")

Opener = Callable[[], Table]


def open_folder(folder: Path, spec: Mapping[str, Any], split: str) -> Table:
    """Open a split, or several joined by `+`, of a folder.

    Raises:
        InputError: not a corpus, an unknown split, files that cannot be read, or that lead out of the folder.
    """
    splits = _find_splits(folder, spec)
    if None in splits:
        if split != DEFAULT_SPLIT and "[" not in split:
            raise InputError(f"{folder}: no split {split!r}; the folder has no splits, leave split out")
        splits = {DEFAULT_SPLIT: splits[None]}
    return _open_splits(folder, splits, split)


def _open_splits(folder: Path, splits: Mapping[str, Opener], split: str) -> Table:
    parts = list(splits) if split == "all" else [split] if split in splits else split.split("+")
    names = {part: part if part in splits else split_names(part)[0] for part in parts}
    for name in names.values():
        if name not in splits:
            raise InputError(f"{folder}: no split {name!r}; the splits are {', '.join(sorted(splits))}")
    opened = {name: splits[name]() for name in dict.fromkeys(names.values())}
    tables = []
    for part, name in names.items():
        table = opened[name]
        if part != name:
            with explain_datasets({"path": str(folder)}, split):
                instruction = ReadInstruction.from_spec(part.strip().replace(name, DEFAULT_SPLIT, 1))
                (rows,) = instruction.to_absolute({DEFAULT_SPLIT: len(table)})
            chosen = range(len(table))[rows.from_ : rows.to]
            if not chosen:
                raise InputError(f"{folder}: split {part.strip()!r} has no rows: {name} has {len(table)}")
            table = table.select(chosen)
        tables.append(table)
    return tables[0] if len(tables) == 1 else ConcatTable(tables)


def _find_splits(folder: Path, spec: Mapping[str, Any]) -> dict[str | None, Opener]:
    """How to open each split; the key is None for a folder without splits."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _saved_splits(folder)
    if not spec.get("files"):
        if found := find_metadata(folder):
            return {None: lambda: _audio_rows(found, folder)}
        metadata = {path.parent: path for name in METADATA_FILES for path in folder.glob(f"*/{name}")}
        if metadata:
            found_in = {split_folder.name: find_metadata(split_folder) for split_folder in sorted(metadata)}
            return {name: lambda path=path: _audio_rows(path, folder) for name, path in found_in.items()}
    files = _data_files(folder, spec)
    endings = {PurePosixPath(name).suffix for name in files}
    if not files:
        raise InputError(
            f"{folder} is not a corpus: expected recordings with metadata.csv or metadata.jsonl (file_name, text, "
            "...), parquet files, tar files, or a folder made by save_to_disk"
        )
    if len(endings) > 1:
        raise InputError(f"{folder} has parquet files and tar files; set files, e.g. files: '*.parquet'")
    open_files = _open_tar if endings == {".tar"} else _open_parquet
    splits: dict[str | None, list[str]] = {}
    for name, split in files.items():
        splits.setdefault(split, []).append(name)
    return {split: lambda names=names: open_files(folder, names) for split, names in splits.items()}


def _saved_splits(folder: Path) -> dict[str | None, Opener]:
    folders: dict[str | None, Path] = {None: folder}
    if (folder / "dataset_dict.json").is_file():
        names = _read_json(folder / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{folder / 'dataset_dict.json'}: splits must be a list of names")
        folders = {name: folder / name for name in names}
    for name, place in folders.items():
        state = _read_json(_inside(folder, "state.json" if name is None else f"{name}/state.json", "splits"))
        data_files = state.get("_data_files")
        for data_file in data_files if isinstance(data_files, list) else [None]:
            file = data_file.get("filename") if isinstance(data_file, dict) else None
            _inside(place, file, f"{place / 'state.json'}: filename")

    def open_saved(name: str | None) -> Table:
        with explain_datasets({"path": str(folder)}, name or DEFAULT_SPLIT):
            saved = load_from_disk(folder if name is None else folder / name)
            return DatasetTable(saved, folder=folder)

    return {name: lambda name=name: open_saved(name) for name in folders}


def _inside(folder: Path, name: Any, field: str) -> Path:
    if not isinstance(name, str) or not name.isprintable():
        raise InputError(f"{field} is {name!r}: it must name a file")
    return file_inside(folder, name, field=field)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json_object(path.read_bytes())
    except (RejectedRow, OSError) as error:
        raise InputError(f"{path}: {error}; save the dataset again with save_to_disk") from error


def _audio_rows(metadata: Path, root: Path) -> Table:
    require_file_inside(metadata, root)
    table = open_metadata(metadata, renamed=RENAMED)
    columns = (table.column(name) for name in table.column_names)
    named = {path for cells in columns for path in named_recordings(cells, metadata.parent)}
    for message in unnamed_recordings(metadata, named):
        logger.warning("%s", message)
    return table


def _data_files(folder: Path, spec: Mapping[str, Any]) -> dict[str, str | None]:
    """Paths of the .parquet and .tar files below a folder, and their splits."""
    names = []
    for place, folders, files in os.walk(folder):
        relative = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in [name for name in folders if (Path(place) / name).is_symlink()]:
            logger.warning("%s: the linked folder %s is not read; give it as a source", folder, relative / name)
        for name in sorted(files):
            if name.endswith((".parquet", ".tar")) and not name.startswith(".") and (Path(place) / name).is_file():
                names.append((relative / name).as_posix())
    if pattern := spec.get("files"):
        matching = dict.fromkeys((name for name in names if fnmatchcase(name, pattern)), None)
        if not matching:
            raise InputError(f"{folder}: no .parquet or .tar file matches files {pattern!r}")
        return matching
    _warn_of_missing_shards(folder, names)
    configs = _card_configs(folder)
    if spec.get("name") or configs:
        return _configured_files(folder, configs, names, spec.get("name"))
    return {name: _split_of(name) for name in names}


def _split_of(name: str) -> str:
    """The split of a data file by its path.

    >>> [_split_of(name) for name in ("data/train.clean-00000-of-00001.parquet", "dev/0.parquet", "part1.tar")]
    ['train.clean', 'validation', 'train']
    """
    path = PurePosixPath(name)
    if shard := _SHARD.fullmatch(path.stem):
        return shard[1]
    words = (word for part in path.with_suffix("").parts for word in re.split(r"[^a-zA-Z0-9]+", part.lower()))
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), DEFAULT_SPLIT)


def _card_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """The configurations that the head of README.md names, as datasets on the Hub have them."""
    card = folder / "README.md"
    head = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace"), re.S) if card.is_file() else None
    try:
        content = load_yaml(head[1]) if head else None
    except InputError as error:
        raise InputError(f"{card}: its head cannot be read: {error}") from error
    configs = content.get("configs") if isinstance(content, dict) else None
    if not isinstance(configs, list | None):
        raise InputError(f"{card}: configs in its head is not a list")
    entries = [entry for entry in configs or [] if isinstance(entry, dict) and "data_files" in entry]
    return {str(entry.get("config_name", "default")): entry for entry in entries}


def _configured_files(
    folder: Path, configs: Mapping[str, dict[str, Any]], names: Sequence[str], wanted: str | None
) -> dict[str, str | None]:
    if wanted is None:
        defaults = [name for name, entry in configs.items() if entry.get("default") or name == "default"]
        wanted = defaults[0] if defaults else next(iter(configs)) if len(configs) == 1 else None
    if wanted not in configs:
        raise InputError(f"{folder}: no configuration {wanted!r}; set name to one of {', '.join(configs) or 'none'}")
    data_files = configs[wanted]["data_files"]
    if not (isinstance(data_files, list) and all(isinstance(entry, dict) for entry in data_files)):
        data_files = [{"split": DEFAULT_SPLIT, "path": data_files}]
    found: dict[str, str | None] = {}
    for entry in data_files:
        paths = entry.get("path")
        for pattern in paths if isinstance(paths, list) else [paths]:
            matching = [name for name in names if fnmatchcase(name, str(pattern).removeprefix("./"))]
            found |= dict.fromkeys(matching, str(entry.get("split", DEFAULT_SPLIT)))
    if not found:
        raise InputError(
            f"{folder}: README.md has a configuration {wanted!r} whose data_files match no .parquet or .tar file: set "
            "files, e.g. files: '*.parquet'"
        )
    return found


def _warn_of_missing_shards(folder: Path, names: Sequence[str]) -> None:
    """Log which files of a split are missing, by their names: train-00000-of-00002.parquet is one of two."""
    counts: Counter[tuple[str, int]] = Counter()
    for name in names:
        if match := _SHARD_COUNT.search(name):
            counts[name[: match.start()], int(match[1])] += 1
    for (start, expected), count in counts.items():
        if count < expected:
            logger.warning("%s: %d of %d files %s-* are there: the split is not whole", folder, count, expected, start)


def _open_parquet(folder: Path, names: Sequence[str]) -> Table:
    """The files of each folder are a table, as rows may name recordings beside their file."""
    places: dict[Path, list[Path]] = {}
    for name in names:
        require_file_inside(folder / name, folder)
        places.setdefault((folder / name).parent, []).append(folder / name)
    tables = []
    for place, paths in places.items():
        with explain_datasets({"path": str(place)}, DEFAULT_SPLIT):
            tables.append(DatasetTable(load_parquet({DEFAULT_SPLIT: paths}, DEFAULT_SPLIT), folder=place))
    return tables[0] if len(tables) == 1 else ConcatTable(tables)


def _open_tar(folder: Path, names: Sequence[str]) -> Table:
    for name in names:
        require_file_inside(folder / name, folder)
    return WebDatasetTable([folder / name for name in names])
