"""Rows of a dataset on the Hub that does not fit the disk: one of its files is on disk at a time."""

import glob
import shutil
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Features
from huggingface_hub import HfFileSystem

from higgs_recipes.corpus.sources.hub_dataset import HubFiles, explain_datasets
from higgs_recipes.corpus.sources.parquet import ParquetTable
from higgs_recipes.corpus.sources.table import Table, matching_rows, select_matching
from higgs_recipes.corpus.sources.webdataset import WebDatasetTable
from higgs_recipes.hub.download import fetch


class StreamedTable(Sequence):
    """Rows by their index over all files; reading a row of another file replaces the file on disk.

    Until `set_counts` or `count` is called, numbers of rows are unknown, and indexes count from the first row of the
    open file.

    Args:
        folder: folder of the file on disk; all its content is removed.
        where: column to a pattern that rows must match.
    """

    streamed = True

    def __init__(self, files: HubFiles, folder: Path, *, where: Mapping[str, str]) -> None:
        self.files, self.folder, self.where = files, folder, where
        self.paths = list(files.contents)
        self._columns: Sequence[str] | None = None  # the needed columns; None: all
        self._starts: list[int] = []
        self._index: int | None = None
        self._rows: Table | None = None
        self.close()  # an interrupted run may have left its file

    def __len__(self) -> int:
        assert self._starts, "the files have not been counted"
        return self._starts[-1]

    def __getitem__(self, row: int) -> dict[str, Any]:
        if self._starts:
            self.open_file(bisect_right(self._starts, row) - 1)
        return self._rows[row - self.start(self._index)]

    def start(self, index: int) -> int:
        """Index of the first row of a file; 0 while it is unknown."""
        return self._starts[index] if self._starts else 0

    def set_counts(self, counts: Sequence[int]) -> None:
        """Set the number of rows of each file."""
        assert len(counts) == len(self.paths)
        self._starts = [0, *accumulate(counts)]

    def count(self) -> None:
        """Read the number of rows of each parquet file from the Hub: only file metadata and the columns of `where`."""
        with ThreadPoolExecutor(8) as pool, explain_datasets({"path": self.files.repo}, "count"):
            self.set_counts(list(pool.map(self._count_remote, self.paths)))

    def open_file(self, index: int) -> Table:
        """Open a file; it is downloaded unless it is on disk.

        Raises:
            InputError: it cannot be downloaded or read, or the disk is full.
        """
        if index != self._index:
            self.close()
            repo, path = self.files.repo, self.paths[index]
            options = {"revision": self.files.commit, "allow_patterns": [glob.escape(path)]}
            fetch(repo, repo_type="dataset", local_dir=self.folder, **options)
            with explain_datasets({"path": repo}, path):
                self._rows = self._read(self.folder / path)
            self._index = index
        if self._columns is not None:
            self._rows.use_columns(self._columns)
        return self._rows

    def close(self) -> None:
        """Remove the file on disk."""
        self._rows = self._index = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def use_columns(self, names: Sequence[str]) -> None:
        self._columns = names

    # The following refer to the open file.

    @property
    def column_names(self) -> Sequence[str]:
        return self._rows.column_names

    @property
    def features(self) -> Mapping[str, Any]:
        return self._rows.features

    def recordings_folder(self, index: int) -> Path | None:
        """None: rows contain their recordings."""

    def column(self, name: str) -> Sequence[Any]:
        return self._rows.column(name)

    def broken(self) -> Sequence[int]:
        return self._rows.broken()

    def select(self, indices: Sequence[int]) -> Table:
        return self._rows.select(indices)

    def _read(self, path: Path) -> Table:
        if path.suffix == ".tar":
            rows: Table = WebDatasetTable([path])
        else:
            rows = ParquetTable(path)
            rows.features = self.files.features or Features.from_arrow_schema(rows.schema)
        if not self.where:
            return rows
        columns = {column: rows.column(column) for column in self.where}
        return select_matching(rows, matching_rows(columns, self.where))

    def _count_remote(self, path: str) -> int:
        with HfFileSystem().open(f"datasets/{self.files.repo}@{self.files.commit}/{path}") as file:
            parquet = pq.ParquetFile(file)
            if not self.where:
                return parquet.metadata.num_rows
            columns = parquet.read(columns=list(self.where)).to_pydict()
            return len(matching_rows(columns, self.where))
