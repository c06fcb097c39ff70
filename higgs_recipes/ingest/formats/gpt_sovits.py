"""The lists of GPT-SoVITS: one `path|speaker|language|text` a line; the text may hold more bars."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import Row, parse_lines


def read_gpt_sovits(source: Path) -> Iterator[Row]:
    return parse_lines(source, _row)


def _row(line: str) -> Row:
    cells = line.split("|", maxsplit=3)
    if len(cells) != 4:
        raise InputError(f"{len(cells)} cells; a line is path|speaker|language|text")
    path, speaker, language, text = (cell.strip() for cell in cells)
    return {"audio": path, "speaker": speaker or None, "language": language or None, "text": text}
