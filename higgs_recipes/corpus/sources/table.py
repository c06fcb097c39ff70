"""What every opened source offers, whatever it is stored in: rows by number, and columns by name."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol


class Table(Protocol):
    """Stored rows, read one at a time. A recording is a cell {"path", "bytes"} or a path, never decoded.

    Attributes:
        streamed: only one of its files is on the disk at a time; its length is known when all files were visited.
        column_names: of the rows, in their order.
        features: the type of each column as `datasets` names it; empty where the storage has no types.
    """

    streamed: bool

    @property
    def column_names(self) -> Sequence[str]: ...

    @property
    def features(self) -> Mapping[str, Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """A row.

        Raises:
            RejectedRow: this row cannot be read; the others can.
        """

    def column(self, name: str) -> Sequence[Any]:
        """A column's values, nothing else read; None where a row does not have it."""

    def broken(self) -> Sequence[int]:
        """Indexes of the rows that raise when they are read: their columns are not known."""

    def select(self, indices: Sequence[int]) -> "Table":
        """Only these rows."""

    def use_columns(self, names: Sequence[str]) -> None:
        """Say that only these columns of a row are needed; a table that can leave the others unread does so."""

    def close(self) -> None:
        """Remove what the table put on the disk for itself."""


def select_matching(table: Table, matching: Sequence[int]) -> Table:
    """These rows and the broken ones, which are rejected when they are read, whatever their columns would be."""
    return table.select(sorted({*matching, *table.broken()}))


def matching_rows(columns: Mapping[str, Sequence[Any]], where: Mapping[str, str]) -> list[int]:
    """Indexes of the rows in which each of these columns matches its pattern.

    >>> matching_rows({"file": ["a_mic1", "b_mic2", "c_mic1"]}, {"file": "*_mic1"})
    [0, 2]
    """
    kept = range(len(next(iter(columns.values()))))
    for column, values in columns.items():
        kept = [index for index in kept if fnmatchcase(str(values[index]), str(where[column]))]
    return list(kept)
