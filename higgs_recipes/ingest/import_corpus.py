"""Other people's corpora -> a folder of metadata.jsonl and recordings that encode takes as it is.

Recordings keep their paths, below audio/. Where they are not copied, audio/ holds links to them: nothing is written
into the source, and no path in the metadata leaves the folder.
"""

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio.io import read_part, recorded_seconds, wav_bytes
from higgs_recipes.configs.corpus import CONSTANTS, ImportConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.corpus import short_reason
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, sha256_file, staged_folder
from higgs_recipes.ingest.formats.readers import READERS
from higgs_recipes.provenance import git_commit, library_versions


logger = logging.getLogger(__name__)

Row = dict[str, Any]

# What a row's own words become: as texts, or None where there is none.
_TEXT_COLUMNS = ("speaker", "speaker_name", "language", "ref_text", "task", "user_instruction", "original_audio_path")
_GENDERS = {"m": "male", "f": "female", "unknown": None}


@dataclass
class _Import:
    """One import under way.

    Attributes:
        folder: where the corpus is written.
        clips: paths below audio/ that are written already; references may be shared by many rows.
        ids, hashes: to the place of the row that has them, hashes to its text too.
        decoded: the last recording that a segment was cut from, and what is missing of it.
    """

    config: ImportConfig
    folder: Path
    clips: set[PurePosixPath] = field(default_factory=set)
    ids: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, tuple[str, str]] = field(default_factory=dict)
    decoded: tuple[Path, Tensor, str | None] | None = None

    def take(self, row: Row, *, constants: Mapping[str, str], root: Path, prefix: str) -> Row:
        """The corpus row of a row as its format reads it, with its recordings in place.

        Raises:
            InputError: why it is rejected.
        """
        row = self._mapped(row) | constants
        _check_letters(row)
        self._check_quality(row)
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InputError("empty transcript: give it words or drop it")
        audio = _inner_path(row.get("audio"), root, column="recording")
        row_id = _fit(row.get("id") or audio.with_suffix(""))
        row_id = f"{prefix}-{row_id}" if prefix else row_id
        place = f"{row['file']} line {row['line']}"
        if row_id in self.ids:
            raise InputError(f"duplicate id: {self.ids[row_id]} has {row_id} too")

        clip, target = self._clip(row, root / audio, PurePosixPath(prefix) / audio, row_id=row_id)
        seconds = recorded_seconds(root / audio if clip is None else clip, name="recording")
        digest = sha256_file(root / audio) if clip is None else hashlib.sha256(clip).hexdigest()
        if digest in self.hashes:
            other, said = self.hashes[digest]
            raise InputError(f"same recording{'' if said == text else ' with another transcript'}: {other} has it too")
        references = [row.get("ref_audio"), *(each.get("ref_audio") for each in _speakers(row))]
        found = {path: self._reference(path, root, prefix) for path in references if path is not None}

        self._write(target, clip, origin=None if row.get("segment") else root / audio)
        for origin, stored in found.values():
            self._write(stored, None, origin=origin)
        self.ids[row_id], self.hashes[digest] = place, (place, text)
        placed = {path: f"audio/{stored}" for path, (_, stored) in found.items()}
        return _corpus_row(row, id=row_id, file_name=f"audio/{target}", placed=placed, duration=round(seconds, 3))

    def _mapped(self, row: Row) -> Row:
        fields = row.get("fields", {})
        for ours, theirs in (self.config.columns or {}).items():
            if theirs not in fields:
                raise InputError(f"no field for {ours}: {theirs!r} is none of {', '.join(map(str, fields)) or 'none'}")
        return row | {ours: fields[theirs] for ours, theirs in (self.config.columns or {}).items()}

    def _check_quality(self, row: Row) -> None:
        score, least = _number(row, "quality_score"), self.config.min_quality_score
        if least is not None and (score is None or score < least):
            raise InputError(f"quality_score too low: {score}, min_quality_score is {least}")

    def _clip(
        self, row: Row, origin: Path, target: PurePosixPath, *, row_id: str
    ) -> tuple[bytes | None, PurePosixPath]:
        """The clip that is cut out of a recording, None if it is the whole of one, and where it is written."""
        if not row.get("segment"):
            return None, target
        if not self.config.copy_audio:
            raise InputError("part of a longer file; set copy_audio: true to have it cut out")
        start, end = row["segment"]
        if self.decoded is None or self.decoded[0] != origin:  # the segments of a recording stand one after the other
            self.decoded = origin, *read_part(origin, name="recording")
        _, waveform, flaw = self.decoded
        slack = SAMPLE_RATE if flaw is None else 0  # of a whole recording: segments are rounded up
        if end * SAMPLE_RATE > len(waveform) + slack:
            raise InputError(
                f"segment too late: it ends at {end} s, the recording at {len(waveform) / SAMPLE_RATE:.2f} s"
                + (f" ({flaw})" if flaw else "")
            )
        part = waveform[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        if not len(part):
            raise InputError("segment too late: it holds no samples")
        return wav_bytes(part), target.with_name(f"{row_id}.wav")

    def _reference(self, path: Any, root: Path, prefix: str) -> tuple[Path, PurePosixPath]:
        inner = _inner_path(path, root, column="reference clip")
        recorded_seconds(root / inner, name="reference clip")
        return root / inner, PurePosixPath(prefix) / inner

    def _write(self, target: PurePosixPath, clip: bytes | None, *, origin: Path | None) -> None:
        if target in self.clips:
            return
        self.clips.add(target)
        path = self.folder / "audio" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if origin is not None and not self.config.copy_audio:
            path.symlink_to(origin)
        else:
            shutil.copyfile(origin, path) if clip is None else path.write_bytes(clip)


def import_corpus(config: ImportConfig) -> dict[str, Any]:
    """Write the corpus; returns what import.json says: format, sources, rows, seconds, rejects by reason, recipe.

    Raises:
        InputError: a source that is not there or not in the format, or not one good row in all of them.
    """
    sources = [{"path": source} if isinstance(source, str) else source for source in config.sources]
    num_rows, seconds, reasons, first = 0, 0.0, Counter(), None
    with staged_folder(config.output_dir, overwrite=config.overwrite_output_dir) as folder:
        under_way = _Import(config, folder)
        with (
            (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata,
            (folder / "rejects.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as rejects,
        ):
            for row, place in tqdm(_rows(config, sources), desc="Importing", unit=" rows"):
                try:
                    if "reason" in row:
                        raise InputError(row["reason"])
                    taken = under_way.take(row, **place)
                except InputError as error:
                    reject = {key: row.get(key) for key in ("file", "line", "id")} | {"reason": str(error)}
                    rejects.write(json.dumps(reject, ensure_ascii=False) + "\n")
                    reasons[short_reason(reject["reason"])] += 1
                    first = first or reject
                    continue
                metadata.write(json.dumps(taken, ensure_ascii=False) + "\n")
                num_rows, seconds = num_rows + 1, seconds + taken["duration"]
        if not num_rows:
            raise InputError(f"no row is left of {reasons.total()}: {dict(reasons)}; the first: {first}")
        record = {
            "format": config.format,
            "sources": config.sources,
            "rows": num_rows,
            "seconds": round(seconds, 2),
            "rejects": dict(reasons.most_common()),
            "recipe": asdict(config),
            "git_commit": git_commit(),
            "versions": library_versions(),
        }
        atomic_write(folder / "import.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    for reason, count in reasons.most_common():
        logger.warning("%d rejected: %s", count, reason)
    return record


def describe_scene(scene: str | None, emotion: str | None) -> str | None:
    """The sentences on a recording that the model is given, from labels such as "quiet_room" and "questioning".

    >>> describe_scene("quiet_room", "questioning")
    'Audio is recorded from a quiet room. The speaker sounds questioning.'
    >>> describe_scene("Audio is recorded from a street.", None)
    'Audio is recorded from a street.'
    """
    sentences = []
    if words := (scene or "").replace("_", " ").strip():
        is_label = words[-1].isalnum()  # a sentence ends with a mark
        if is_label and re.fullmatch(r"(?!(an?|the) )[a-z ]+", words):
            words = f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
        sentences.append(f"Audio is recorded from {words}." if is_label else scene.strip())
    if emotion:
        sentences.append(f"The speaker sounds {emotion.replace('_', ' ').strip()}.")
    return " ".join(sentences) or None


def _rows(config: ImportConfig, sources: list[Mapping[str, str]]) -> Iterator[tuple[Row, Row]]:
    """Each row with its source's {"constants", "root" (where recordings lie), "prefix" (of ids and paths)}."""
    for index, source in enumerate(sources):
        path = Path(os.path.abspath(Path(source["path"]).expanduser()))
        if not path.exists():
            raise InputError(f"sources: no such file or folder: {source['path']}")
        wants_file = config.format in ("ms_swift", "gpt_sovits", "f5")
        if wants_file != path.is_file():
            kind = "list file" if wants_file else "folder"
            raise InputError(f"sources: {source['path']} is no {kind}; format {config.format} needs one")
        folder = path.parent if wants_file else path
        # Not resolved, as in sources.py: links inside a corpus are its owner's to make.
        root = folder if config.audio_dir is None else Path(os.path.abspath(Path(config.audio_dir).expanduser()))
        constants = {key: source[key] for key in CONSTANTS if key in source}
        for row in READERS[config.format](path):
            yield row, {"constants": constants, "root": root, "prefix": str(index) if len(sources) > 1 else ""}


def _corpus_row(row: Row, *, id: str, file_name: str, placed: Mapping[str, str], duration: float) -> Row:
    texts = {key: None if row.get(key) is None else str(row[key]) for key in _TEXT_COLUMNS}
    gender, scene, emotion = (
        None if row.get(key) is None else str(row[key]) for key in ("gender", "scene", "emotion")
    )
    speakers = [each | {"ref_audio": placed.get(each.get("ref_audio"))} for each in _speakers(row)]
    return {
        "id": id,
        "file_name": file_name,
        "text": row["text"],
        "speaker": texts.pop("speaker"),
        "language": texts.pop("language"),
        "gender": None if gender is None else _GENDERS.get(gender.lower(), gender),
        "scene": describe_scene(scene, emotion),
        "scene_label": scene,
        "emotion": emotion,
        "ref_audio_file_name": placed.get(row.get("ref_audio")),
        "ref_speakers": speakers or None,
        "quality_score": _number(row, "quality_score"),
        "duration": duration,
    } | texts


def _speakers(row: Row) -> list[Row]:
    speakers = row.get("ref_speakers") or []
    if not isinstance(speakers, list) or not all(isinstance(each, dict) for each in speakers):
        raise InputError("ref_speakers is no list of {speaker_tag, ref_text, ref_audio}")
    return speakers


def _inner_path(path: Any, root: Path, *, column: str) -> PurePosixPath:
    """A path as a list writes it, relative to `root`."""
    if not isinstance(path, str) or not PurePosixPath(path.strip()).name or "\0" in path:
        raise InputError(f"no file name: {column} is {path!r}")
    windows = PureWindowsPath(path)
    inner = PurePosixPath(windows.as_posix() if "\\" in path else path)
    if inner.is_absolute() and inner.is_relative_to(root):
        inner = inner.relative_to(root)
    if inner.is_absolute() or windows.drive or ".." in inner.parts:
        raise InputError(
            f"{column} leaves its folder: {path} is not in {root}; set audio_dir to the folder of all recordings"
        )
    return inner


def _check_letters(row: Row) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # half of a pair in a JSON escape, or a file name that is not UTF-8
        raise InputError(f"no letter: {error.object[error.start]!r} in {error.object!r}") from error


def _fit(name: Any) -> str:
    """An id fit for a file name, as encode makes it."""
    return re.sub(r"[^\w.-]+", "_", str(name)).lstrip(".")


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{column} is no number: {value!r}") from error
    if not math.isfinite(number):
        raise InputError(f"{column} is no number: {value!r}")
    return number
