"""The datasets of benchmarks: any columns, with recordings as bytes or as files of a local folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, HTTPError

from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.corpus.sources.cells import as_cell, is_null
from higgs_recipes.corpus.sources.hub_dataset import CONVERTED, class_names, explain_datasets, open_hub
from higgs_recipes.corpus.sources.local_folder import open_folder
from higgs_recipes.corpus.sources.paths import LINK_HINT, SourceFolder
from higgs_recipes.corpus.sources.table import Table
from higgs_recipes.errors import InputError, shown
from higgs_recipes.hub.client import dataset_commit
from higgs_recipes.hub.download import ask_hub
from higgs_recipes.hub.public import is_hub_id


@dataclass(frozen=True)
class Origin:
    """What metrics.json says of a dataset.

    Attributes:
        commit: of a dataset on the Hub.
        split: None for a file of texts, which has no splits.
    """

    commit: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class BenchmarkTable:
    """A split of a benchmark's dataset.

    Attributes:
        where: dataset and split, for messages.
        files: the folder that recordings must be in; None: rows contain the bytes.
        columns: the protocol's name of a column to the dataset's, where they differ.
        origin: commit and split.
    """

    table: Table
    where: str
    files: SourceFolder | None
    columns: Mapping[str, str]
    origin: Origin

    def __len__(self) -> int:
        return len(self.table)

    def has(self, column: str) -> bool:
        """Whether the dataset has a column, by the protocol's name."""
        return self.columns.get(column, column) in self.table.column_names

    def value(self, index: int, column: str) -> Any:
        """The value of a column by the protocol's name, a class by its label; None if it is missing or empty."""
        return self._read(column, self._stored(column)[index]) if self.has(column) else None

    def column(self, column: str) -> list[Any]:
        """The values of a column of all rows, as from `value`."""
        return [self._read(column, value) for value in self._stored(column)]

    def _stored(self, column: str) -> Sequence[Any]:
        return self.table.column(self.columns.get(column, column))

    def _read(self, column: str, value: Any) -> Any:
        label = class_names(self.table.features, [self.columns.get(column, column)])
        if label is not None and value is not None:
            return None if value == -1 else label.int2str(value)
        return None if is_null(value) or (isinstance(value, str) and not value) else value

    def text(self, index: int, column: str) -> str:
        """The text of a column.

        Raises:
            InputError: it is missing or no text.
        """
        value = self.value(index, column)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{self.where}, row {index}: no text in column {self.columns.get(column, column)}")
        return value

    def id(self, index: int) -> str:
        """The column `id`, or the number of the row."""
        value = self.value(index, "id")
        return str(index if value is None else value)

    def language(self, index: int) -> str | None:
        """The language of a row; None if it names none.

        Raises:
            InputError: it is not text.
        """
        value = self.value(index, "language")
        if value is not None and not isinstance(value, str):
            raise InputError(f"{self.where}, row {index}: language is {shown(value)}: it must be a code or a name")
        return value

    def require(self, columns: Sequence[str]) -> None:
        """Raise `InputError` if the dataset lacks columns, by the protocol's names."""
        stored = [self.columns.get(column, column) for column in columns]
        missing = [column for column in stored if column not in self.table.column_names]
        if missing:
            raise InputError(
                f"{self.where}: no column {', '.join(missing)}; the columns are {', '.join(self.table.column_names)}: "
                "map them with `columns`"
            )

    def recording(self, index: int, value: Any, *, name: str) -> AudioSource | None:
        """A recording of a row: its bytes, or the path of a file in the folder; None if the row has none.

        Raises:
            InputError: not a recording, or its file is missing or outside the folder.
        """
        try:
            cell = as_cell(value, field=name)
            if cell is None or cell["bytes"] is not None:
                return None if cell is None else cell["bytes"]
            folder = self.table.recordings_folder(index)
            if self.files is None or folder is None:
                raise InputError(f"{name} has no bytes: a path is never opened in a dataset of the Hub")
            return self.files.root / self.files.resolve(cell["path"], field=name, folder=folder)
        except InputError as error:
            raise InputError(f"{self.where}, row {index}: {error}") from error


def open_benchmark(config: EvaluateConfig, columns: Mapping[str, str] | None = None) -> BenchmarkTable:
    """Open the dataset of the recipe: a Hub dataset or a folder.

    Args:
        columns: the protocol's names of columns to those of its published dataset; the recipe's take precedence.

    Raises:
        InputError: no such dataset or split, or it has no rows.
    """
    spec = {"path": config.dataset, "split": config.split, "revision": config.dataset_revision}
    where, folder, table = f"{config.dataset}, split {config.split}", Path(config.dataset).expanduser(), None
    commit = None
    if not folder.is_dir():
        if not is_hub_id(config.dataset):
            raise InputError(f"dataset {config.dataset} is neither a folder nor a Hub id (user/name)")
        commit = find_commit(spec, config.split)
        if config.dataset_revision != CONVERTED:  # which open_hub knows by its name
            spec["revision"] = commit
        table, hub_folder = open_hub(spec, config.split)
        folder = hub_folder or folder
    is_on_hub = table is not None
    if table is None:
        table = open_folder(folder, spec, config.split)
    if not len(table):
        raise InputError(f"{where}: no rows to evaluate")
    names = dict(columns or {}) | (config.columns or {})
    files = None if is_on_hub else SourceFolder(folder, link_hint=LINK_HINT, shows_paths=False)
    return BenchmarkTable(table, where, files, names, Origin(commit, config.split))


def find_commit(spec: dict[str, Any], split: str) -> str:
    """The commit of a source.

    Raises:
        InputError: missing, private or gated repository, or no such revision.
    """
    path, revision = spec["path"], spec.get("revision")
    with explain_datasets(spec, split):
        return ask_hub(
            f"dataset '{path}' could not be fetched",
            lambda: dataset_commit(path, revision=revision),
            raises=(HfHubHTTPError, HTTPError),
        )
