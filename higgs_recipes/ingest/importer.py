"""Rows of a source -> rows of a corpus, with their recordings copied or linked."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from higgs_recipes.audio.io import read_audio, read_bytes, recorded_seconds, wav_bytes
from higgs_recipes.configs.corpus import ImportConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.rows import file_safe_id
from higgs_recipes.ingest.import_paths import relative_path
from higgs_recipes.ingest.imported_columns import check_unicode, imported_columns, number, reference_speakers
from higgs_recipes.ingest.rows import ImportedRow, ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, field_name, rejected_as


@dataclass(frozen=True)
class ImportSource:
    """A source of a recipe.

    Attributes:
        root: the folder that paths of recordings are relative to.
        prefix: of ids and paths in the corpus; "" for a single source.
        constants: columns with one value for all rows.
    """

    root: Path
    prefix: str
    constants: Mapping[str, str]


@dataclass
class Importer:
    """Imports rows one at a time and rejects duplicates.

    Attributes:
        folder: the folder of the corpus.
        clips: paths below audio/ that exist already; several rows may share a reference clip.
        ids: the place of the row with each id.
        hashes: the place and the text of the row with each recording, by its SHA-256.
        decoded: the last recording from which a segment was cut.
    """

    config: ImportConfig
    folder: Path
    clips: set[PurePosixPath] = field(default_factory=set)
    ids: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, tuple[str, str]] = field(default_factory=dict)
    decoded: tuple[Path, Tensor] | None = None

    def row_or_reject(self, row: ImportRow | Reject, source: ImportSource) -> ImportedRow | Reject:
        """Import a row; a reject has "file", "line" and "id"."""
        columns = row.columns if isinstance(row, Reject) else row
        place = {key: columns.get(key) for key in ("file", "line", "id")}
        try:
            return row.at(place) if isinstance(row, Reject) else self.import_row(row, source)
        except RejectedRow as error:
            return error.reject.at(place)

    def import_row(self, row: ImportRow, source: ImportSource) -> ImportedRow:
        """Check a row, store its recordings and return its line of metadata.jsonl.

        Raises:
            RejectedRow: the row cannot be imported.
        """
        row = self._map_columns(row) | source.constants
        check_unicode(row)
        self._check_quality(row)
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise RejectedRow(RejectCode.EMPTY_TRANSCRIPT, "text", "empty transcript: add a text or remove the row")
        audio = relative_path(row.get("audio"), source.root, field="audio")
        row_id = file_safe_id(row.get("id") or audio.with_suffix(""))
        row_id = f"{source.prefix}-{row_id}" if source.prefix else row_id
        place = f"{row['file']} line {row['line']}"
        if row_id in self.ids:
            raise RejectedRow(RejectCode.DUPLICATE_ID, "id", f"{self.ids[row_id]} has {row_id} too")

        clip, target = self._read_clip(row, source.root / audio, PurePosixPath(source.prefix) / audio, row_id=row_id)
        with rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"):
            seconds = recorded_seconds(clip, name=field_name("audio"))
        digest = hashlib.sha256(clip).hexdigest()
        if digest in self.hashes:
            first, first_text = self.hashes[digest]
            code = RejectCode.SAME_RECORDING if first_text == text else RejectCode.OTHER_TRANSCRIPT
            raise RejectedRow(code, "audio", f"{first} has it too")
        paths = [row.get("ref_audio"), *(speaker.get("ref_audio") for speaker in reference_speakers(row))]
        references = {path: self._find_reference(path, source) for path in paths if path is not None}
        corpus_row = imported_columns(
            row,
            id=row_id,
            file_name=f"audio/{target}",
            stored_paths={path: f"audio/{stored}" for path, (_, stored) in references.items()},
            duration=round(seconds, 3),
        )

        self._store(target, clip, origin=None if row.get("segment") else source.root / audio)
        for origin, stored in references.values():
            self._store(stored, None, origin=origin)
        self.ids[row_id], self.hashes[digest] = place, (place, text)
        return corpus_row

    def _map_columns(self, row: ImportRow) -> ImportRow:
        fields, columns = row.get("fields", {}), self.config.columns or {}
        for column, name in columns.items():
            if name not in fields:
                present = ", ".join(map(str, fields)) or "none"
                raise RejectedRow(RejectCode.NO_FIELD, column, f"{name!r} is not one of {present}")
        return row | {column: fields[name] for column, name in columns.items()}

    def _check_quality(self, row: ImportRow) -> None:
        score, lowest = number(row, "quality_score"), self.config.min_quality_score
        if lowest is not None and (score is None or score < lowest):
            raise RejectedRow(RejectCode.TOO_LOW, "quality_score", f"{score}, min_quality_score is {lowest}")

    def _read_clip(
        self, row: ImportRow, origin: Path, target: PurePosixPath, *, row_id: str
    ) -> tuple[bytes, PurePosixPath]:
        """The encoded clip, and its path below audio/."""
        if not row.get("segment"):
            with rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"):
                return read_bytes(origin, name=field_name("audio")), target
        if not self.config.copy_audio:
            raise RejectedRow(RejectCode.PART_OF_FILE, "segment", "set copy_audio: true to cut it out")
        start, end = row["segment"]
        if self.decoded is None or self.decoded[0] != origin:  # segments of one recording follow each other
            with rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"):
                self.decoded = origin, read_audio(origin, name=field_name("audio"))
        waveform = self.decoded[1]
        if end * SAMPLE_RATE > len(waveform) + SAMPLE_RATE:  # one second of tolerance: ends may be rounded up
            detail = f"it ends at {end} s, the recording at {len(waveform) / SAMPLE_RATE:.2f} s"
            raise RejectedRow(RejectCode.SEGMENT_OUTSIDE, "segment", detail)
        part = waveform[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        if not len(part):
            raise RejectedRow(RejectCode.SEGMENT_OUTSIDE, "segment", "it contains no samples")
        return wav_bytes(part), target.with_name(f"{row_id}.wav")

    def _find_reference(self, path: Any, source: ImportSource) -> tuple[Path, PurePosixPath]:
        """The file of a reference clip, and its path below audio/."""
        inner = relative_path(path, source.root, field="ref_audio")
        with rejected_as(RejectCode.UNREADABLE_AUDIO, "ref_audio"):
            recorded_seconds(source.root / inner, name=field_name("ref_audio"))
        return source.root / inner, PurePosixPath(source.prefix) / inner

    def _store(self, target: PurePosixPath, clip: bytes | None, *, origin: Path | None) -> None:
        if target in self.clips:
            return
        self.clips.add(target)
        path = self.folder / "audio" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if origin is not None and not self.config.copy_audio:
            path.symlink_to(origin)
        else:
            path.write_bytes(origin.read_bytes() if clip is None else clip)
