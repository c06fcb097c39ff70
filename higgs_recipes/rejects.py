"""Typed rejects: a code, a field and a detail. Messages are made here, from these."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from enum import Enum
from typing import Any

from higgs_recipes.errors import DiskError, InputError


class RejectCode(str, Enum):
    """The kinds of rejects. Reports, filters and counts use these, never the messages."""

    # Recordings
    MISSING_AUDIO = "missing_audio"
    UNREADABLE_AUDIO = "unreadable_audio"
    TRUNCATED_AUDIO = "truncated_audio"
    BAD_SAMPLE_RATE = "bad_sample_rate"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    SILENT = "silent"
    NOT_A_RECORDING = "not_a_recording"
    NO_BYTES = "no_bytes"
    OUTSIDE_FOLDER = "outside_folder"
    NO_FILE_NAME = "no_file_name"
    SAME_RECORDING = "same_recording"
    OTHER_TRANSCRIPT = "other_transcript"
    # Texts and columns
    EMPTY_TRANSCRIPT = "empty_transcript"
    LONG_TRANSCRIPT = "long_transcript"
    TOO_MANY_CHARACTERS = "too_many_characters"
    NOT_TEXT = "not_text"
    NOT_A_NUMBER = "not_a_number"
    INVALID_UNICODE = "invalid_unicode"
    INVALID_FIELD = "invalid_field"
    INVALID_TURNS = "invalid_turns"
    NO_FIELD = "no_field"
    DUPLICATE_ID = "duplicate_id"
    TOO_LOW = "too_low"
    TOO_HIGH = "too_high"
    # Tasks
    DIALOGUE = "dialogue"
    NO_SPEAKER = "no_speaker"
    NO_REFERENCE = "no_reference"
    NO_PARTNER = "no_partner"
    # Files of a corpus
    UNREADABLE_FILE = "unreadable_file"
    UTF_16 = "utf_16"
    NOT_UTF_8 = "not_utf_8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NOT_CSV = "not_csv"
    WRONG_CELLS = "wrong_cells"
    BROKEN_TAR_ROW = "broken_tar_row"
    NO_RECORDING = "no_recording"
    NO_TRANSCRIPT = "no_transcript"
    COMMAND = "command"
    THINKING_TAG = "thinking_tag"
    NO_SEGMENT = "no_segment"
    PART_OF_FILE = "part_of_file"
    SEGMENT_OUTSIDE = "segment_outside"
    # Segments of long recordings
    NO_SPEECH = "no_speech"
    CUT_OFF = "cut_off"
    NO_PAUSE = "no_pause"
    NO_LOUDNESS = "no_loudness"
    NO_WORDS = "no_words"
    STRUCK = "struck"


_HEAD, _COLON, _SEMICOLON, _DETAIL = "{head}", "{head}: {detail}", "{head}; {detail}", "{detail}"
# Code -> (head, whole reason). The head is also the category that rejects are counted by. `field` is the name of the
# column, `name` its name in messages.
_WORDING: dict[RejectCode, tuple[str, str]] = {
    RejectCode.MISSING_AUDIO: ("{name} missing", _SEMICOLON),
    RejectCode.UNREADABLE_AUDIO: ("{name} cannot be read", _DETAIL),
    RejectCode.TRUNCATED_AUDIO: ("{name} truncated or broken", _DETAIL),
    RejectCode.BAD_SAMPLE_RATE: ("{name} with a sample rate out of range", _DETAIL),
    RejectCode.TOO_SHORT: ("{name} too short", _COLON),
    RejectCode.TOO_LONG: ("{name} too long", _COLON),
    RejectCode.SILENT: ("{name} silent", _SEMICOLON),
    RejectCode.NOT_A_RECORDING: ("{field} is not a recording", _COLON),
    RejectCode.NO_BYTES: ("{field} has a path but no bytes", _COLON),
    RejectCode.OUTSIDE_FOLDER: ("{name} leaves its folder", _COLON),
    RejectCode.NO_FILE_NAME: ("no file name", _COLON),
    RejectCode.SAME_RECORDING: ("same recording", _COLON),
    RejectCode.OTHER_TRANSCRIPT: ("same recording with another transcript", _COLON),
    RejectCode.EMPTY_TRANSCRIPT: ("empty transcript", _DETAIL),
    RejectCode.LONG_TRANSCRIPT: ("transcript too long", _COLON),
    RejectCode.TOO_MANY_CHARACTERS: ("transcript too long for its clip", _COLON),
    RejectCode.NOT_TEXT: ("{name} is not text", _COLON),
    RejectCode.NOT_A_NUMBER: ("{field} is not a number", _COLON),
    RejectCode.INVALID_UNICODE: ("invalid Unicode", _COLON),
    RejectCode.INVALID_FIELD: ("invalid {field}", "{field} {detail}"),
    RejectCode.INVALID_TURNS: ("invalid turns", _DETAIL),
    RejectCode.NO_FIELD: ("no field for {field}", _COLON),
    RejectCode.DUPLICATE_ID: ("duplicate id", _COLON),
    RejectCode.TOO_LOW: ("{field} too low", _COLON),
    RejectCode.TOO_HIGH: ("{field} too high", _COLON),
    RejectCode.DIALOGUE: ("the text is a dialogue", _SEMICOLON),
    RejectCode.NO_SPEAKER: ("no speaker", _DETAIL),
    RejectCode.NO_REFERENCE: ("no reference", _SEMICOLON),
    RejectCode.NO_PARTNER: ("no partner", _SEMICOLON),
    RejectCode.UNREADABLE_FILE: ("file cannot be read", _DETAIL),
    RejectCode.UTF_16: ("UTF-16", _COLON),
    RejectCode.NOT_UTF_8: ("not UTF-8", "{head} {detail}"),
    RejectCode.NOT_JSON: ("not JSON", _COLON),
    RejectCode.NOT_AN_OBJECT: ("not a JSON object", "{head} but a {detail}"),
    RejectCode.NOT_CSV: ("not CSV", _COLON),
    RejectCode.WRONG_CELLS: ("wrong number of cells", _DETAIL),
    RejectCode.BROKEN_TAR_ROW: ("broken row of a tar file", _DETAIL),
    RejectCode.NO_RECORDING: ("no recording for this transcript", _COLON),
    RejectCode.NO_TRANSCRIPT: ("no transcript for this recording", _COLON),
    RejectCode.COMMAND: ("recording by a command", _SEMICOLON),
    RejectCode.THINKING_TAG: ("thinking tag inside the transcript", _DETAIL),
    RejectCode.NO_SEGMENT: ("no segment", _COLON),
    RejectCode.PART_OF_FILE: ("part of a longer file", _SEMICOLON),
    RejectCode.SEGMENT_OUTSIDE: ("segment too late", _COLON),
    RejectCode.NO_SPEECH: ("nobody speaks", _COLON),
    RejectCode.CUT_OFF: ("cut off", _COLON),
    RejectCode.NO_PAUSE: ("no pause to cut at", _COLON),
    RejectCode.NO_LOUDNESS: ("too quiet", _COLON),
    RejectCode.NO_WORDS: ("no words", _COLON),
    RejectCode.STRUCK: ("excluded by hand", _HEAD),
}
_NAMES = {
    "audio": "recording",
    "ref_audio": "reference clip",
    "ref_speakers": "reference clip",
    "turns": "recording of turn",
    "text": "transcript",
}
_CATEGORY_NAMES = _NAMES | {"turns": "recording of a turn"}


@dataclass(frozen=True)
class Reject:
    """A rejected row.

    Attributes:
        field: the invalid column, measure or part of the row; "<column>.<index>" for an entry of a list.
        detail: what was found, and what to do.
        task: the task that the row cannot be used for; None if it cannot be used at all.
        columns: other columns of rejects.jsonl: the file of the row, its index or line, its id ...
    """

    code: RejectCode
    field: str = ""
    detail: str = ""
    task: str | None = None
    columns: Mapping[str, Any] = dataclass_field(default_factory=dict)

    def at(self, columns: Mapping[str, Any]) -> "Reject":
        """The reject with these columns."""
        return replace(self, columns=dict(columns))

    @property
    def category(self) -> str:
        """Key that rejects are counted by: one text for each code, field and task.

        >>> Reject(RejectCode.TOO_SHORT, "ref_speakers.1", "0.05 s, min_seconds is 0.3").category
        'reference clip too short'
        """
        column = self.field.partition(".")[0]
        head = _WORDING[self.code][0].format(field=column, name=_CATEGORY_NAMES.get(column, column))
        return self._of_task(head)

    @property
    def reason(self) -> str:
        """The full message.

        >>> Reject(RejectCode.TOO_SHORT, "ref_speakers.1", "0.05 s, min_seconds is 0.3").reason
        'reference clip 1 too short: 0.05 s, min_seconds is 0.3'
        """
        head, sentence = _WORDING[self.code]
        head = head.format(field=self.field, name=field_name(self.field))
        return self._of_task(sentence.format(head=head, field=self.field, detail=self.detail) if self.detail else head)

    def record(self) -> dict[str, Any]:
        """The line of rejects.jsonl."""
        return dict(self.columns) | {"reason": self.reason, "code": self.code.value}

    def to_json(self) -> dict[str, Any]:
        """The input of `from_json`."""
        return asdict(self) | {"code": self.code.value}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "Reject":
        return Reject(**{**stored, "code": RejectCode(stored["code"])})

    def _of_task(self, words: str) -> str:
        return words if self.task is None else f"{self.task}: {words}"


class RejectedRow(InputError):
    """Invalid input that rejects one row. The message is the reason, after `row_id` if it is given.

    Attributes:
        reject: the typed reject; it does not identify the row.
    """

    def __init__(self, code: RejectCode, field: str = "", detail: str = "", *, row_id: str | None = None) -> None:
        self.reject = Reject(code, field, detail)
        super().__init__(self.reject.reason if row_id is None else f"row {row_id}: {self.reject.reason}")


class InvalidAudioError(InputError):
    """An `InputError` of code that does not handle rows, with the code that `rejected_as` rejects a row with."""

    def __init__(self, code: RejectCode, message: str) -> None:
        self.code = code
        super().__init__(message)


@contextmanager
def rejected_as(code: RejectCode, field: str = "") -> Iterator[None]:
    """Turn an `InputError` of code that does not handle rows into a `RejectedRow` with its message as detail.

    The code is for errors without their own. A failure of the disk is not of a row.
    """
    try:
        yield
    except (RejectedRow, DiskError):
        raise
    except InvalidAudioError as error:
        raise RejectedRow(error.code, field, str(error)) from error
    except InputError as error:
        raise RejectedRow(code, field, str(error)) from error


def field_name(field: str) -> str:
    """The name of a field in messages.

    >>> field_name("audio"), field_name("turns.1"), field_name("snr_db")
    ('recording', 'recording of turn 1', 'snr_db')
    """
    column, _, index = field.partition(".")
    return f"{_NAMES.get(column, column)} {index}".rstrip()


def count_rejects(rejects: Iterable[Reject]) -> dict[str, int]:
    """Number of rejects by category, most frequent first."""
    return dict(Counter(reject.category for reject in rejects).most_common())
