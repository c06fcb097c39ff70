"""Read the metadata file of a folder of recordings; in CSV files "NA", "007" and "null" stay text."""

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
    """The metadata file of a folder, or None.

    Raises:
        InputError: the folder has two.
    """
    found = [folder / name for name in METADATA_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder} has {' and '.join(path.name for path in found)}; keep one")
    return found[0] if found else None


def metadata_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """The rows of a CSV file (with a header; all cells are text) or of JSON lines, with the number of their last line.

    Raises:
        RejectedRow: no such file, or it is UTF-16.
    """
    if path.suffix == ".csv":
        yield from _csv_rows(path)
        return
    for row in parse_lines(path, lambda line: {"stored": json_object(line)}):
        yield row if isinstance(row, Reject) else (row["line"], row["stored"])


def read_metadata(path: Path) -> list[dict[str, Any]]:
    """All rows of a metadata file.

    Raises:
        InputError: an invalid line; the message has its number.
    """
    rows = []
    for row in metadata_rows(path):
        if isinstance(row, Reject):
            raise InputError(f"{path} line {row.columns['line']}: {row.reason}")
        rows.append(row[1])
    return rows


class MetadataTable(Sequence):
    """Rows in memory, as read from a metadata file."""

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
        """Do nothing: all columns are in memory."""

    def close(self) -> None:
        """Do nothing: the table has no files of its own."""


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    numbers: list[int] = []  # lines that the CSV reader has seen; lines that are not UTF-8 do not reach it
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
    header: list[str] | None = None
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
        if header is None:
            header = cells
        elif len(cells) != len(header):
            detail = f"not one cell for each of {', '.join(header)}; quote cells with commas"
            yield reject(RejectCode.WRONG_CELLS, detail)
        else:
            yield numbers[-1], dict(zip(header, cells, strict=True))
    yield from rejects
