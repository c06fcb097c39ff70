"""LJSpeech: metadata.csv with lines of `id|text` or `id|text|normalized text`, and wavs/<id>.wav; without quoting."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


def read_ljspeech(source: Path) -> Iterator[ImportRow | Reject]:
    """Yield the rows, with the normalized text where a line has one: "Mister" for "Mr.", as it is spoken."""
    return parse_lines(source / "metadata.csv", _row)


def _row(line: str) -> ImportRow:
    cells = line.split("|")
    if len(cells) not in (2, 3):
        detail = f"{len(cells)} cells; a line is id|text or id|text|normalized text"
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=detail)
    name, *texts = (cell.strip() for cell in cells)
    return {"id": name, "audio": f"wavs/{name}.wav", "text": texts[-1] or texts[0]}
