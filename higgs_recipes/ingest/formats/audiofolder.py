"""Audio folders of `datasets` and corpora written by import: metadata.csv or metadata.jsonl with file_name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.corpus.sources.metadata import METADATA_FILES, find_metadata, metadata_rows
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode


# Column of the metadata file -> column of `ImportRow`, where the names differ.
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


def read_audiofolder(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of the folder's metadata file.

    Raises:
        InputError: no metadata file, or two.
    """
    metadata = find_metadata(source)
    if metadata is None:
        raise InputError(f"{source}: neither {' nor '.join(METADATA_FILES)}")
    for row in metadata_rows(metadata):
        if isinstance(row, Reject):
            yield row
            continue
        line, stored = row
        place = {"file": str(metadata), "line": line}
        if metadata.suffix == ".csv":
            stored = {key: cell or None for key, cell in stored.items()}
        if isinstance(stored.get("turns"), list) and stored["turns"]:
            detail = "are not imported: encode the folder directly"
            yield Reject(RejectCode.INVALID_FIELD, "turns", detail).at(place)
            continue
        yield place | _row(stored)


def _row(stored: dict[str, Any]) -> ImportRow:
    named = {_NAMES.get(key, key): value for key, value in stored.items()}
    named["scene"] = named.get("scene_label") or named.get("scene")  # import keeps the label of its source
    return {key: named[key] for key in _COLUMNS if key in named} | {"fields": stored}
