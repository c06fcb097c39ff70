"""Lists of GPT-SoVITS: lines of `path|speaker|language|text`; the text may contain more bars."""

from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


def read_gpt_sovits(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of a list."""
    return parse_lines(source, _row)


def _row(line: str) -> ImportRow:
    cells = line.split("|", maxsplit=3)
    if len(cells) != 4:
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=f"{len(cells)} cells; a line is path|speaker|language|text")
    path, speaker, language, text = (cell.strip() for cell in cells)
    return {"audio": path, "speaker": speaker or None, "language": language or None, "text": text}
