"""Export a corpus folder in the format of train-higgs-audio."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.audio.io import recorded_seconds
from higgs_recipes.configs.corpus import ExportConfig
from higgs_recipes.corpus.rows import hashed_id
from higgs_recipes.corpus.sources.listing import audio_stem
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.audiofolder import read_audiofolder
from higgs_recipes.ingest.formats.train_higgs_audio import write_train_higgs_audio
from higgs_recipes.ingest.imported_columns import (
    TEXT_COLUMNS,
    check_fields,
    check_unicode,
    number,
    reference_speakers,
    text_value,
    transcript,
)
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.ingest.source_check import check_source
from higgs_recipes.output_folder import staged_output
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, field_name, rejected_as


def export_corpus(config: ExportConfig) -> int:
    """Copy the recordings, write the transcripts and metadata.json, and return the number of rows.

    All rows are exported or none.

    Raises:
        InputError: no corpus in the folder, or a row without text or a readable recording inside the folder, or with
            an invalid value; names its line.
    """
    source = Path(os.path.expanduser(config.source))
    if not os.path.isdir(source):
        raise InputError(f"source: no such folder: {config.source}")
    check_source(source, config.output_dir)
    with staged_output(config, kind="export_corpus") as folder:
        exporter = _Exporter(SourceFolder(source, follow_links=config.follow_links), folder)
        rows = []
        for row in read_audiofolder(source, exporter.source):
            place = row.columns if isinstance(row, Reject) else row
            try:
                rows.append(exporter.export_row(row))
            except RejectedRow as error:
                raise InputError(f"{place['file']} line {place['line']}: {error}") from error
        if not rows:
            raise InputError(f"{source}: no rows")
        write_train_higgs_audio(folder, rows, created_from=source.name)
    exporter.source.log_notes()
    return len(rows)


@dataclass
class _Exporter:
    """Exports rows one at a time.

    Attributes:
        source: the folder of the corpus.
        folder: the exported folder.
        copies: the path in the corpus of each recording in the exported folder, by its path there.
        seconds: the lengths of recordings that were read, by their paths in the corpus.
        ids: ids in use.
    """

    source: SourceFolder
    folder: Path
    copies: dict[PurePosixPath, PurePosixPath] = field(default_factory=dict)
    seconds: dict[PurePosixPath, float] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def export_row(self, row: ImportRow | Reject) -> dict[str, Any]:
        """Copy the recordings of a row; return it with the paths of the copies and its duration.

        Raises:
            RejectedRow: the row cannot be exported.
        """
        if isinstance(row, Reject):
            raise RejectedRow(row.code, row.field, row.detail)
        check_fields(row)
        columns = ("id", "gender", "scene", "emotion", *TEXT_COLUMNS)
        exported = {column: text_value(row.get(column), column) for column in columns}
        exported |= {"text": transcript(row), "quality_score": number(row, "quality_score")}
        speakers = [
            {key: text_value(speaker.get(key), "ref_speakers") for key in ("speaker_tag", "ref_text", "ref_audio")}
            for speaker in reference_speakers(row)
        ]
        check_unicode(exported | {"ref_speakers": speakers})
        exported["audio"], exported["duration"] = self._copy(row.get("audio"), field="audio")
        if row.get("ref_audio"):
            exported["ref_audio"], _ = self._copy(row["ref_audio"], field="ref_audio")
        for speaker in speakers:
            if speaker["ref_audio"]:
                speaker["ref_audio"], _ = self._copy(speaker["ref_audio"], field="ref_audio")
        exported["ref_speakers"] = speakers
        if not exported["id"]:
            name = PurePosixPath(exported["audio"]).name
            exported["id"] = audio_stem(name) if audio_stem(name) not in self.ids else hashed_id(exported["audio"])
        self.ids.add(exported["id"])
        return exported

    def _copy(self, path: Any, *, field: str) -> tuple[str, float]:
        """The path of the copy, without the audio/ that import prepends, and the seconds of the recording."""
        inner = self.source.resolve(path, field=field)
        check_unicode({field: str(inner)})
        if inner not in self.seconds:  # many rows may have one reference clip
            with rejected_as(RejectCode.UNREADABLE_AUDIO, field):
                self.seconds[inner] = recorded_seconds(self.source.root / inner, name=field_name(field))
        target = PurePosixPath(*inner.parts[1:]) if inner.parts[0] == "audio" and len(inner.parts) > 1 else inner
        if self.copies.get(target, inner) != inner:  # audio/a.wav and a.wav
            target = target.with_name(f"{hashed_id(inner)}{inner.suffix}")
        if target not in self.copies:
            self.copies[target] = inner
            (self.folder / target.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source.root / inner, self.folder / target)
        return target.as_posix(), self.seconds[inner]
