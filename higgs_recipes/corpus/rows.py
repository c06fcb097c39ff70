"""The types of a row while a corpus is encoded: as stored in its source, checked, and prepared for its task."""

import hashlib
import re
import unicodedata
from typing import Any, TypedDict

from higgs_recipes.corpus.clips import Clip


# Extensions of recordings, whether or not they can be read.
AUDIO_ENDINGS = frozenset("wav flac ogg oga opus mp3 m4a mp4 aac wma webm aif aiff aifc au caf w64".split())


class Cell(TypedDict):
    """An undecoded recording: the bytes of its file, or its path."""

    path: str | None
    bytes: bytes | None


class SourceRow(TypedDict, total=False):
    """A row under our column names. Unchecked: a value may have any type.

    Recordings are values as they are stored, until `Source.with_recordings` makes cells of them.
    """

    id: Any
    text: Any
    speaker: Any
    language: Any
    gender: Any
    scene: Any
    task: Any
    audio: Any
    ref_audio: Any
    sampling_rate: Any
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

    `key` identifies it in its source: its id there, the path of its recording, or its index; `id` is made of it and
    can be a file name. `own` is its clip and `name` the file name of that recording; `text` is normalized, `raw_text`
    is as in the source.
    `task` is the row's own, or None. `reference` and `ref_speakers` are the row's own references; the entries of
    `ref_speakers` have a clip only if a task clones voices. `turns` and `tags` (by speaker) are those of a dialogue.
    `file`, `source` and `row` (indexes, from 0) say where the row is from.
    """

    file: str
    source: int
    row: int
    key: str
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


def nfc(text: str) -> str:
    """The composed Unicode form, in which equal texts and names have equal characters; macOS stores the other one."""
    return unicodedata.normalize("NFC", text)


def control_character(text: str) -> str | None:
    """The first control character of a text that is not whitespace, such as NUL; None if it has none."""
    return next((letter for letter in text if unicodedata.category(letter) == "Cc" and not letter.isspace()), None)


MAX_ID_BYTES = 200  # file systems allow names of 255 bytes; times, suffixes and those of partial files are appended


def file_safe_id(name: Any) -> str:
    """Convert a name to an id that can be a file name.

    Letters, combining marks and digits of all scripts are kept, in NFC, with "_", "-" and "."; others are replaced by
    "_". A hash of the name is appended if other characters than ASCII are replaced (all emoji would have one id), or
    if the name is too long. Names that differ only in replaced ASCII characters have one id: use `hashed_id` for the
    second of them. An id is converted to itself.

    >>> file_safe_id("clips/one two"), file_safe_id(".hidden"), file_safe_id("🎉"), file_safe_id(7)
    ('clips_one_two', 'hidden', '_-6146299c', '7')
    """
    text = nfc(str(name))
    safe = re.sub("\0+", "_", "".join(character if _is_kept(character) else "\0" for character in text)).lstrip(".")
    is_told_apart = safe and all(character.isascii() or _is_kept(character) for character in text)
    return safe if is_told_apart and len(safe.encode()) <= MAX_ID_BYTES else _with_hash(safe, text)


def hashed_id(name: Any) -> str:
    """Convert a name to an id with a hash of the name, for names whose `file_safe_id` is taken.

    >>> hashed_id("take 1"), hashed_id("take#1")
    ('take_1-9c19877e', 'take_1-abfbbb51')
    """
    return _with_hash(file_safe_id(name), str(name))


def _with_hash(safe: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe.encode()[: MAX_ID_BYTES - 1 - len(digest)].decode(errors='ignore') or '_'}-{digest}"


def _is_kept(character: str) -> bool:
    return character in "_.-" or unicodedata.category(character)[0] in "LMN"
