"""The interface of an open source in any format: rows by index, and columns by name."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol


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
