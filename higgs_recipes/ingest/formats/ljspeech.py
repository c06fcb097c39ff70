"""LJSpeech: metadata.csv of `id|text` or `id|text|normalised text` beside wavs/<id>.wav; quotation marks are text."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import Row, parse_lines


def read_ljspeech(source: Path) -> Iterator[Row]:
    """Rows with the normalized text where a line has one: "Mister" for "Mr.", as the reader says it."""
    return parse_lines(source / "metadata.csv", _row)


def _row(line: str) -> Row:
    cells = line.split("|")
    if len(cells) not in (2, 3):
        raise InputError(f"{len(cells)} cells; a line is id|text or id|text|normalized text")
    name, *texts = (cell.strip() for cell in cells)
    return {"id": name, "audio": f"wavs/{name}.wav", "text": texts[-1] or texts[0]}
