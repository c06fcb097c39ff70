"""Text files of a corpus: tables of keys and values, transcripts and JSON arrays."""

import json
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import decode, parse_lines, raw_lines
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


_SEPARATORS = re.compile(r"[\s,:]*")


def read_table(path: Path) -> tuple[dict[str, dict[str, Any]], list[Reject]]:
    """Read a file of lines `key value`.

    Returns:
        The lines as {"file", "line", "key", "value"} by key, and the rejected lines. Of lines with the same key, the
        first is kept; the others are rejected with the key as their id.

    Raises:
        InputError: no such file, or not a regular file.
    """
    check_regular_file(path)
    table: dict[str, dict[str, Any]] = {}
    rejects: list[Reject] = []
    for row in parse_lines(path, _key_and_value):
        if isinstance(row, Reject):
            rejects.append(row.at({"id": None, **row.columns}))
        elif row["key"] in table:
            key = row["key"]
            duplicate = Reject(
                RejectCode.DUPLICATE_ID, "id", f"line {table[key]['line']} of {path.name} has {key} too"
            )
            rejects.append(duplicate.at({"id": key, "file": row["file"], "line": row["line"]}))
        else:
            table[row["key"]] = row
    return table, rejects


def check_regular_file(path: Path) -> None:
    """Check that a path is not a folder or a pipe, which would block; it may be missing.

    Raises:
        InputError: it is.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{path} is not a file")


def read_text(path: Path) -> str:
    """Read a file without its byte order mark and without carriage returns at the ends of lines.

    Raises:
        RejectedRow: no such file, or not UTF-8; names the file and the line.
    """
    numbered = enumerate(raw_lines(path), start=1)
    return "\n".join(decode(raw, where=f"; line {number} of {path}").rstrip("\r\n") for number, raw in numbered)


def parse_json(text: str, *, path: Path) -> Any:
    """Parse a whole file of JSON.

    Raises:
        InputError: not JSON; names the line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; remove a comma after the last item" if text[: error.pos].rstrip().endswith(",") else ""
        raise InputError(f"{path} line {error.lineno}: not JSON: {error.msg}{hint}") from error
    except (RecursionError, ValueError) as error:  # nested too deep, or an integer of thousands of digits
        raise InputError(f"{path}: not JSON that can be read: {error}") from error


def array_elements(text: str, position: int) -> Generator[tuple[int, Any], None, int]:
    """Yield each element of a JSON array with the line where it starts, which the json module does not report.

    Args:
        text: valid JSON.
        position: of the bracket that opens the array.

    Returns:
        The position after the array.
    """
    decode_json = json.JSONDecoder().raw_decode
    line, counted, position = 1, 0, skip_separators(text, position + 1)
    while text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        element, position = decode_json(text, position)
        yield line, element
        position = skip_separators(text, position)
    return position + 1


def skip_separators(text: str, position: int) -> int:
    """The position of the next JSON value or closing bracket."""
    return _SEPARATORS.match(text, position).end()


def _key_and_value(text: str) -> dict[str, Any]:
    key, _, value = text.strip().partition(" ")
    if "\t" in key:
        key, _, value = text.strip().partition("\t")
    if not value.strip():
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=f"one cell: no value for {key}")
    return {"key": key, "value": value.strip()}
