"""Check the rows of sources: a row that cannot be used is rejected with its reason, and never replaced."""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from higgs_recipes.audio.io import read_measured
from higgs_recipes.chatml import SPEAKER_TAG, TASKS, canonical_speaker_tags, conversation
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.clips import Clip, check_turns, content_hash, joined_clip, speaker_tags, tagged_text
from higgs_recipes.corpus.row_ids import PATH, id_prefix, path_key, row_identity
from higgs_recipes.corpus.rows import Cell, CheckedRow, Reference, SourceRow, control_character
from higgs_recipes.corpus.sources.source import Source
from higgs_recipes.errors import TooLongError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, field_name, rejected_as
from higgs_recipes.text import normalize_transcript


# A recording is silent if all samples are below this, -60 dB of full scale. Dither is below it too.
SILENCE = 1e-3
LABELS = ("speaker", "language", "scene", "gender")
# The longest clip, 30 s, has about half as many. Longer texts are whole pages that a broken table has put in one row.
MAX_TEXT_CHARS = 1000
SHOWN = 60  # characters of an invalid value in a message
SPEAKER_FIELDS = ("speaker_tag", "ref_text", "description")


def check_place(sources: Sequence[Source], source: int, row: int, config: EncodeConfig) -> CheckedRow | Reject:
    """Check a row; the result, a row or a reject, has its place."""
    place = {"source": source, "row": row, "file": sources[source].label, "id": None}
    try:
        stored = sources[source].stored_row(row)
        key, row_id = row_identity(stored, sources[source], row)
        place["id"] = id_prefix(sources, source) + row_id
        stored = sources[source].with_recordings(stored, row) | {"id": place["id"]}
        if key.startswith(PATH):  # the file that was found, however the row writes its path
            key = path_key(stored["audio"]["path"])
        return place | {"key": key} | _check_row(stored, config, place=(source, row))
    except RejectedRow as error:
        return error.reject.at(place)


def _check_row(row: SourceRow, config: EncodeConfig, *, place: tuple[int, int]) -> dict[str, Any]:
    """The fields of a `CheckedRow` except its place and id."""
    turns = check_turns(row)
    generator = random.Random(f"{config.seed} {row['id']}")
    tags = speaker_tags(turns, generator)
    turns = [turn | {"raw_text": turn["text"], "text": _normalized(turn["text"], field="text")} for turn in turns]
    raw_text = tagged_text(turns, tags, column="raw_text") if turns else row.get("text")
    if raw_text is not None and not isinstance(raw_text, str):
        raise RejectedRow(RejectCode.NOT_TEXT, "text", _not_text(raw_text))
    text = tagged_text(turns, tags) if turns else _normalized(raw_text or "", field="text")
    _check_tagged_turns(text)
    can_be_cut = config.too_long == "cut_at_turn" and any(turn["audio"] is not None for turn in turns)
    if not can_be_cut:
        check_text_length(text)

    if (task := row.get("task") or None) not in (None, *TASKS):
        detail = f"is {_shown(task)}; use one of {', '.join(TASKS)}, or leave it out"
        raise RejectedRow(RejectCode.INVALID_FIELD, "task", detail)
    labels = {name: _label(row.get(name), name) for name in LABELS}
    for turn in turns:
        _check_unicode(turn["speaker"], "turns")
    tasks = config.tasks if task is None else (task,)
    reference, ref_speakers = None, [dict(entry) for entry in row.get("ref_speakers") or []]
    if "zero_shot_voice_cloning" in tasks and row.get("ref_audio") is not None:
        reference = _check_reference(row, config, place=(*place, "ref_audio"))
    if "multi_speaker_voice_cloning" in tasks:
        ref_speakers = [
            entry | _check_reference(entry, config, place=(*place, f"ref_speakers.{index}"))
            for index, entry in enumerate(ref_speakers)
        ]
    if any(turn["audio"] is not None for turn in turns):
        parts = [
            _check_clip(turn["audio"], config, place=(*place, f"turns.{index}")) for index, turn in enumerate(turns)
        ]
        own = joined_clip(parts, [generator.uniform(*config.dialogue_gap_seconds) for _ in parts[1:]])
        _check_seconds(min(own.seconds, config.max_seconds) if can_be_cut else own.seconds, config, field="dialogue")
    else:
        own = _check_clip(row.get("audio"), config, place=(*place, "audio"))
    _check_copies([reference, *ref_speakers], own)
    seconds = own.seconds
    spoken = len(SPEAKER_TAG.sub("", text))
    if spoken / seconds > config.max_chars_per_second:
        raise RejectedRow(
            RejectCode.TOO_MANY_CHARACTERS,
            "text",
            f"{spoken} characters in {seconds:.2f} s, max_chars_per_second is {config.max_chars_per_second}",
        )
    # Reject texts with control tokens here, whatever the task.
    conversation({"id": row["id"], "text": text, "scene": labels["scene"]}, task="single_speaker_smart_voice")
    checked = {
        "text": text,
        "raw_text": raw_text,
        **labels,
        "seconds": seconds,
        "own": own,
        "name": f"{row['id']}.wav" if own.parts else _name(row["audio"]),
    }
    # Without the recordings, which would fill the memory; they can be read again by their place.
    ref_speakers = [_speaker_fields(entry) for entry in ref_speakers]
    turns = [{name: value for name, value in turn.items() if name != "audio"} for turn in turns]
    return checked | {"task": task, "reference": reference, "ref_speakers": ref_speakers, "turns": turns, "tags": tags}


