"""The metadata file of a folder of recordings, read to the letter: "NA", "007" and "null" stay the texts they are; and
JSON objects, one a line or one a file."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError


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


def read_metadata(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV (with a head, all cells are texts) or of JSON lines.

    Raises:
        InputError: not UTF-8, or a line that does not fit; names the line.
    """
    try:
        return list(_read_csv(path) if path.suffix == ".csv" else _read_jsonl(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from error


def json_object(content: str | bytes) -> dict[str, Any]:
    """The JSON object that a line or a small file holds.

    Raises:
        InputError: not JSON, or no object.
    """
    try:
        stored = json.loads(content)
    except ValueError as error:
        raise InputError(f"not JSON: {str(error).replace('line 1 ', '')}") from error
    if not isinstance(stored, dict):
        raise InputError(f"not a JSON object but a {type(stored).__name__}")
    return stored


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    head = ", ".join(reader.fieldnames or ())
                    raise InputError(f"{path} line {reader.line_num}: not one cell for each of {head}; quote commas")
                yield row
        except csv.Error as error:
            raise InputError(f"{path} line {reader.line_num}: {error}") from error


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield json_object(line)
            except InputError as error:
                raise InputError(f"{path} line {number}: {error}") from error
