"""Export a corpus folder in the format of train-higgs-audio."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.audio.io import recorded_seconds
from higgs_recipes.configs.corpus import ExportConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import staged_folder
from higgs_recipes.ingest.formats.audiofolder import read_audiofolder
from higgs_recipes.ingest.formats.train_higgs_audio import write_train_higgs_audio
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject


def export_corpus(config: ExportConfig) -> int:
    """Copy the recordings, write the transcripts and metadata.json, and return the number of rows.

    All rows are exported or none.

    Raises:
        InputError: no corpus in the folder, or a row without id, text or a readable recording inside the folder.
    """
    source = Path(config.source).expanduser()
    with staged_folder(config.output_dir, overwrite=config.overwrite_output_dir) as folder:
        rows = [_export_row(row, source, folder) for row in read_audiofolder(source)]
        if not rows:
            raise InputError(f"{source}: no rows")
        write_train_higgs_audio(folder, rows, created_from=source.name)
    return len(rows)


def _export_row(row: ImportRow | Reject, source: Path, folder: Path) -> dict[str, Any]:
    if isinstance(row, Reject):
        raise InputError(f"{row.columns['file']} line {row.columns['line']}: {row.reason}")
    place = f"{row['file']} line {row['line']}"
    for column in ("audio", "text"):
        if not row.get(column):
            raise InputError(f"{place}: no {column}")
    audio = _copy_clip(row["audio"], source, folder, place=place)
    exported = {"audio": audio, "id": row.get("id") or PurePosixPath(audio).stem}
    if row.get("ref_audio"):
        exported["ref_audio"] = _copy_clip(row["ref_audio"], source, folder, place=place)
    if row.get("ref_speakers"):
        exported["ref_speakers"] = [
            speaker | {"ref_audio": _copy_clip(speaker["ref_audio"], source, folder, place=place)}
            for speaker in row["ref_speakers"]
        ]
    return row | exported | {"duration": recorded_seconds(folder / audio, name=place)}


def _copy_clip(name: str, source: Path, folder: Path, *, place: str) -> str:
    """Copy a recording and return its path in the exported folder, without the audio/ that import prepends."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{place}: {name} is outside the folder of the corpus")
    target = path.relative_to("audio") if path.parts[0] == "audio" and len(path.parts) > 1 else path
    if not (source / path).is_file():
        raise InputError(f"{place}: no such recording: {source / path}")
    (folder / target.parent).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / path, folder / target)
    return target.as_posix()
