"""Read text files line by line: an invalid line is rejected, the others are read. Lines are numbered from 1."""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.rows import AUDIO_ENDINGS
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


# A file name between separators, or at an end of the line.
_FILE_CELL = re.compile(
    rf"(?:^|([,;|\t]))([^,;|\t]+\.(?:{'|'.join(sorted(AUDIO_ENDINGS | {'mkv'}))})[ \"']*)(?=$|([,;|\t]))",
    re.IGNORECASE,
)
_HEAD_BYTES = 2**12
# UTF-32 first: its mark begins with that of UTF-16.
_WIDE = {(codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE): "utf-32", (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE): "utf-16"}
MAX_DEPTH = 100  # levels of lists and objects in JSON; more is not data


def parse_lines(path: Path, parse: Callable[[str], dict[str, Any]]) -> Iterator[dict[str, Any] | Reject]:
    """Parse each line that is not blank: the result of `parse` with "file" and "line", or the line's reject.

    A byte order mark and carriage returns at the end of a line are removed.

    Raises:
        RejectedRow: as `raw_lines`.
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
    """The lines of a file in UTF-8, with their ends and without a byte order mark.

    A line ends with a line feed, a carriage return, or both. A file with the byte order mark of UTF-16 or UTF-32 is
    converted.

    Raises:
        RejectedRow: no such file, or UTF-16 that is damaged or has no byte order mark.
    """
    try:
        with path.open("rb") as file:
            encoding = _wide_encoding(file.read(_HEAD_BYTES), path)
            file.seek(0)
            lines = file if encoding is None else io.TextIOWrapper(file, encoding=encoding, newline="\n")
            is_first = True
            for line in lines:
                for raw in (line if isinstance(line, bytes) else line.encode()).splitlines(keepends=True):
                    yield raw.removeprefix(codecs.BOM_UTF8) if is_first else raw
                    is_first = False
    except UnicodeDecodeError as error:
        detail = f"{path} is damaged at byte {error.start}: save it as UTF-8"
        raise RejectedRow(RejectCode.UTF_16, detail=detail) from error
    except OSError as error:
        detail = f"cannot be read: {error.strerror}: {path}"
        raise RejectedRow(RejectCode.UNREADABLE_FILE, detail=detail) from error


def _wide_encoding(head: bytes, path: Path) -> str | None:
    """The encoding of a file by its byte order mark, None for UTF-8 and others of single bytes."""
    for marks, encoding in _WIDE.items():
        if head.startswith(marks):
            return encoding
    for first, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        high = head[first::2]
        if high.count(0) * 8 > len(high):  # names of files and columns are ASCII
            detail = f"{path} has no byte order mark; convert it: {_convert(encoding)}"
            raise RejectedRow(RejectCode.UTF_16, detail=detail)
    return None


def _convert(encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 OLD > NEW"


def decode(raw: bytes, *, where: str = "") -> str:
    """Decode UTF-8 bytes; `where` is appended to the message.

    Raises:
        RejectedRow: they are not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        convert = f"convert the file by `{_convert('GBK')}`, with the encoding that it has in place of GBK"
        detail = f"(byte {raw[error.start]:#04x}); {convert}{where}"
        raise RejectedRow(RejectCode.NOT_UTF_8, detail=detail) from error


def merged_file(cell: str) -> str | None:
    r"""The file name of another row in a cell of several lines, or None.

    A quotation mark that opens in one row of a list and closes in a later one merges the rows.

    >>> merged_file("Come here\nb.wav,and sit down"), merged_file("Come here,a.wav\nand sit down")
    ('b.wav', 'a.wav')
    >>> merged_file("Come here\nand sit down"), merged_file("b.wav")
    (None, None)
    """
    lines = re.split(r"\r\n|\r|\n", cell.strip())
    for index, line in enumerate(lines if len(lines) > 1 else ()):
        for match in _FILE_CELL.finditer(line):
            if index or match[1] or match[3]:  # the first line is the cell's own text
                return match[2].strip(" \"'")
    return None


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
