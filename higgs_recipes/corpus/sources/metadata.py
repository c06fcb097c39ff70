"""The metadata file of a folder of recordings, read to the letter: "NA", "007" and "null" stay the texts they are."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import decode, json_object, parse_lines, raw_lines
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


METADATA_FILES = ("metadata.csv", "metadata.jsonl")


def find_metadata(folder: Path) -> Path | None:
    """The folder's metadata file, or None.

    Raises:
        InputError: there are two.
    """
    found = [folder / name for name in METADATA_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: holds {' and '.join(path.name for path in found)}; keep one")
    return found[0] if found else None


def metadata_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """Each row of a CSV (with a head; all cells are texts) or of JSON lines with the number of its last line.

    Raises:
        InputError: no such file, or it is UTF-16.
    """
    if path.suffix == ".csv":
        yield from _csv_rows(path)
        return
    for row in parse_lines(path, lambda line: {"stored": json_object(line)}):
        yield row if isinstance(row, Reject) else (row["line"], row["stored"])


def read_metadata(path: Path) -> list[dict[str, Any]]:
    """All rows of a metadata file.

    Raises:
        InputError: a line that is not a row; names it.
    """
    rows = []
    for row in metadata_rows(path):
        if isinstance(row, Reject):
            raise InputError(f"{path} line {row.columns['line']}: {row.reason}")
        rows.append(row[1])
    return rows


class MetadataTable(Sequence):
    """Rows that are in memory, as a metadata file has them."""

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(self, rows: Sequence[Mapping[str, Any]], *, column_names: Sequence[str] | None = None) -> None:
        self._rows = rows
        self.column_names = column_names or list(dict.fromkeys(name for row in rows for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._rows[index]

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self._rows]

    def broken(self) -> Sequence[int]:
        return ()

    def select(self, indices: Sequence[int]) -> "MetadataTable":
        return MetadataTable([self._rows[index] for index in indices], column_names=self.column_names)

    def use_columns(self, names: Sequence[str]) -> None:
        """All columns are in memory already."""

    def close(self) -> None:
        """Nothing on the disk is the table's own."""


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    numbers: list[int] = []  # of the lines that the reader has seen: one that is not UTF-8 does not reach it
    rejects: list[Reject] = []

    def lines() -> Iterator[str]:
        number = 0
        for raw in raw_lines(path):
            try:
                text = decode(raw)
            except RejectedRow as error:
                number += 1
                rejects.append(error.reject.at({"file": str(path), "line": number}))
                continue
            for line in io.StringIO(text, newline=""):  # a line may end with a carriage return alone
                number += 1
                numbers.append(number)
                yield line

    def reject(code: RejectCode, detail: str) -> Reject:
        return Reject(code, detail=detail).at({"file": str(path), "line": numbers[-1]})

    reader = csv.reader(lines(), strict=True)
    head: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield reject(RejectCode.NOT_CSV, str(error))
            continue
        if cells is None:
            break
        if len(cells) < 2 and not "".join(cells).strip():
            continue  # a blank line
        if head is None:
            head = cells
        elif len(cells) != len(head):
            yield reject(RejectCode.WRONG_CELLS, f"not one cell for each of {', '.join(head)}; quote commas")
        else:
            yield numbers[-1], dict(zip(head, cells, strict=True))
    yield from rejects
