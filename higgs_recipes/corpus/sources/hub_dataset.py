"""Datasets on the Hub as tables. Only the files of the requested configuration and split are downloaded."""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Audio, ClassLabel, Dataset, Features, LargeList, List, load_dataset, load_dataset_builder
from datasets.builder import DatasetBuilder, GeneratorBasedBuilder
from datasets.config import HF_DATASETS_CACHE
from datasets.exceptions import DatasetBuildError, DatasetNotFoundError, DatasetsError
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from higgs_recipes.corpus.sources.parquet import check_parquet
from higgs_recipes.corpus.sources.table import Table, rejected_unicode
from higgs_recipes.corpus.sources.webdataset import WebDatasetTable
from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk
from higgs_recipes.hub.client import dataset_files
from higgs_recipes.hub.download import UNREADABLE_ANSWER, ask_hub, fetch, hub_reason
from higgs_recipes.hub.public import is_hub_id


# The branch with the Hub's own conversion of a dataset: <name>/<split>/0000.parquet ...
CONVERTED = "refs/convert/parquet"
PARQUET_ROWS = 100  # rows that are in memory at once while a parquet file is read


@dataclass(frozen=True)
class HubFiles:
    """The files of a source, not downloaded.

    Attributes:
        commit: commit of the repository.
        contents: path to the Hub's hash of the content, in the order of the rows.
        features: the columns by the dataset's card, None if it does not have them.
    """

    repo: str
    commit: str
    contents: dict[str, str]
    features: Features | None


class DatasetTable(Sequence):
    """The rows of a `datasets.Dataset`; audio is not decoded.

    Args:
        folder: folder that paths of recordings are relative to; None: rows must contain the recordings.
    """

    streamed = False

    def __init__(self, dataset: Dataset, *, folder: Path | None = None) -> None:
        self._folder = folder
        for name, feature in dataset.features.items():
            if isinstance(feature, Audio) and feature.decode:
                dataset = dataset.cast_column(name, Audio(decode=False))
        self._dataset = dataset

    @property
    def column_names(self) -> list[str]:
        return self._dataset.column_names

    @property
    def features(self) -> Mapping[str, Any]:
        return self._dataset.features

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with rejected_unicode():
            return self._dataset[index]

    def recordings_folder(self, index: int) -> Path | None:
        return self._folder

    def column(self, name: str) -> Sequence[Any]:
        return self._dataset[name] if name in self.column_names else [None] * len(self)

    def broken(self) -> Sequence[int]:
        return ()

    def select(self, indices: Sequence[int]) -> "DatasetTable":
        return DatasetTable(self._dataset.select(indices), folder=self._folder)

    def use_columns(self, names: Sequence[str]) -> None:
        self._dataset = self._dataset.select_columns(list(names))
        for name, feature in self._dataset.features.items():
            # Only the needed columns, because casting audio in a list copies it.
            if _undecoded(feature) != feature:
                self._dataset = self._dataset.cast_column(name, _undecoded(feature))

    def close(self) -> None:
        """Do nothing: the files belong to the cache of `datasets`."""


def _undecoded(feature: Any) -> Any:
    """The feature with `decode=False` in all audio in it."""
    if isinstance(feature, Audio):
        return Audio(decode=False)
    if isinstance(feature, (List, LargeList)):
        return replace(feature, feature=_undecoded(feature.feature))
    if isinstance(feature, dict):
        return {name: _undecoded(inner) for name, inner in feature.items()}
    return feature


