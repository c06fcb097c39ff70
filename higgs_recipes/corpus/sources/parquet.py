"""Read a parquet file one row group at a time, so that large files need little memory."""

import copy
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetTable(Sequence):
    """Rows as they are stored: a recording is a cell {"path", "bytes"}, a class label is an index.

    Attributes:
        schema: schema of the file.
        features: types of the columns; empty unless set after opening.

    Raises:
        pyarrow.ArrowInvalid: not a parquet file, or a damaged one.
    """

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self.schema: pa.Schema = self._file.schema_arrow
        self.column_names: list[str] = list(self.schema.names)
        self._columns: Sequence[str] = self.column_names
        groups = range(self._file.num_row_groups)
        self._starts = [0, *accumulate(self._file.metadata.row_group(group).num_rows for group in groups)]
        self._picked: Sequence[int] = range(self._starts[-1])
        self._group: tuple[int, Sequence[str], pa.Table] | None = None

    def __len__(self) -> int:
        return len(self._picked)

    def column(self, name: str) -> list[Any]:
        """The values of a column, without reading the others; None in all rows if the file does not have it."""
        if name not in self.column_names:
            return [None] * len(self)
        values = self._file.read(columns=[name])[name].to_pylist()
        return [values[index] for index in self._picked]

    def select(self, indices: Sequence[int]) -> "ParquetTable":
        """Only these rows."""
        chosen = copy.copy(self)
        chosen._picked = [self._picked[index] for index in indices]
        return chosen

    def broken(self) -> Sequence[int]:
        return ()

    def use_columns(self, names: Sequence[str]) -> None:
        self._columns = names

    def close(self) -> None:
        """Do nothing: the table has no files of its own."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._picked[index]
        group = bisect_right(self._starts, row) - 1
        if self._group is None or self._group[:2] != (group, self._columns):
            self._group = None  # free it before the next one is read
            self._group = (group, self._columns, self._file.read_row_group(group, columns=list(self._columns)))
        return self._group[2].slice(row - self._starts[group], 1).to_pylist()[0]
