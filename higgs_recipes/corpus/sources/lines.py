"""Read text files line by line: an invalid line is rejected, the others are read. Lines are numbered from 1."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


MAX_DEPTH = 100  # levels of lists and objects in JSON; more is not data


def parse_lines(path: Path, parse: Callable[[str], dict[str, Any]]) -> Iterator[dict[str, Any] | Reject]:
    """Parse each line that is not blank: the result of `parse` with "file" and "line", or the line's reject.

    A byte order mark and carriage returns at the end of a line are removed.

    Raises:
        RejectedRow: no such file, or it is UTF-16.
    """
    for number, raw in enumerate(raw_lines(path), start=1):
        place = {"file": str(path), "line": number}
        try:
            text = decode(raw).rstrip("\r\n")
            if text.strip():
                yield place | parse(text)
        except RejectedRow as error:
            yield error.reject.at(place)


def raw_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, with their ends and without a byte order mark.

    Raises:
        RejectedRow: no such file, or it is UTF-16.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file):
                if number == 0 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise RejectedRow(RejectCode.UTF_16, detail=f"save {path} as UTF-8")
                yield raw.removeprefix(codecs.BOM_UTF8) if number == 0 else raw
    except OSError as error:
        detail = f"cannot be read: {error.strerror}: {path}"
        raise RejectedRow(RejectCode.UNREADABLE_FILE, detail=detail) from error


def decode(raw: bytes, *, where: str = "") -> str:
    """Decode UTF-8 bytes; `where` is appended to the message.

    Raises:
        RejectedRow: they are not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        detail = f"(byte {raw[error.start]:#04x}); save the file as UTF-8{where}"
        raise RejectedRow(RejectCode.NOT_UTF_8, detail=detail) from error


def json_lines(path: Path) -> Iterator[dict[str, Any] | Reject]:
    """{"file", "line", "stored"} of each JSON object of a file with one a line, or its reject; as `parse_lines`."""
    return parse_lines(path, lambda text: {"stored": json_object(text)})


def json_object(content: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RejectedRow: not JSON, a name with two values, nested deeper than `MAX_DEPTH`, or not an object.
    """
    try:
        stored = json.loads(content, object_pairs_hook=_unique_names)
    except ValueError as error:
        raise RejectedRow(RejectCode.NOT_JSON, detail=str(error).replace("line 1 ", "")) from error
    except RecursionError as error:
        raise RejectedRow(RejectCode.NOT_JSON, detail=f"nested deeper than {MAX_DEPTH} levels") from error
    if not isinstance(stored, dict):
        raise RejectedRow(RejectCode.NOT_AN_OBJECT, detail=type(stored).__name__)
    level: list[Any] = [stored]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _children(value)]
        if not level:
            return stored
    raise RejectedRow(RejectCode.NOT_JSON, detail=f"nested deeper than {MAX_DEPTH} levels")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    stored = dict(pairs)
    if len(stored) < len(pairs):  # json keeps the last value
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two values for {twice!r}; keep one")
    return stored


def _children(value: Any) -> Iterable[Any]:
    """The lists and objects in a list or object."""
    inner = value.values() if isinstance(value, dict) else value
    return [child for child in inner if isinstance(child, (dict, list))]
