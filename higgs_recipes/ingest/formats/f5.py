"""The lists of F5-TTS: a CSV with the head `audio_file|text`; a text in quotation marks may hold a bar."""

import re
from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


HEAD = "audio_file|text"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_f5(source: Path) -> Iterator[ImportRow | Reject]:
    """Rows of the list.

    Raises:
        InputError: the first line is not the head; its trainer would leave out a recording there.
    """
    lines = parse_lines(source, lambda line: {"text": line})
    head = next(lines, None)
    if head is None or isinstance(head, Reject) or head["text"].strip() != HEAD:
        raise InputError(f"{source} line 1: the head must be {HEAD}")
    rows = parse_lines(source, _row)
    next(rows)
    return rows


def _row(line: str) -> ImportRow:
    path, bar, text = (part.strip() for part in line.partition("|"))
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].replace('""', '"')
    elif "|" in text:
        detail = "more than two cells; put a text that holds a bar into quotation marks"
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=detail)
    if not bar:
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=f"one cell; a line is {HEAD}")
    return {"audio": path, "text": text}
