"""Read and write folders of train-higgs-audio: recordings with their transcripts, and metadata.json."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats.lines import read_text
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


METADATA = "metadata.json"
AUDIO_SUFFIXES = (".wav", ".mp3")

# Field -> column; without audio_file, transcript_file, ref_speakers and duration, which is measured again.
_FIELDS = {
    "id": "id",
    "speaker_id": "speaker",
    "speaker_name": "speaker_name",
    "scene": "scene",
    "emotion": "emotion",
    "language": "language",
    "gender": "gender",
    "quality_score": "quality_score",
    "original_audio_path": "original_audio_path",
    "user_instruction": "user_instruction",
    "task_type": "task",
    "ref_audio_file": "ref_audio",
    "ref_transcript": "ref_text",
}
# Values that its converter writes for unknown fields.
_UNKNOWN = {
    "speaker_id": "unknown_speaker",
    "speaker_name": "Unknown",
    "gender": "unknown",
    "task_type": "audio_generation",
}


def read_train_higgs_audio(source: Path) -> Iterator[ImportRow | Reject]:
    """Yield the rows of metadata.json with the line where each starts, or without it a row for each recording.

    Raises:
        InputError: metadata.json cannot be read (names the line), or the folder has neither it nor recordings.
    """
    path = source / METADATA
    if path.is_file():
        for line, sample in _samples(path):
            yield _row_or_reject(sample, source, {"file": str(path), "line": line})
        return
    recordings = sorted(path for path in source.glob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not recordings:
        raise InputError(f"{source}: neither {METADATA} nor a {' or '.join(AUDIO_SUFFIXES)} file")
    for recording in recordings:
        transcript = recording.with_suffix(".txt")
        sample = {"audio_file": recording.name, "transcript_file": transcript.name}
        yield _row_or_reject(sample, source, {"file": str(transcript), "line": 1})


def write_train_higgs_audio(folder: Path, rows: Sequence[Mapping[str, Any]], *, created_from: str) -> None:
    """Write metadata.json and the transcripts; the folder contains the recordings already.

    Args:
        rows: rows of `read_train_higgs_audio` with "duration" in seconds; paths are relative to the folder.

    Raises:
        InputError: two recordings share a transcript file.
    """
    samples = []
    owners: dict[Path, str] = {}
    for row in rows:
        transcript = Path(row["audio"]).with_suffix(".txt")
        if transcript in owners:
            raise InputError(
                f"row {row['id']}: row {owners[transcript]} has the transcript {transcript} too; rename one"
            )
        owners[transcript] = row["id"]
        (folder / transcript).write_text(row["text"], encoding="utf-8")
        samples.append(_sample(row, transcript))
    seconds = sum(sample["duration"] for sample in samples)
    info = {
        "total_samples": len(samples),
        "speakers": sorted({sample["speaker_id"] for sample in samples}),
        "languages": sorted({sample["language"] for sample in samples if "language" in sample}),
        "total_duration": round(seconds, 2),
        "avg_duration": round(seconds / len(samples), 2),
        "created_from": [created_from],
    }
    metadata = {"dataset_info": info, "samples": samples}
    (folder / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sample(row: Mapping[str, Any], transcript: Path) -> dict[str, Any]:
    stored = {field: row.get(column) for field, column in _FIELDS.items()}
    stored |= {field: value for field, value in _UNKNOWN.items() if stored[field] is None}
    known = {field: value for field, value in stored.items() if value is not None}  # its trainer fails on a null scene
    sample = {"id": known.pop("id"), "audio_file": row["audio"], "transcript_file": transcript.as_posix()}
    sample |= {"duration": round(row["duration"], 2)} | known | {"user_instruction": row.get("user_instruction")}
    if row.get("ref_speakers"):
        sample["ref_speakers"] = [
            {
                "speaker_tag": speaker["speaker_tag"],
                "ref_audio_file": speaker["ref_audio"],
                "ref_transcript": speaker["ref_text"],
            }
            for speaker in row["ref_speakers"]
        ]
    return sample


def _row_or_reject(sample: Any, source: Path, place: dict[str, Any]) -> ImportRow | Reject:
    try:
        return place | _row(sample, source)
    except RejectedRow as error:
        return error.reject.at(place)


def _row(sample: Any, source: Path) -> ImportRow:
    if not isinstance(sample, dict):
        raise RejectedRow(RejectCode.NOT_AN_OBJECT, detail=type(sample).__name__)
    for field in ("audio_file", "transcript_file"):
        if not isinstance(sample.get(field), str):
            raise RejectedRow(RejectCode.NO_FILE_NAME, field, f"{field} is {sample.get(field)!r}")
    transcript = Path(sample["transcript_file"])
    if transcript.is_absolute() or ".." in transcript.parts:
        raise RejectedRow(RejectCode.OUTSIDE_FOLDER, "transcript_file", f"{transcript.name}; move it there")
    row = {column: sample.get(field) for field, column in _FIELDS.items()}
    row |= {_FIELDS[field]: None for field, value in _UNKNOWN.items() if sample.get(field) == value}
    return row | {
        "audio": sample["audio_file"],
        "text": read_text(source / transcript).strip(),
        "ref_speakers": _speakers(sample.get("ref_speakers")),
        "fields": {key: value for key, value in sample.items() if key not in _FIELDS},
    }


def _speakers(stored: Any) -> list[dict[str, Any]] | None:
    if not stored:
        return None
    if not isinstance(stored, list) or not all(isinstance(speaker, dict) for speaker in stored):
        detail = "is not a list of {speaker_tag, ref_audio_file, ref_transcript}"
        raise RejectedRow(RejectCode.INVALID_FIELD, "ref_speakers", detail)
    return [
        {
            "speaker_tag": speaker.get("speaker_tag"),
            "ref_text": speaker.get("ref_transcript"),
            "ref_audio": speaker.get("ref_audio_file"),
        }
        for speaker in stored
    ]


def _samples(path: Path) -> Iterator[tuple[int, Any]]:
    """Each element of "samples" with the line where it starts, which the json module does not report."""
    text = read_text(path)
    try:
        metadata = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {error.lineno}: not JSON: {error.msg}; remove a comma after the last item"
        ) from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("samples"), list):
        raise InputError(f"{path}: no list of samples")

    decode = json.JSONDecoder().raw_decode

    def skip(position: int) -> int:
        return re.compile(r"[\s,:]*").match(text, position).end()

    position = skip(text.index("{") + 1)
    while text[position] != "}":
        key, position = decode(text, position)
        position = skip(position)
        if key != "samples":
            position = skip(decode(text, position)[1])
            continue
        line, counted, position = 1, 0, skip(position + 1)
        while text[position] != "]":
            line, counted = line + text.count("\n", counted, position), position
            sample, position = decode(text, position)
            yield line, sample
            position = skip(position)
        position = skip(position + 1)
