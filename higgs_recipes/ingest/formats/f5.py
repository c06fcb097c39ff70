"""Lists of F5-TTS: a CSV with the header `audio_file|text`; a quoted text may contain a bar."""

import re
from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


HEADER = "audio_file|text"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_f5(source: Path) -> Iterator[ImportRow | Reject]:
    """Yield the rows of a list.

    Raises:
        InputError: the first line is not the header; the trainer of F5-TTS would skip a recording.
    """
    lines = parse_lines(source, lambda line: {"text": line})
    header = next(lines, None)
    if header is None or isinstance(header, Reject) or header["text"].strip() != HEADER:
        raise InputError(f"{source} line 1: the header must be {HEADER}")
    rows = parse_lines(source, _row)
    next(rows)
    return rows


def _row(line: str) -> ImportRow:
    path, bar, text = (part.strip() for part in line.partition("|"))
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].replace('""', '"')
    elif "|" in text:
        detail = "more than two cells; quote a text that contains a bar"
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=detail)
    if not bar:
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=f"one cell; a line is {HEADER}")
    return {"audio": path, "text": text}
