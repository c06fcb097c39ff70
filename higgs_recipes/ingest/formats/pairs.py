"""Folders with a transcript file for each recording, where a folder is a speaker."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from higgs_recipes.corpus.rows import nfc
from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import read_text
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


Named = tuple[str, Path]  # an utterance and its file


def read_pairs(
    source: SourceFolder,
    recordings: Iterable[Named],
    transcripts: Iterable[Named],
    *,
    speaker_of: Callable[[Path], str],
    genders: Mapping[str, str],
) -> Iterator[ImportRow | Reject]:
    """Yield a row for each utterance with both files, and a reject for each missing and each duplicate file.

    Args:
        source: the folder of all files.
        genders: by speaker.

    Raises:
        InputError: no recordings and no transcripts.
    """
    recording_of, duplicate_recordings = _first_files(recordings)
    transcript_of, duplicate_transcripts = _first_files(transcripts)
    if not recording_of and not transcript_of:
        raise InputError(f"{source.root}: no recordings in the folders of this format")
    for name in sorted(recording_of.keys() | transcript_of.keys()):
        place = {"file": str(transcript_of.get(name) or recording_of[name]), "line": 1, "id": name}
        try:
            if name not in recording_of:
                raise RejectedRow(RejectCode.NO_RECORDING, "audio")
            if name not in transcript_of:
                raise RejectedRow(RejectCode.NO_TRANSCRIPT, "text")
            for path, field in ((recording_of[name], "audio"), (transcript_of[name], "text")):
                source.check_link(path, field=field)
            speaker = speaker_of(recording_of[name])
            yield place | {
                "audio": str(recording_of[name]),
                "text": read_text(transcript_of[name]).strip(),
                "speaker": speaker,
                "gender": genders.get(speaker),
            }
        except RejectedRow as error:
            yield error.reject.at(place)
    for first, duplicates in ((recording_of, duplicate_recordings), (transcript_of, duplicate_transcripts)):
        for name, path in duplicates:
            duplicate = Reject(RejectCode.DUPLICATE_ID, "id", f"{first[name]} has {name} too")
            yield duplicate.at({"file": str(path), "line": 1, "id": name})


def _first_files(files: Iterable[Named]) -> tuple[dict[str, Path], list[Named]]:
    """The first file of each utterance, and the duplicates."""
    first: dict[str, Path] = {}
    duplicates: list[Named] = []
    for name, path in sorted(files, key=lambda file: file[1]):
        name = nfc(name)
        if first.setdefault(name, path) != path:
            duplicates.append((name, path))
    return first, duplicates


def read_genders(path: Path, *, column: int) -> dict[str, str]:
    """Read "F" or "M" by speaker from a table with cells separated by whitespace or bars; empty without the file."""
    if not path.is_file():
        return {}
    rows = parse_lines(path, lambda line: {"cells": re.split(r"[\s|]+", line.strip())})
    lines = [row["cells"] for row in rows if not isinstance(row, Reject) and len(row["cells"]) > column]
    return {cells[0]: cells[column] for cells in lines if cells[column] in ("F", "M")}
