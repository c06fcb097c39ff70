"""Trees with one transcript for each recording, where a folder is a speaker."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from higgs_recipes.errors import InputError
from higgs_recipes.formats.lines import Row, parse_lines, read_text


def read_pairs(
    source: Path,
    recordings: Mapping[str, Path],
    transcripts: Mapping[str, Path],
    *,
    speaker_of: Callable[[Path], str],
    genders: Mapping[str, str],
) -> Iterator[Row]:
    """A row for each utterance that has both files, a reject for each that lacks one.

    Args:
        recordings, transcripts: files by utterance.
        genders: by speaker.

    Raises:
        InputError: there is neither a recording nor a transcript.
    """
    if not recordings and not transcripts:
        raise InputError(f"{source}: no recordings where this layout has them")
    for name in sorted(recordings.keys() | transcripts.keys()):
        place = {"file": str(transcripts.get(name) or recordings[name]), "line": 1, "id": name}
        try:
            if name not in recordings:
                raise InputError("no recording for this transcript")
            if name not in transcripts:
                raise InputError("no transcript for this recording")
            speaker = speaker_of(recordings[name])
            yield place | {
                "audio": recordings[name].relative_to(source).as_posix(),
                "text": read_text(transcripts[name]).strip(),
                "speaker": speaker,
                "gender": genders.get(speaker),
            }
        except InputError as error:
            yield place | {"reason": str(error)}


def read_genders(path: Path, *, column: int) -> dict[str, str]:
    """F or M by speaker, from a table whose cells are parted by white space or bars; none where there is no file."""
    if not path.is_file():
        return {}
    rows = parse_lines(path, lambda line: {"cells": re.split(r"[\s|]+", line.strip())})
    cells = [row["cells"] for row in rows if len(row.get("cells", ())) > column]
    return {each[0]: each[column] for each in cells if each[column] in ("F", "M")}
