"""Read and write folders of train-higgs-audio: recordings with their transcripts, and metadata.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from higgs_recipes.corpus.rows import hashed_id
from higgs_recipes.corpus.sources.listing import audio_stem, is_audio_name
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.errors import InputError, shown
from higgs_recipes.ingest.audio_files import find_files
from higgs_recipes.ingest.formats.lines import array_elements, parse_json, read_text, skip_separators
from higgs_recipes.ingest.rows import ImportRow
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


METADATA = "metadata.json"

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


def read_train_higgs_audio(source: Path, folder: SourceFolder) -> Iterator[ImportRow | Reject]:
    """Yield the rows of metadata.json with the line where each starts.

    Without it, yield a row for each recording in the folder and its subfolders that has a .txt of the same name, and
    rejects for recordings and .txt files without the other.

    Raises:
        InputError: metadata.json cannot be read (names the line), or the folder has neither it nor recordings.
    """
    path = source / METADATA
    own = SourceFolder(source, match_ends=folder.match_ends, follow_links=folder.follow_links)
    folders = [folder] if folder.root == source else [own, folder]
    if path.is_file():
        for line, sample in _samples(path):
            place = {"file": str(path), "line": line}
            try:
                yield place | _row(sample, folders)
            except RejectedRow as error:
                yield error.reject.at(place | _id_of(sample))
        return
    files = find_files(source, follow_links=folder.follow_links)
    recordings = [path for path in files if is_audio_name(path.name)]
    if not recordings:
        raise InputError(f"{source}: neither {METADATA} nor recordings")
    transcripts = {path for path in files if path.suffix.lower() == ".txt"}
    for recording in recordings:
        transcript = _transcript_of(recording, transcripts)
        transcripts.discard(transcript)
        place = {"file": str(transcript), "line": 1}
        try:
            own.check_link(transcript, field="text")
            text = read_text(transcript).strip()
            yield place | {"audio": str(recording), "text": text}
        except RejectedRow as error:
            yield error.reject.at(place)
    for transcript in sorted(transcripts):
        yield Reject(RejectCode.NO_RECORDING, "audio").at({"file": str(transcript), "line": 1})


def write_train_higgs_audio(folder: Path, rows: Sequence[Mapping[str, Any]], *, created_from: str) -> None:
    """Write metadata.json and the transcripts; the folder contains the recordings already.

    Args:
        rows: rows of `read_train_higgs_audio` with "duration" in seconds; paths are relative to the folder.
    """
    samples = []
    transcripts: set[PurePosixPath] = set()
    for row in rows:
        stems = (audio_stem(row["audio"]), row["audio"], hashed_id(row["audio"]))  # a.wav and a.flac may share a.txt
        transcript = next(path for stem in stems if (path := PurePosixPath(f"{stem}.txt")) not in transcripts)
        transcripts.add(transcript)
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
    content = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    (folder / METADATA).write_bytes(content.encode("utf-8", "backslashreplace"))  # `created_from` may not be UTF-8


def _sample(row: Mapping[str, Any], transcript: PurePosixPath) -> dict[str, Any]:
    stored = {field: row.get(column) for field, column in _FIELDS.items()}
    stored |= {field: value for field, value in _UNKNOWN.items() if stored[field] is None}
    known = {field: value for field, value in stored.items() if value is not None}  # its trainer fails on a null scene
    sample = {"id": known.pop("id"), "audio_file": row["audio"], "transcript_file": transcript.as_posix()}
    sample |= {"duration": round(row["duration"], 2)} | known | {"user_instruction": row.get("user_instruction")}
    if row.get("ref_speakers"):
        sample["ref_speakers"] = [
            {
                "speaker_tag": speaker.get("speaker_tag"),
                "ref_audio_file": speaker.get("ref_audio"),
                "ref_transcript": speaker.get("ref_text"),
            }
            for speaker in row["ref_speakers"]
        ]
    return sample


def _transcript_of(recording: Path, transcripts: set[Path]) -> Path:
    """The .txt of a recording; a second recording of the same name may have its own, a.flac.txt."""
    names = (f"{recording.name}.txt", f"{recording.stem}.txt", f"{recording.stem}.TXT")
    return next(
        (path for path in map(recording.with_name, names) if path in transcripts), recording.with_suffix(".txt")
    )


def _find_transcript(path: Any, folders: Sequence[SourceFolder]) -> Path:
    *others, last = folders
    for folder in others:
        try:
            return folder.root / folder.resolve(path, field="transcript_file")
        except RejectedRow:
            continue
    return last.root / last.resolve(path, field="transcript_file")


def _id_of(sample: Any) -> dict[str, Any]:
    return {"id": sample["id"]} if isinstance(sample, dict) and isinstance(sample.get("id"), str) else {}


def _row(sample: Any, folders: Sequence[SourceFolder]) -> ImportRow:
    """A row with its transcript, which is in one of the folders."""
    if not isinstance(sample, dict):
        raise RejectedRow(RejectCode.NOT_AN_OBJECT, detail=type(sample).__name__)
    if not isinstance(sample.get("audio_file"), str):
        raise RejectedRow(RejectCode.NO_FILE_NAME, "audio_file", f"audio_file is {shown(sample.get('audio_file'))}")
    row = {column: sample.get(field) for field, column in _FIELDS.items()}
    row |= {_FIELDS[field]: None for field, value in _UNKNOWN.items() if sample.get(field) == value}
    return row | {
        "audio": sample["audio_file"],
        "text": read_text(_find_transcript(sample.get("transcript_file"), folders)).strip(),
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
    metadata = parse_json(text, path=path)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("samples"), list):
        raise InputError(f"{path}: no list of samples")
    decode = json.JSONDecoder().raw_decode
    position = skip_separators(text, text.index("{") + 1)
    while text[position] != "}":
        key, position = decode(text, position)
        position = skip_separators(text, position)
        if key == "samples":
            position = yield from array_elements(text, position)
        else:
            _, position = decode(text, position)
        position = skip_separators(text, position)
