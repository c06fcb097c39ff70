"""Rows of a source -> rows of a corpus, with their recordings copied or linked."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath

from higgs_recipes.audio.io import recorded_seconds, wav_bytes
from higgs_recipes.audio.long_recording import LongRecording
from higgs_recipes.configs.corpus import ImportConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.rows import file_safe_id, hashed_id, nfc
from higgs_recipes.corpus.sources.cells import is_null
from higgs_recipes.corpus.sources.listing import audio_stem
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError, shown
from higgs_recipes.files import sha256_file
from higgs_recipes.ingest.imported_columns import (
    check_fields,
    check_unicode,
    check_words,
    imported_columns,
    number,
    reference_speakers,
    transcript,
)
from higgs_recipes.ingest.rows import ImportedRow, ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, field_name, rejected_as


@dataclass(frozen=True)
class ImportSource:
    """A source of a recipe.

    Attributes:
        folder: the folder of its recordings.
        prefix: of ids and paths in the corpus; "" for a single source.
        constants: columns with one value for all rows.
    """

    folder: SourceFolder
    prefix: str
    constants: Mapping[str, str]


@dataclass(frozen=True)
class _Clip:
    """A recording that can be read: a file, or a segment of one as wav."""

    origin: Path
    wav: bytes | None
    digest: str
    seconds: float


@dataclass
class Importer:
    """Imports rows one at a time and rejects duplicates.

    Attributes:
        folder: the folder of the corpus.
        stored: paths below audio/ that exist already; several rows may share a reference clip.
        ids: the place and the name (an id or a file) of the row with each id.
        hashes: the place and the text of the row with each recording, by its SHA-256.
        references: reference clips that were read already.
        num_unrated: the number of rows without a quality score, if a minimum is set.
        recording: the last recording from which a segment was cut; open.
    """

    config: ImportConfig
    folder: Path
    stored: set[PurePosixPath] = field(default_factory=set)
    ids: dict[str, tuple[str, str]] = field(default_factory=dict)
    hashes: dict[str, tuple[str, str]] = field(default_factory=dict)
    references: dict[Path, _Clip] = field(default_factory=dict)
    num_unrated: int = 0
    recording: tuple[Path, LongRecording] | None = None

    def close(self) -> None:
        if self.recording is not None:
            self.recording[1].__exit__()
            self.recording = None

    def row_or_reject(self, row: ImportRow | Reject, source: ImportSource) -> ImportedRow | Reject:
        """Import a row; a reject has "file", "line" and "id"."""
        columns = row.columns if isinstance(row, Reject) else row
        row_id = columns.get("id")
        row_id = row_id if isinstance(row_id, (str, int, float, type(None))) else shown(row_id)
        place = {"file": columns["file"], "line": columns["line"], "id": row_id}
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
        self._check_quality(row)
        check_fields(row)
        text = transcript(row)
        check_words(text)
        audio = source.folder.resolve(row.get("audio"), field="audio")
        row_id, name = self._row_id(row, audio, source)
        clip = self._read_clip(row, source.folder.root / audio)
        if clip.digest in self.hashes:
            first, first_text = self.hashes[clip.digest]
            code = RejectCode.SAME_RECORDING if first_text == nfc(text) else RejectCode.OTHER_TRANSCRIPT
            raise RejectedRow(code, "audio", f"{first} has it too")
        target = _target(audio, source.prefix)
        if clip.wav is not None:
            target = target.with_name(f"{row_id}.wav")
        references = self._read_references(row, source, clip)
        corpus_row = imported_columns(
            row,
            id=row_id,
            file_name=f"audio/{target}",
            stored_paths={path: f"audio/{stored}" for path, (_, stored) in references.items()},
            duration=round(clip.seconds, 3),
        )
        check_unicode(corpus_row)

        self._store(clip, target)
        for reference, stored in references.values():
            self._store(reference, stored)
        self.num_unrated += self.config.min_quality_score is not None and corpus_row["quality_score"] is None
        place = f"{row['file']} line {row['line']}"
        self.ids[row_id], self.hashes[clip.digest] = (place, name), (place, nfc(text))
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
        if lowest is not None and score is not None and score < lowest:
            raise RejectedRow(RejectCode.TOO_LOW, "quality_score", f"{score}, min_quality_score is {lowest}")

    def _row_id(self, row: ImportRow, audio: PurePosixPath, source: ImportSource) -> tuple[str, str]:
        """The id of a row and the name that it is made of: its own id, or the path of its recording."""
        own, prefix = row.get("id"), f"{source.prefix}-" if source.prefix else ""
        if not isinstance(own, (str, int, float, type(None))):
            raise RejectedRow(RejectCode.INVALID_FIELD, "id", f"is a {type(own).__name__}")
        has_own = not is_null(own) and str(own).strip() != ""
        name = f"{prefix}{'id' if has_own else 'file'} {nfc(str(own)) if has_own else audio}"
        row_id = prefix + file_safe_id(own if has_own else audio_stem(str(audio)))
        if row_id in self.ids and self.ids[row_id][1] != name:  # a.wav and a.flac
            row_id = prefix + hashed_id(own if has_own else audio)
        if row_id in self.ids:
            raise RejectedRow(RejectCode.DUPLICATE_ID, "id", f"{self.ids[row_id][0]} has {row_id} too")
        return row_id, name

    def _read_clip(self, row: ImportRow, origin: Path) -> _Clip:
        if row.get("segment"):
            return self._cut_segment(row, origin)
        return _read_file(origin, field="audio")

    def _cut_segment(self, row: ImportRow, origin: Path) -> _Clip:
        if not self.config.copy_audio:
            raise RejectedRow(RejectCode.PART_OF_FILE, "segment", "set copy_audio: true to cut it out")
        start, end = row["segment"]
        try:
            recording = self._open(origin)
            channel = row.get("channel")
            if channel is not None and (recording.channels > 1 or channel not in ("0", "A")):
                detail = f"it names channel {channel}, the recording has {recording.channels}: split it into files"
                raise RejectedRow(RejectCode.NO_SEGMENT, "segment", detail)
            flaw = recording.contents.flaw
            tolerance = 1.0 if flaw is None else 0.0  # seconds: ends may be rounded up
            if end is not None and end > recording.seconds + tolerance:
                detail = f"it ends at {end} s, the recording at {recording.seconds:.2f} s"
                detail += f" ({flaw})" if flaw else ""
                raise RejectedRow(RejectCode.SEGMENT_OUTSIDE, "segment", detail)
            end = recording.seconds if end is None else min(end, recording.seconds)
            if round((end - start) * SAMPLE_RATE) < 1:
                raise RejectedRow(RejectCode.SEGMENT_OUTSIDE, "segment", "it contains no samples")
            waveform, _ = recording.span(start, end, rate=SAMPLE_RATE)
        except RejectedRow:
            raise
        except InputError as error:
            raise RejectedRow(RejectCode.UNREADABLE_AUDIO, "audio", f"recording: {error}") from error
        wav = wav_bytes(waveform)
        return _Clip(origin, wav, sha256(wav).hexdigest(), len(waveform) / SAMPLE_RATE)

    def _open(self, origin: Path) -> LongRecording:
        """The open recording; readers yield the segments of one recording after each other, by time."""
        if self.recording is None or self.recording[0] != origin:
            self.close()
            self.recording = origin, LongRecording(origin)
        return self.recording[1]

    def _read_references(
        self, row: ImportRow, source: ImportSource, clip: _Clip
    ) -> dict[str, tuple[_Clip, PurePosixPath]]:
        """The reference clips of a row with their paths below audio/, by their paths in the row."""
        paths = [row.get("ref_audio"), *(speaker.get("ref_audio") for speaker in reference_speakers(row))]
        references = {}
        for path in paths:
            if path is None or path == "":
                continue
            inner = source.folder.resolve(path, field="ref_audio")
            origin = source.folder.root / inner
            if origin not in self.references:
                self.references[origin] = _read_file(origin, field="ref_audio")
            if self.references[origin].digest == clip.digest:
                detail = "is the clip itself: use another recording of the speaker"
                raise RejectedRow(RejectCode.INVALID_FIELD, "ref_audio", detail)
            references[path] = self.references[origin], _target(inner, source.prefix)
        return references

    def _store(self, clip: _Clip, target: PurePosixPath) -> None:
        if target in self.stored:
            return
        self.stored.add(target)
        path = self.folder / "audio" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if clip.wav is not None:
            path.write_bytes(clip.wav)
        elif self.config.copy_audio:
            shutil.copyfile(clip.origin, path)
        else:
            path.symlink_to(clip.origin)


def _read_file(origin: Path, *, field: str) -> _Clip:
    with rejected_as(RejectCode.UNREADABLE_AUDIO, field):
        seconds = recorded_seconds(origin, name=field_name(field))
        return _Clip(origin, None, sha256_file(origin), seconds)


def _target(inner: PurePosixPath, prefix: str) -> PurePosixPath:
    """The path of a recording below audio/: as in its source, but for names that are not UTF-8."""
    return PurePosixPath(prefix, *map(_utf8_name, inner.parts))


def _utf8_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        stem, suffix = os.path.splitext(name)
        return file_safe_id(stem) + suffix
    return name
