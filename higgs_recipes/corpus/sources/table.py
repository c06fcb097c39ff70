"""The interface of an open source in any format: rows by index, and columns by name."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from higgs_recipes.rejects import RejectCode, RejectedRow


class Table(Protocol):
    """Stored rows, read one at a time. A recording is a cell {"path", "bytes"} or a path, never decoded.

    Attributes:
        streamed: only one of its files is on disk at a time; its length is known after all files were read.
        column_names: columns of the rows, in order.
        features: types of the columns as in `datasets`; empty if the storage has no types.
    """

    streamed: bool

    @property
    def column_names(self) -> Sequence[str]: ...

    @property
    def features(self) -> Mapping[str, Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Read a row.

        Raises:
            RejectedRow: this row cannot be read; others may be.
        """

    def recordings_folder(self, index: int) -> Path | None:
        """Folder that the paths in a row are relative to; None: the row must contain its recordings."""

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column, without reading others; None for rows that do not have it."""

    def broken(self) -> Sequence[int]:
        """Indexes of rows that raise when they are read, whose columns are unknown."""

    def select(self, indices: Sequence[int]) -> "Table":
        """A table of these rows."""

    def use_columns(self, names: Sequence[str]) -> None:
        """Limit rows to these columns; a table may skip reading the others."""

    def close(self) -> None:
        """Remove the table's own files from the disk."""


@contextmanager
def rejected_unicode() -> Iterator[None]:
    """Reject a row whose text is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        detail = f"a text is not UTF-8 (byte {error.object[error.start]:#04x}); convert it or remove the row"
        raise RejectedRow(RejectCode.INVALID_UNICODE, detail=detail) from error


class ConcatTable(Sequence):
    """The rows of several tables, one table after the other."""

    streamed = False

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = list(tables)
        self._starts = [0, *accumulate(map(len, self._tables))]
        self.column_names = list(dict.fromkeys(name for table in self._tables for name in table.column_names))
        self.features = {name: feature for table in self._tables for name, feature in table.features.items()}

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        table, row = self._locate(index)
        return table[row]

    def recordings_folder(self, index: int) -> Path | None:
        table, row = self._locate(index)
        return table.recordings_folder(row)

    def column(self, name: str) -> list[Any]:
        return [value for table in self._tables for value in table.column(name)]

    def broken(self) -> list[int]:
        return [
            start + row for start, table in zip(self._starts, self._tables, strict=False) for row in table.broken()
        ]

    def select(self, indices: Sequence[int]) -> "ConcatTable":
        """A table of these rows, which must be sorted."""
        selected = []
        for start, end, table in zip(self._starts, self._starts[1:], self._tables, strict=False):
            rows = [index - start for index in indices if start <= index < end]
            if rows:
                selected.append(table.select(rows))
        chosen = ConcatTable(selected)
        chosen.column_names, chosen.features = self.column_names, self.features
        return chosen

    def use_columns(self, names: Sequence[str]) -> None:
        for table in self._tables:
            table.use_columns([name for name in names if name in table.column_names])

    def close(self) -> None:
        for table in self._tables:
            table.close()

    def _locate(self, index: int) -> tuple[Table, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        position = bisect_right(self._starts, index) - 1
        return self._tables[position], index - self._starts[position]


def select_matching(table: Table, matching: Sequence[int]) -> Table:
    """A table of the matching rows and of the broken ones, which are rejected when they are read."""
    return table.select(sorted({*matching, *table.broken()}))


def matching_rows(columns: Mapping[str, Sequence[Any]], where: Mapping[str, str]) -> list[int]:
    """Indexes of the rows whose columns match the patterns.

    >>> matching_rows({"file": ["a_mic1", "b_mic2", "c_mic1"]}, {"file": "*_mic1"})
    [0, 2]
    """
    kept = range(len(next(iter(columns.values()))))
    for column, values in columns.items():
        kept = [index for index in kept if fnmatchcase(str(values[index]), str(where[column]))]
    return list(kept)
