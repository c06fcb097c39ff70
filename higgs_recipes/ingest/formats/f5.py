"""The lists of F5-TTS: a CSV with the head `audio_file|text`; a text in quotation marks may hold a bar."""

import re
from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import Row, parse_lines


HEAD = "audio_file|text"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_f5(source: Path) -> Iterator[Row]:
    """Rows of the list.

    Raises:
        InputError: the first line is not the head; its trainer would leave out a recording there.
    """
    lines = parse_lines(source, lambda line: {"text": line})
    head = next(lines, None)
    if head is None or head.get("text", "").strip() != HEAD:
        raise InputError(f"{source} line 1: the head must be {HEAD}")
    rows = parse_lines(source, _row)
    next(rows)
    return rows


def _row(line: str) -> Row:
    path, bar, text = (part.strip() for part in line.partition("|"))
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].replace('""', '"')
    elif "|" in text:
        raise InputError("more than two cells; put a text that holds a bar into quotation marks")
    if not bar:
        raise InputError(f"one cell; a line is {HEAD}")
    return {"audio": path, "text": text}
