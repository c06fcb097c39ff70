"""Text files of a corpus: what is wrong in one line costs that line; lines have the numbers that an editor shows."""

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError


Row = dict[str, Any]


def parse_lines(path: Path, parse: Callable[[str], Row]) -> Iterator[Row]:
    """What `parse` makes of each line that is not blank, with its "file" and "line"; what it refuses has a "reason".

    A byte order mark and the carriage returns of Windows are no part of a line.

    Raises:
        InputError: no such file, or it is UTF-16.
    """
    for number, raw in enumerate(_raw_lines(path), start=1):
        place = {"file": str(path), "line": number}
        try:
            text = decode(raw).rstrip("\r\n")
            if text.strip():
                yield place | parse(text)
        except InputError as error:
            yield place | {"reason": str(error)}


def read_table(path: Path) -> dict[str, Row]:
    """The lines `key value` of a file by their keys: {"file", "line", "key", "value"}, or with a "reason".

    A key that stands twice keeps its first line; the later ones have a reason and keys that no other line can have.
    """
    table: dict[str, Row] = {}
    for row in parse_lines(path, _key_and_value):
        key = row.get("key")
        if key in table:
            row["reason"] = f"duplicate id: line {table[key]['line']} of {path.name} has {key} too"
        table[f"\n{row['line']}" if "reason" in row else key] = row
    return table


def read_text(path: Path) -> str:
    """The whole text of a file, without a byte order mark and carriage returns at the ends of lines.

    Raises:
        InputError: no such file, not UTF-8; names the file, and the line.
    """
    lines = []
    for number, raw in enumerate(_raw_lines(path), start=1):
        try:
            lines.append(decode(raw).rstrip("\r\n"))
        except InputError as error:
            raise InputError(f"{error}; line {number} of {path}") from error
    return "\n".join(lines)


def decode(raw: bytes) -> str:
    """UTF-8 bytes as text.

    Raises:
        InputError: they are not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 (byte {raw[error.start]:#04x}); save the file as UTF-8") from error


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file):
                if number == 0 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InputError(f"UTF-16: save {path} as UTF-8")
                yield raw.removeprefix(codecs.BOM_UTF8) if number == 0 else raw
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}: {path}") from error


def _key_and_value(text: str) -> Row:
    key, _, value = text.strip().partition(" ")
    if "\t" in key:
        key, _, value = text.strip().partition("\t")
    if not value.strip():
        raise InputError(f"one cell: nothing stands behind {key}")
    return {"key": key, "value": value.strip()}