def _check_tagged_turns(text: str) -> None:
    """Refuse a dialogue with text outside its turns, or with a turn that says nothing: neither can be aligned."""
    before, *tagged = SPEAKER_TAG.split(text)
    if tagged and before.strip():
        detail = f"text before the first speaker tag: {before.strip()!r}; begin with the tag of who says it"
        raise RejectedRow(RejectCode.INVALID_TURNS, "text", detail)
    for number, (tag, turn) in enumerate(zip(tagged[::2], tagged[1::2], strict=True), 1):
        if not any(map(str.isalnum, turn)):
            detail = f"turn {number} has no words; give [{tag}] some, or remove the tag"
            raise RejectedRow(RejectCode.INVALID_TURNS, "text", detail)


def _check_copies(references: Sequence[Mapping[str, Any] | None], own: Clip) -> None:
    """Reject references that are the clip itself, or a turn of it: the model would learn to copy them."""
    hashes = {clip.content_hash for clip in (own, *own.parts)}
    for reference in references:
        if reference and "clip" in reference and reference["clip"].content_hash in hashes:
            detail = "the reference is the recording of the row itself; give another clip of the speaker"
            raise RejectedRow(RejectCode.SAME_RECORDING, reference["clip"].place[2], detail)


def _shown(value: Any) -> str:
    """A value in a message: of text and numbers the first characters, of others the type.

    >>> _shown("a" * 99)[:5], _shown(5), _shown([1, 2])
    ("'aaaa", '5', 'list')
    """
    if isinstance(value, str):
        return repr(value[:SHOWN])
    return repr(value) if isinstance(value, (bool, float)) or _is_short(value) else type(value).__name__


def _not_text(value: Any) -> str:
    kind = type(value).__name__
    return f"it is a {kind}" if _shown(value) == kind else f"{_shown(value)} is a {kind}"


