"""Lists of F5-TTS: a CSV with the header `audio_file|text`; a quoted text may contain bars and line breaks."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.lines import merged_file, parse_lines
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


HEADER = "audio_file|text"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')

Line = dict[str, Any] | Reject


def read_f5(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of a list.

    Raises:
        InputError: the first line is not the header; the trainer of F5-TTS would skip a recording.
    """
    lines = list(parse_lines(source, lambda line: {"text": line}))
    if lines and (isinstance(lines[0], Reject) or lines[0]["text"].strip() != HEADER):
        raise InputError(f"{source} line 1: the header must be {HEADER}")
    index = 1
    while index < len(lines):
        line, last = lines[index], index
        if isinstance(line, Reject):
            yield line
        else:
            place = {"file": line["file"], "line": line["line"]}
            try:
                last = _last_line(lines, index)
                yield place | _row(_joined(lines[index : last + 1]))
            except RejectedRow as error:
                yield error.reject.at(place)
        index = last + 1


def _last_line(lines: Sequence[Line], first: int) -> int:
    """The index of the line that closes the quotation mark at the start of a text.

    Raises:
        RejectedRow: it is never closed.
    """
    _, _, text = lines[first]["text"].partition("|")
    text = text.strip()
    if not text.startswith('"') or '"' in text[1:].replace('""', ""):
        return first
    for index in range(first + 1, len(lines)):
        line = lines[index]
        rest = "" if isinstance(line, Reject) else line["text"].rstrip().replace('""', "")
        if rest.endswith('"') and rest.count('"') == 1:
            return index
        if isinstance(line, Reject) or '"' in rest:
            break
    raise RejectedRow(RejectCode.NOT_CSV, detail="the quotation mark at the start of the text is not closed")


def _joined(lines: Sequence[dict[str, Any]]) -> str:
    """The text of a row, with its blank lines."""
    text = lines[0]["text"]
    for previous, line in zip(lines, lines[1:], strict=False):
        text += "\n" * (line["line"] - previous["line"]) + line["text"]
    return text


def _row(line: str) -> ImportRow:
    path, bar, text = (part.strip() for part in line.partition("|"))
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].replace('""', '"')
        if (merged := merged_file(text)) is not None:
            detail = f"a quotation mark merges {text.count(chr(10)) + 1} lines, with that of {merged}"
            raise RejectedRow(RejectCode.NOT_CSV, detail=f"{detail}: close or double it")
    elif "|" in text:
        detail = "more than two cells; quote a text that contains a bar"
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=detail)
    if not bar:
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=f"one cell; a line is {HEADER}")
    return {"audio": path, "text": text}
