"""Audio folders of `datasets` and corpora written by import: metadata.csv or metadata.jsonl with file_name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from higgs_recipes.configs.corpus import IMPORT_COLUMNS
from higgs_recipes.corpus.sources.metadata import METADATA_FILES, find_metadata, metadata_rows
from higgs_recipes.corpus.sources.paths import SourceFolder, named_recordings, unnamed_recordings
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode


# Column of the metadata file -> column of `ImportRow`, where the names differ.
_NAMES = {"file_name": "audio", "audio_file_name": "audio", "ref_audio_file_name": "ref_audio"}


def read_audiofolder(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of the folder's metadata file; recordings that it does not name are noted.

    Raises:
        InputError: no metadata file, or two; two columns of one meaning.
    """
    metadata = find_metadata(source)
    if metadata is None:
        raise InputError(f"{source}: neither {' nor '.join(METADATA_FILES)}")
    named: set[str] = set()
    for row in metadata_rows(metadata):
        if isinstance(row, Reject):
            yield row
            continue
        line, stored = row
        place = {"file": str(metadata), "line": line}
        named.update(named_recordings(stored, source))
        if metadata.suffix == ".csv":
            stored = {key: cell or None for key, cell in stored.items()}
        if isinstance(stored.get("turns"), list) and stored["turns"]:
            detail = "are not imported: encode the folder directly"
            yield Reject(RejectCode.INVALID_FIELD, "turns", detail).at(place)
            continue
        yield place | _row(stored, metadata)
    if not folder.match_ends:
        folder.notes += unnamed_recordings(metadata, named)


def _row(stored: dict[str, Any], metadata: Path) -> ImportRow:
    named: dict[str, Any] = {}
    for key, value in stored.items():
        if (name := _NAMES.get(key, key)) in named:
            raise InputError(f"{metadata}: two columns are a row's {name}, one of them {key}; keep one")
        named[name] = value
    named["scene"] = named.get("scene_label") or named.get("scene")  # import keeps the label of its source
    return {key: named[key] for key in IMPORT_COLUMNS if key in named} | {"fields": stored}