def _is_short(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 10**SHOWN


def _label(value: Any, field: str) -> str | None:
    """A text or number as text; None for an empty cell.

    Raises:
        RejectedRow: another type, or text that is not valid Unicode.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise RejectedRow(RejectCode.INVALID_FIELD, field, f"is {_shown(value)}; expected text or a number")
    if not isinstance(value, (str, float)) and not _is_short(value):
        raise RejectedRow(RejectCode.INVALID_FIELD, field, f"is a number of more than {SHOWN} digits")
    return _check_unicode(str(value), field)


def _check_unicode(text: str, field: str) -> str:
    """The text.

    Raises:
        RejectedRow: half of a surrogate pair, which cannot be encoded as UTF-8, or a control character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        detail = f"{text[error.start]!r} in {field}; correct the text or remove the row"
        raise RejectedRow(RejectCode.INVALID_UNICODE, field, detail) from error
    if (control := control_character(text)) is not None:
        detail = f"the control character {control!r} in {field}; correct the text or remove the row"
        raise RejectedRow(RejectCode.INVALID_UNICODE, field, detail)
    return text


def _speaker_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What is used of an entry of `ref_speakers`, and of its checked reference."""
    fields = {name: _label(entry.get(name), name) for name in SPEAKER_FIELDS}
    return fields | {name: entry[name] for name in ("clip", "name") if name in entry}


def _check_reference(owner: Mapping[str, Any], config: EncodeConfig, *, place: tuple[int, int, str]) -> Reference:
    """Check the reference clip of a row or of an entry of `ref_speakers`."""
    clip, ref_text = _check_clip(owner.get("ref_audio"), config, place=place), owner.get("ref_text")
    if not isinstance(ref_text, str | None):
        raise RejectedRow(RejectCode.NOT_TEXT, "ref_text", _not_text(ref_text))
    if not config.ref_in_system and not (ref_text or "").strip():
        detail = "is missing; give the transcript of ref_audio, or set ref_in_system"
        raise RejectedRow(RejectCode.INVALID_FIELD, "ref_text", detail)
    return {
        "clip": clip,
        "ref_text": _normalized(ref_text, field="ref_text") if ref_text else None,
        "name": _name(owner["ref_audio"]),
    }


def check_text_length(text: str) -> None:
    """Reject a text of more than `MAX_TEXT_CHARS` characters.

    Raises:
        RejectedRow: it is longer.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise RejectedRow(RejectCode.LONG_TRANSCRIPT, "text", f"{len(text)} characters, the limit is {MAX_TEXT_CHARS}")


def _normalized(text: str, *, field: str) -> str:
    """The normalized transcript.

    Raises:
        RejectedRow: it is empty, not valid Unicode, or has no word: no letter and no digit.
    """
    with rejected_as(RejectCode.EMPTY_TRANSCRIPT, field):
        normalized = canonical_speaker_tags(normalize_transcript(_check_unicode(text, field)))
    if not any(character.isalnum() for character in SPEAKER_TAG.sub("", normalized)):
        detail = f"{field} is {_shown(text)}; write what is spoken, or remove the row"
        raise RejectedRow(RejectCode.NO_WORDS, field, detail)
    return normalized


def _name(cell: Cell) -> str:
    """The file name of a recording; bytes that are not UTF-8 are escaped."""
    name = PurePath((cell["path"] or "").replace("\\", "/")).name or "recording"
    return name.encode("utf-8", "backslashreplace").decode()


def _check_clip(cell: Cell | None, config: EncodeConfig, *, place: tuple[int, int, str]) -> Clip:
    """Check a recording and measure it."""
    field = place[2]
    if cell is None:
        raise RejectedRow(RejectCode.MISSING_AUDIO, field, "add it or remove the row")
    with rejected_as(RejectCode.UNREADABLE_AUDIO, field):
        try:
            waveform, levels = read_measured(cell, name=field_name(field), max_seconds=config.max_seconds)
        except TooLongError as error:
            raise RejectedRow(RejectCode.TOO_LONG, field, error.detail) from error
    seconds = len(waveform) / SAMPLE_RATE
    _check_seconds(seconds, config, field=field)
    if waveform.abs().max() < SILENCE:
        raise RejectedRow(RejectCode.SILENT, field, "record it again or remove the row")
    return Clip(seconds, content_hash(waveform), place=place, levels=levels)


def _check_seconds(seconds: float, config: EncodeConfig, *, field: str) -> None:
    if seconds < config.min_seconds:
        raise RejectedRow(RejectCode.TOO_SHORT, field, f"{seconds:.2f} s, min_seconds is {config.min_seconds}")
    if seconds > config.max_seconds:
        raise RejectedRow(RejectCode.TOO_LONG, field, f"{seconds:.2f} s, max_seconds is {config.max_seconds}")
