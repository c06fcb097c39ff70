"""The columns of an imported row: values of a source converted to those of metadata.jsonl."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from higgs_recipes.corpus.rows import control_character
from higgs_recipes.corpus.sources.cells import is_null
from higgs_recipes.errors import shown
from higgs_recipes.ingest.rows import ImportedRow, ImportRow
from higgs_recipes.rejects import RejectCode, RejectedRow


# Columns that become strings, or None if there is no value.
TEXT_COLUMNS = ("speaker", "speaker_name", "language", "ref_text", "task", "user_instruction", "original_audio_path")
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
    texts = {column: text_value(row.get(column), column) for column in TEXT_COLUMNS}
    gender, scene, emotion = (text_value(row.get(column), column) for column in ("gender", "scene", "emotion"))
    speakers = [
        {key: text_value(speaker.get(key), "ref_speakers") for key in ("speaker_tag", "ref_text")}
        | {"ref_audio": stored_paths.get(speaker.get("ref_audio"))}
        for speaker in reference_speakers(row)
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


def check_fields(row: ImportRow) -> None:
    """Check that a row has a transcript and a recording, which may be empty.

    Raises:
        RejectedRow: a field is missing.
    """
    for column in ("audio", "text"):
        if column not in row:
            names = ", ".join(map(repr, row.get("fields", {}))) or "none"
            raise RejectedRow(RejectCode.NO_FIELD, column, f"the fields are {names}; map one with columns")


def transcript(row: ImportRow) -> str:
    """Return the transcript of a row.

    Raises:
        RejectedRow: no transcript, or not a string.
    """
    text = row["text"]
    if text is None or isinstance(text, str) and not text.strip():
        raise RejectedRow(RejectCode.EMPTY_TRANSCRIPT, "text", "empty transcript: add a text or remove the row")
    if not isinstance(text, str):
        raise RejectedRow(RejectCode.NOT_TEXT, "text", f"{shown(text)} is a {type(text).__name__}")
    return text


def check_words(text: str) -> None:
    """Check that a transcript has a letter or a digit: "..." is not spoken.

    Raises:
        RejectedRow: it has none, or a control character.
    """
    if (control := control_character(text)) is not None:
        raise RejectedRow(RejectCode.INVALID_UNICODE, "text", f"the control character {control!r} in text")
    if not any(unicodedata.category(character)[0] in "LN" for character in text):
        raise RejectedRow(RejectCode.EMPTY_TRANSCRIPT, "text", f"empty transcript: {text[:60]!r} has no words")


def text_value(value: Any, column: str) -> str | None:
    """Return a value as a string, None if there is none: null, or NaN as pandas writes it.

    Raises:
        RejectedRow: a list, a mapping ...
    """
    if is_null(value):
        return None
    if not isinstance(value, (str, int, float)):
        raise RejectedRow(RejectCode.NOT_TEXT, column, f"{shown(value)} is a {type(value).__name__}")
    if isinstance(value, float) and math.isinf(value):
        raise RejectedRow(RejectCode.INVALID_FIELD, column, f"is {value}; expected text or a number")
    return str(value)


def reference_speakers(row: ImportRow) -> list[dict[str, Any]]:
    """Return `ref_speakers` of the row, empty if there are none.

    Raises:
        RejectedRow: not a list of mappings.
    """
    speakers = row.get("ref_speakers") or []
    if not isinstance(speakers, list) or not all(isinstance(speaker, dict) for speaker in speakers):
        detail = "is not a list of {speaker_tag, ref_text, ref_audio}"
        raise RejectedRow(RejectCode.INVALID_FIELD, "ref_speakers", detail)
    return speakers


def number(row: ImportRow, column: str) -> float | None:
    """Return a column as a number, None if there is no value.

    Raises:
        RejectedRow: not a finite number.
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RejectedRow(RejectCode.NOT_A_NUMBER, column, shown(value)) from error
    if not math.isfinite(parsed):
        raise RejectedRow(RejectCode.NOT_A_NUMBER, column, shown(value))
    return parsed


def check_unicode(row: Mapping[str, Any]) -> None:
    """Check that a row can be written as UTF-8: JSON escapes may be half of a surrogate pair.

    Raises:
        RejectedRow: a value is not valid Unicode.
    """
    for column, value in row.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            detail = f"{error.object[error.start]!r} in {column}: {error.object[:60]!r}"
            raise RejectedRow(RejectCode.INVALID_UNICODE, column, detail) from error