def find_files(spec: dict[str, Any], split: str) -> HubFiles:
    """The .parquet or .tar files that `open_hub` would read, in the same order.

    Raises:
        InputError: as `open_hub`, a part of a split, or files of other formats.
    """
    path, name, revision = spec["path"], spec.get("name"), spec.get("revision")
    if "[" in split:
        raise InputError(f"{path}: split {split!r} is a part of a split; streaming requires whole splits, or files")
    with explain_datasets(spec, split):
        commit, contents = ask_hub(
            f"dataset '{path}' could not be fetched",
            lambda: dataset_files(path, revision=revision),
            raises=(HfHubHTTPError, HTTPError),
        )
        features = None
        if spec.get("files") or revision == CONVERTED:
            patterns = [spec["files"]] if spec.get("files") else _converted_patterns(name, split).values()
            paths = [file for pattern in patterns for file in _matching(path, contents, pattern, revision=revision)]
        else:
            builder = load_dataset_builder(path, name, revision=revision)
            features = builder.info.features
            available = builder.config.data_files or {}
            parts = list(available) if split == "all" else split_names(split)
            _require_splits(path, parts, available)
            paths = [url.partition("@")[2].partition("/")[2] for part in parts for url in available[part]]
    endings = {PurePosixPath(file).suffix for file in paths}
    if endings not in ({".parquet"}, {".tar"}):
        raise InputError(
            f"{path}: streaming requires .parquet or .tar files, found {', '.join(sorted(endings))}; set "
            f"revision: {CONVERTED}, or leave streaming out"
        )
    return HubFiles(path, commit, {file: contents[file] for file in paths}, features)


def open_hub(spec: dict[str, Any], split: str) -> tuple[Table | None, Path | None]:
    """Open a source on the Hub: its rows, or the folder of the snapshot if it has recordings with a metadata file.

    Raises:
        InputError: missing, private or gated repository; unknown name, split or revision; no file matches `files`, or
            files of other formats.
    """
    path, name, revision = spec["path"], spec.get("name"), spec.get("revision")
    if spec.get("files"):
        found = _fetch_matching(path, spec["files"], revision=revision)
        endings = {file.suffix for file in found}
        if endings == {".tar"}:
            return WebDatasetTable(found), None
        if endings != {".parquet"}:
            raise InputError(f"{path}: files must match .parquet or .tar files, found {', '.join(sorted(endings))}")
        with explain_datasets(spec, split):
            return DatasetTable(load_parquet({split: found}, split)), None
    if revision == CONVERTED:
        parts = _converted_patterns(name, split)
        files = {part: _fetch_matching(path, pattern, revision=revision) for part, pattern in parts.items()}
        with explain_datasets(spec, split):
            return DatasetTable(load_parquet(files, split)), None

    with explain_datasets(spec, split):
        builder = load_dataset_builder(path, name, revision=revision)
        if isinstance(builder, AudioFolder):
            pattern = _folder_pattern(builder, split)
            return None, fetch(path, repo_type="dataset", revision=revision, allow_patterns=pattern).folder
        if isinstance(builder, GeneratorBasedBuilder):
            raise InputError(
                f"{path}: `datasets` needs FFmpeg to read its files; set revision: {CONVERTED}, which the Hub has for "
                "most datasets, or set files to its .tar files"
            )
        available = builder.config.data_files
        wanted = set(available) if split == "all" else set(split_names(split))
        if isinstance(builder, Parquet):
            _require_splits(path, sorted(wanted), available)
            files = {
                part: _fetch_urls(path, available[part], revision=revision) for part in available if part in wanted
            }
            return DatasetTable(load_parquet(files, split, features=builder.info.features)), None
        if wanted == available.keys():
            return DatasetTable(load_dataset(path, name, split=split, revision=revision)), None
        _require_splits(path, sorted(wanted), available)
        # `load_dataset(path)` would download every split of this configuration.
        replaced = ("name", "version", "data_dir", "data_files", "description")
        options = {key: value for key, value in vars(builder.config).items() if key not in replaced}
        options["features"] = builder.info.features or options["features"]
        files = {part: list(available[part]) for part in wanted}
        module = builder.__module__.rpartition(".")[2]
        return DatasetTable(load_dataset(module, data_files=files, split=split, **options)), None


def load_parquet(files: Mapping[str, Sequence[Path]], split: str, *, features: Features | None = None) -> Dataset:
    """The rows of parquet files on this machine.

    Args:
        files: the files of each split.
        split: a split, or an expression of splits.

    Raises:
        InputError: as `check_parquet`.
    """
    for path in (path for paths in files.values() for path in paths):
        check_parquet(path)
    # Names of files are names here, and patterns to `datasets`.
    names = {part: [glob.escape(str(path)) for path in paths] for part, paths in files.items()}
    return load_dataset("parquet", data_files=names, split=split, features=features, batch_size=PARQUET_ROWS)


