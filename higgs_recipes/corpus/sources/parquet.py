"""Read a parquet file one row group at a time, so that large files need little memory."""

import copy
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from higgs_recipes.corpus.parquet_size import declared_chunks, text_bytes
from higgs_recipes.corpus.sources.table import rejected_unicode
from higgs_recipes.errors import InputError


# Recordings hardly compress and texts some ten times: a file beyond both limits does not contain a corpus.
MAX_RATIO, MAX_BYTES = 100, 2**30


class ParquetTable(Sequence):
    """Rows as they are stored: a recording is a cell {"path", "bytes"}, a class label is an index.

    Attributes:
        schema: schema of the file.
        features: types of the columns; empty unless set after opening.

    Raises:
        InputError: as `check_parquet`.
        pyarrow.ArrowInvalid: not a parquet file, or a damaged one.
    """

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(self, path: Path) -> None:
        check_parquet(path)
        self._path, self._file = path, pq.ParquetFile(path)
        self.schema: pa.Schema = self._file.schema_arrow
        self.column_names: list[str] = list(self.schema.names)
        self._columns: Sequence[str] = self.column_names
        groups = range(self._file.num_row_groups)
        self._starts = [0, *accumulate(self._file.metadata.row_group(group).num_rows for group in groups)]
        self._picked: Sequence[int] = range(self._starts[-1])
        self._group: tuple[int, Sequence[str], pa.Table] | None = None

    def __len__(self) -> int:
        return len(self._picked)

    def recordings_folder(self, index: int) -> Path | None:
        """None: the files are those of a dataset on the Hub."""

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
            try:
                rows = self._file.read_row_group(group, columns=list(self._columns))
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{self._path}: row group {group} is damaged ({error}); download it again") from error
            self._group = (group, self._columns, rows)
        with rejected_unicode():
            return self._group[2].slice(row - self._starts[group], 1).to_pylist()[0]


def check_parquet(path: Path) -> None:
    """Refuse a parquet file that would fill memory or disk, before it is read.

    Raises:
        InputError: the file has more rows than bytes, expands more than `MAX_RATIO` times and beyond `MAX_BYTES`, a
            page does, or two columns have one name.
        pyarrow.ArrowInvalid: not a parquet file, or a damaged one.
    """
    with pq.ParquetFile(path) as file:
        names, metadata, size = file.schema_arrow.names, file.metadata, path.stat().st_size
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path}: two columns are named {twice[0]!r}; rename or remove one")
    leaves = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    limit = max(MAX_BYTES, MAX_RATIO * size)
    if metadata.num_rows > size:
        raise _too_large(path, size, f"{metadata.num_rows:,} rows")
    groups = declared_chunks(str(path), metadata, leaves=leaves)
    expanded = sum(chunk.num_bytes for chunks in groups for chunk in chunks)
    if expanded > limit:
        raise _too_large(path, size, f"{metadata.num_rows:,} rows of {expanded:,} bytes")
    if sum(chunk.most_bytes for chunks in groups for chunk in chunks) <= limit:
        return
    # A dictionary stores a repeated value once: only its indexes show the size of the rows.
    for number, chunks in enumerate(groups):
        repeated = [chunk.path for chunk in chunks if chunk.dictionary_bytes]
        expanded += text_bytes(str(path), metadata, number, leaves=repeated) if repeated else 0
        if expanded > limit:
            raise _too_large(path, size, f"{metadata.num_rows:,} rows of more than {limit:,} bytes")


def _too_large(path: Path, size: int, content: str) -> InputError:
    return InputError(
        f"{path}: a file of {size:,} bytes with {content} is not a corpus; it would fill the memory and is not read"
    )
