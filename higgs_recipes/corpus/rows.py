"""The states of a row on its way into a corpus: as its source stores it, checked, and laid out as its task."""

import re
from typing import Any, TypedDict

from higgs_recipes.corpus.clips import Clip


class Cell(TypedDict):
    """An undecoded recording: the file's bytes, or where it is."""

    path: str | None
    bytes: bytes | None


class SourceRow(TypedDict, total=False):
    """A row under our column names, unchecked: each value may be anything."""

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
    """A clip of a voice to clone, what is said in it, and the name of the recording."""

    clip: Clip
    ref_text: str | None
    name: str


class SpeakerReference(Reference):
    """That of a speaker of a dialogue."""

    speaker_tag: str


class CheckedRow(TypedDict):
    """A row that can be trained on.

    `own` is its clip and `name` the name of that recording; `text` is normalized, `raw_text` is not. `task` is the one
    that the row names itself, or None. `reference` and `ref_speakers` are those that it brings itself; the latter have
    no clip where no task clones them. `turns` and `tags` (by speaker) are those of a dialogue. `file`, `source` and
    `row` (indexes, from 0) are its place.
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
    """A row laid out as its task.

    `messages` is its conversation in JSON; `clips` are the recordings in it, references first. `turn_speakers` says
    who speaks each turn of a dialogue. `cut_from` is the id of the dialogue that this one was cut from, or None.
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
