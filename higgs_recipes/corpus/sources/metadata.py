"""Read the metadata file of a folder of recordings; in CSV files "NA", "007" and "null" stay text."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import decode, json_lines, merged_file, raw_lines
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
        RejectedRow: as `raw_lines`.
    """
    if path.suffix == ".csv":
        yield from _csv_rows(path)
        return
    for row in json_lines(path):
        yield row if isinstance(row, Reject) else (row["line"], row["stored"])


class MetadataTable(Sequence):
    """Rows in memory, as read from a metadata file.

    Args:
        rows: rows, and rejects of lines that are not rows, which raise when they are read.
        folder: folder that paths of recordings are relative to.
    """

    streamed = False
    features: Mapping[str, Any] = {}

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any] | Reject],
        *,
        folder: Path | None = None,
        column_names: Sequence[str] | None = None,
    ) -> None:
        self._rows, self._folder = rows, folder
        names = (name for row in rows if not isinstance(row, Reject) for name in row)
        self.column_names = column_names or list(dict.fromkeys(names))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        row = self._rows[index]
        if isinstance(row, Reject):
            raise RejectedRow(row.code, row.field, row.detail)
        return row

    def recordings_folder(self, index: int) -> Path | None:
        return self._folder

    def column(self, name: str) -> list[Any]:
        return [None if isinstance(row, Reject) else row.get(name) for row in self._rows]

    def broken(self) -> Sequence[int]:
        return [index for index, row in enumerate(self._rows) if isinstance(row, Reject)]

    def select(self, indices: Sequence[int]) -> "MetadataTable":
        rows = [self._rows[index] for index in indices]
        return MetadataTable(rows, folder=self._folder, column_names=self.column_names)

    def use_columns(self, names: Sequence[str]) -> None:
        """Do nothing: all columns are in memory."""

    def close(self) -> None:
        """Do nothing: the table has no files of its own."""


def open_metadata(path: Path, *, renamed: Mapping[str, str]) -> MetadataTable:
    """The rows of a metadata file; invalid lines are rejects.

    Args:
        renamed: column of the file to its name in the table.

    Raises:
        InputError: no line is valid, two columns would have one name, or cells are not separated by commas.
    """
    rows: list[Mapping[str, Any] | Reject] = []
    for row in metadata_rows(path):
        if isinstance(row, Reject):
            where = f"line {row.columns['line']} of {path.name}"
            rows.append(replace(row, detail=f"{row.detail}; {where}" if row.detail else where))
            continue
        named: dict[str, str] = {}
        for column in row[1]:
            name = renamed.get(column, column)
            if name in named:
                raise InputError(f"{path}: the columns {named[name]} and {column} both are a row's {name}; keep one")
            named[name] = column
        rows.append({name: row[1][column] for name, column in named.items()})
    table = MetadataTable(rows, folder=path.parent)
    separators = [mark for mark in "\t;|" for name in table.column_names if mark in name]
    if len(table.column_names) == 1 and separators:
        raise InputError(f"{path}: the cells are separated by {separators[0]!r}; separate them by commas")
    if rows and all(isinstance(row, Reject) for row in rows):
        raise InputError(f"{path}: none of {len(rows)} lines is valid; the first: {rows[0].reason}")
    return table


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    numbers: list[int] = []  # lines that the CSV reader has seen; lines that are not UTF-8 do not reach it
    texts: list[str] = []  # the lines of the present row
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
                texts.append(line)
                yield line

    def reject(code: RejectCode, detail: str, number: int) -> Reject:
        return Reject(code, detail=detail).at({"file": str(path), "line": number})

    reader = csv.reader(lines(), strict=True)
    header: list[str] | None = None
    while True:
        texts.clear()
        try:
            cells, problem = next(reader, None), None
        except csv.Error as error:
            cells, problem = [], str(error)
        if cells is None:
            break
        merged = next(filter(None, map(merged_file, cells)), None) if problem is None else None
        if merged is not None:
            problem = f"a quoted cell contains other rows, such as that of {merged}"
        if problem is not None:
            span = numbers[-len(texts) :]
            if len(span) > 1:
                problem += f": a quotation opens in line {span[0]} and ends in line {span[-1]}; close it or remove it"
            # The line where the reader stopped comes first.
            yield from [reject(RejectCode.NOT_CSV, problem, number) for number in reversed(span)]
        elif len(cells) < 2 and not "".join(cells).strip():
            continue  # a blank line
        elif header is None:
            header = cells
            if twice := [name for name in header if name and header.count(name) > 1]:
                raise InputError(f"{path}: two columns are named {twice[0]!r}; rename or remove one")
        elif len(cells) != len(header):
            detail = f"not one cell for each of {', '.join(header)}; quote cells with commas"
            yield reject(RejectCode.WRONG_CELLS, detail, numbers[-1])
        else:
            yield numbers[-1], {name: cell for name, cell in zip(header, cells, strict=True) if name}
    yield from rejects