def class_names(features: Mapping[str, Any], path: Sequence[str]) -> ClassLabel | None:
    """The labels of a column, or of a field in it, that is stored as class indexes; None for others."""
    feature: Any = features
    for part in path:
        feature = feature.get(part) if isinstance(feature, Mapping) else None
    return feature if isinstance(feature, ClassLabel) else None


def split_names(split: str) -> list[str]:
    """The splits in an expression: train.a and train.b for "train.a[:10%]+train.b"."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def _converted_patterns(name: str | None, split: str) -> dict[str, str]:
    folders = {part: f"{name or 'default'}/{part}" for part in split_names(split)}
    return {part: f"{glob.escape(folder)}/*.parquet" for part, folder in folders.items()}


def _require_splits(path: str, wanted: Iterable[str], available: Iterable[str]) -> None:
    for part in wanted:
        if part not in available:
            raise InputError(f'{path}: Unknown split "{part}". Should be one of {list(available)}')


def _fetch_urls(path: str, urls: Iterable[str], *, revision: str | None) -> list[Path]:
    """Download files by their addresses: hf://datasets/<repository>@<revision>/<file>."""
    names = [url.partition("@")[2].partition("/")[2] for url in urls]
    patterns = [glob.escape(name) for name in names]
    snapshot = fetch(path, repo_type="dataset", revision=revision, allow_patterns=patterns).folder
    return [snapshot / name for name in names]


def _fetch_matching(path: str, pattern: str, *, revision: str | None) -> list[Path]:
    snapshot = fetch(path, repo_type="dataset", revision=revision, allow_patterns=[pattern]).folder
    # The snapshot may have files that were downloaded for another source.
    files = [file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file()]
    return [snapshot / file for file in _matching(path, files, pattern, revision=revision)]


def _matching(path: str, files: Iterable[str], pattern: str, *, revision: str | None) -> list[str]:
    found = sorted(file for file in files if fnmatchcase(file, pattern))
    if not found:
        at = f" at revision {revision}" if revision else ""
        raise InputError(f"{path}{at}: no file matches {pattern}; its page on the Hub lists the files")
    return found


def _folder_pattern(builder: DatasetBuilder, split: str) -> list[str] | None:
    """What to download of an audio folder: the folder of the split if it has all of its files, else everything."""
    patterns = []
    for part in split_names(split):
        files = (builder.config.data_files or {}).get(part) or []
        if not files or not all(f"/{part}/" in file.partition("@")[2] for file in files):
            return None
        patterns.append(f"{glob.escape(part)}/*")
    return patterns


@contextmanager
def explain_datasets(spec: dict[str, Any], split: str) -> Iterator[None]:
    """Turn errors of `datasets` about a source that cannot be read into an `InputError`."""
    path = spec["path"]
    wanted = f"dataset '{path}'" + "".join(f", {key} {spec[key]!r}" for key in ("name", "revision") if spec.get(key))
    try:
        with explain_full_disk(HF_DATASETS_CACHE):
            yield
    except InputError:
        raise
    except DatasetNotFoundError as error:
        raise InputError(
            f"{wanted}: {error}; check the name, or run `hf auth login` with an account that may read it"
        ) from error
    except (HfHubHTTPError, HTTPError) as error:
        raise InputError(f"{wanted} could not be fetched: {hub_reason(error)}") from error
    except DatasetBuildError as error:
        raise InputError(f"{wanted}, split {split!r}: its files cannot be read: {error.__cause__ or error}") from error
    except (DatasetsError, ValueError, RuntimeError, OSError, *UNREADABLE_ANSWER) as error:
        # An unknown split or name (the message has the existing ones), no data files, a loading script, no connection.
        is_unreadable = isinstance(error, UNREADABLE_ANSWER) and is_hub_id(path)
        raise InputError(f"{wanted}, split {split!r}: {hub_reason(error) if is_unreadable else error}") from error
