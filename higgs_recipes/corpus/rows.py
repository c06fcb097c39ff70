"""The types of a row on its way into a corpus: as stored in its source, checked, and prepared for its task."""

import re
from typing import Any, TypedDict

from higgs_recipes.corpus.clips import Clip


class Cell(TypedDict):
    """An undecoded recording: the bytes of its file, or its path."""

    path: str | None
    bytes: bytes | None


class SourceRow(TypedDict, total=False):
    """A row under our column names. Unchecked: a value may have any type."""

    id: Any
    text: Any
    speaker: Any
    language: Any
    gender: Any
    scene: Any
    task: Any
    audio: Cell | None
    ref_audio: Cell | None
    ref_text: Any
    ref_speakers: list[dict[str, Any]] | None
    turns: list[dict[str, Any]] | None


class Reference(TypedDict):
    """A clip of a voice to clone, its transcript, and the name of the recording."""

    clip: Clip
    ref_text: str | None
    name: str


class CheckedRow(TypedDict):
    """A row that passed the checks.

    `own` is its clip and `name` the file name of that recording; `text` is normalized, `raw_text` is as in the source.
    `task` is the row's own, or None. `reference` and `ref_speakers` are the row's own references; the entries of
    `ref_speakers` have a clip only if a task clones voices. `turns` and `tags` (by speaker) are those of a dialogue.
    `file`, `source` and `row` (indexes, from 0) say where the row is from.
    """

    file: str
    source: int
    row: int
    id: str
    text: str
    raw_text: str
    speaker: str | None
    language: str | None
    scene: str | None
    gender: str | None
    seconds: float
    own: Clip
    name: str
    task: str | None
    reference: Reference | None
    ref_speakers: list[dict[str, Any]]
    turns: list[dict[str, Any]]
    tags: dict[str, str]


class TaskRow(CheckedRow):
    """A row prepared for its task.

    `messages` is its conversation in JSON; `clips` are the recordings in it, references first. `turn_speakers` has the
    speaker of each turn of a dialogue. `cut_from` is the id of the dialogue that this one was cut from, or None.
    """

    messages: str
    clips: list[Clip]
    ref_texts: list[str | None]
    turn_speakers: list[str | None]
    cut_from: str | None


def file_safe_id(name: Any) -> str:
    """An id that can be the name of a file.

    >>> file_safe_id("clips/one two"), file_safe_id(".hidden"), file_safe_id(7)
    ('clips_one_two', 'hidden', '7')
    """
    return re.sub(r"[^\w.-]+", "_", str(name)).lstrip(".")
