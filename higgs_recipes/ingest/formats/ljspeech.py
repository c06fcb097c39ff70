"""LJSpeech: metadata.csv with lines of `id|text` or `id|text|normalized text`, and wavs/<id>.wav; without quoting."""

import difflib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.corpus.sources.listing import audio_stem, is_audio_name
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.ingest.audio_files import find_files
from higgs_recipes.ingest.formats.lines import check_regular_file
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


AUDIO_FOLDER = "wavs"
_MIN_SIMILARITY = 0.4  # of a text and its normalized form: "Mr." and "Mister" have 0.5


def read_ljspeech(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows, with the normalized text where a line has one: "Mister" for "Mr.", as it is spoken.

    Recordings may have any suffix. Recordings that are not in the list are rejects.
    """
    check_regular_file(source / "metadata.csv")
    used: set[PurePosixPath] = set()
    yield from parse_lines(source / "metadata.csv", partial(_row, folder=folder, used=used))
    audio = folder.root / AUDIO_FOLDER
    files = find_files(audio, follow_links=folder.follow_links) if audio.is_dir() else []
    for path in files:
        if is_audio_name(path.name) and PurePosixPath(path.relative_to(folder.root)) not in used:
            yield Reject(RejectCode.NO_TRANSCRIPT, "text").at({"file": str(path), "line": 1, "id": path.stem})


def _row(line: str, *, folder: SourceFolder, used: set[PurePosixPath]) -> ImportRow:
    """A row of the list; its recording is added to `used`, also if the row is rejected."""
    cells = line.split("|")
    name = cells[0].strip()
    found = folder.find_recording(f"{AUDIO_FOLDER}/{name}") if name else None
    found = found or (folder.find_recording(name) if "/" in name else None)
    used |= {found} if found is not None else set()
    if len(cells) not in (2, 3):
        detail = f"{len(cells)} cells; a line is id|text or id|text|normalized text"
        raise RejectedRow(RejectCode.WRONG_CELLS, detail=detail)
    text, *normalized = (cell.strip() for cell in cells[1:])
    if normalized and normalized[0]:
        if text and not _is_similar(text, normalized[0]):
            detail = (
                f"{normalized[0][:60]!r} is not {text[:60]!r} normalized: a bar in the text, or another column? "
                "A line is id|text or id|text|normalized text"
            )
            raise RejectedRow(RejectCode.WRONG_CELLS, detail=detail)
        text = normalized[0]
    return {
        "id": audio_stem(name),
        "audio": str(found) if found is not None else f"{AUDIO_FOLDER}/{audio_stem(name)}.wav",
        "text": text,
    }


def _is_similar(text: str, normalized: str) -> bool:
    """Whether a text can be the normalized form of another; "1836" can be "eighteen thirty-six"."""
    words, spoken_words = (re.findall(r"[^\W\d_]+", each.casefold()) for each in (text, normalized))
    if text == normalized or not words or len(set(words) & set(spoken_words)) * 3 >= len(set(words)):
        return True
    letters, spoken_letters = "".join(words)[:200], "".join(spoken_words)[:200]
    return difflib.SequenceMatcher(None, letters, spoken_letters, autojunk=False).ratio() >= _MIN_SIMILARITY
