"""The columns of an imported row: values of a source converted to those of metadata.jsonl."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from higgs_recipes.ingest.rows import ImportedRow, ImportRow
from higgs_recipes.rejects import RejectCode, RejectedRow


# Columns that become strings, or None where there is no value.
_TEXT_COLUMNS = ("speaker", "speaker_name", "language", "ref_text", "task", "user_instruction", "original_audio_path")
_GENDERS = {"m": "male", "f": "female", "unknown": None}


def imported_columns(
    row: ImportRow, *, id: str, file_name: str, stored_paths: Mapping[str, str], duration: float
) -> ImportedRow:
    """Build the line of metadata.jsonl.

    Args:
        stored_paths: the path in the corpus of each reference clip, by its path in the row.

    Raises:
        RejectedRow: invalid `ref_speakers` or quality score.
    """
    texts = {key: None if row.get(key) is None else str(row[key]) for key in _TEXT_COLUMNS}
    gender, scene, emotion = (
        None if row.get(key) is None else str(row[key]) for key in ("gender", "scene", "emotion")
    )
    speakers = [
        speaker | {"ref_audio": stored_paths.get(speaker.get("ref_audio"))} for speaker in reference_speakers(row)
    ]
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
        "ref_audio_file_name": stored_paths.get(row.get("ref_audio")),
        "ref_speakers": speakers or None,
        "quality_score": number(row, "quality_score"),
        "duration": duration,
    } | texts


def describe_scene(scene: str | None, emotion: str | None) -> str | None:
    """Describe a recording for the prompt, from labels such as "quiet_room" and "questioning".

    >>> describe_scene("quiet_room", "questioning")
    'Audio is recorded from a quiet room. The speaker sounds questioning.'
    >>> describe_scene("Audio is recorded from a street.", None)
    'Audio is recorded from a street.'
    """
    sentences = []
    if words := (scene or "").replace("_", " ").strip():
        is_label = words[-1].isalnum()  # a sentence ends with punctuation
        if is_label and re.fullmatch(r"(?!(an?|the) )[a-z ]+", words):
            words = f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
        sentences.append(f"Audio is recorded from {words}." if is_label else scene.strip())
    if emotion:
        sentences.append(f"The speaker sounds {emotion.replace('_', ' ').strip()}.")
    return " ".join(sentences) or None


def reference_speakers(row: ImportRow) -> list[dict[str, Any]]:
    """Return `ref_speakers` of the row, empty where there are none.

    Raises:
        RejectedRow: not a list of mappings.
    """
    speakers = row.get("ref_speakers") or []
    if not isinstance(speakers, list) or not all(isinstance(speaker, dict) for speaker in speakers):
        detail = "is not a list of {speaker_tag, ref_text, ref_audio}"
        raise RejectedRow(RejectCode.INVALID_FIELD, "ref_speakers", detail)
    return speakers


def number(row: ImportRow, column: str) -> float | None:
    """Return a column as a number, None where there is no value.

    Raises:
        RejectedRow: not a finite number.
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        parsed = float(value)
    except (TypeError, ValueError) as error:
        raise RejectedRow(RejectCode.NOT_A_NUMBER, column, repr(value)) from error
    if not math.isfinite(parsed):
        raise RejectedRow(RejectCode.NOT_A_NUMBER, column, repr(value))
    return parsed


def check_unicode(row: ImportRow) -> None:
    """Reject half of a surrogate pair (from a JSON escape) and file names that are not UTF-8.

    Raises:
        RejectedRow: a value cannot be written as UTF-8.
    """
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        detail = f"{error.object[error.start]!r} in {error.object!r}"
        raise RejectedRow(RejectCode.INVALID_UNICODE, detail=detail) from error
