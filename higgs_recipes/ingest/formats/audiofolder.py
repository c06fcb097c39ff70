"""Audio folders of `datasets`, and our own corpora: metadata.csv or metadata.jsonl with file_name."""

import csv
from collections.abc import Iterator
from pathlib import Path

from higgs_recipes.corpus.sources.metadata import METADATA_FILES, find_metadata, json_object
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import Row, parse_lines


# Their names for what our rows call otherwise.
_NAMES = {"file_name": "audio", "audio_file_name": "audio", "ref_audio_file_name": "ref_audio"}
_COLUMNS = (
    "id",
    "audio",
    "text",
    "speaker",
    "speaker_name",
    "language",
    "gender",
    "scene",
    "emotion",
    "ref_audio",
    "ref_text",
    "ref_speakers",
    "task",
    "user_instruction",
    "quality_score",
    "original_audio_path",
)


def read_audiofolder(source: Path) -> Iterator[Row]:
    """Rows of the folder's metadata file; `columns` in the recipe names the columns that are called otherwise.

    Raises:
        InputError: there is no metadata file, or there are two.
    """
    metadata = find_metadata(source)
    if metadata is None:
        raise InputError(f"{source}: neither {' nor '.join(METADATA_FILES)}")
    for row in _read_csv(metadata) if metadata.suffix == ".csv" else parse_lines(metadata, json_object):
        place = {"file": str(metadata), "line": row.pop("line")}
        yield place | ({"reason": row["reason"]} if "reason" in row else _row(row))


def _row(stored: Row) -> Row:
    named = {_NAMES.get(key, key): value for key, value in stored.items()}
    named["scene"] = named.get("scene_label") or named.get("scene")  # of a corpus of ours: as its own source had it
    return {key: named[key] for key in _COLUMNS if key in named} | {"fields": stored}


def _read_csv(path: Path) -> Iterator[Row]:
    """A cell in quotation marks may hold line breaks: such a row has the number of its last line."""
    numbers: list[int] = []  # of the lines that the reader has seen: one that is not UTF-8 does not reach it
    rejects: list[Row] = []

    def texts() -> Iterator[str]:
        for line in parse_lines(path, lambda line: {"text": line}):
            if "reason" in line:
                rejects.append({"line": line["line"], "reason": line["reason"]})
            else:
                numbers.append(line["line"])
                yield line["text"] + "\n"

    reader = csv.reader(texts(), strict=True)
    head: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
            if cells is None:
                break
            if head is None:
                head = cells
            elif len(cells) != len(head):
                raise InputError(f"not one cell for each of {', '.join(head)}; quote commas")
            else:
                yield {"line": numbers[-1]} | {key: cell or None for key, cell in zip(head, cells, strict=True)}
        except (csv.Error, InputError) as error:
            yield {"line": numbers[-1], "reason": str(error)}
    yield from rejects
