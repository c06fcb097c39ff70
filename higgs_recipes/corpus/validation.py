"""Check the rows of sources: a row that cannot be used is rejected with its reason, and never replaced."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from torch import Tensor

from higgs_recipes.audio.io import read_measured, recorded_seconds
from higgs_recipes.chatml import SPEAKER_TAG, TASKS, canonical_speaker_tags, conversation
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.clips import Clip, check_turns, joined_clip, speaker_tags, tagged_text
from higgs_recipes.corpus.rows import Cell, CheckedRow, Reference, SourceRow, file_safe_id
from higgs_recipes.corpus.sources.source import Source
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, field_name, rejected_as
from higgs_recipes.text import normalize_transcript


# A recording is silent if all samples are below this, -60 dB of full scale. Dither is below it too.
SILENCE = 1e-3
LABELS = ("speaker", "language", "scene", "gender")
# The longest clip, 30 s, has about half as many. Longer texts are whole pages that a broken table has put in one row.
MAX_TEXT_CHARS = 1000


def check_place(sources: Sequence[Source], source: int, row: int, config: EncodeConfig) -> CheckedRow | Reject:
    """Check a row; the result, a row or a reject, has its place."""
    place = {"source": source, "row": row, "file": sources[source].label, "id": None}
    try:
        stored = sources[source].row(row)
        place["id"] = _row_id(stored, sources, source, row)
        return place | _check_row(stored | {"id": place["id"]}, config, place=(source, row))
    except RejectedRow as error:
        return error.reject.at(place)


def _row_id(stored: SourceRow, sources: Sequence[Source], source: int, row: int) -> str:
    """The row's id, or the path of its recording in the folder, or its number; usable as a file name."""
    name, cell, folder = stored.get("id"), stored.get("audio"), sources[source].folder
    if name is None and cell and cell["bytes"] is None:
        name = PurePath(cell["path"]).relative_to(folder).with_suffix("")
    row_id = file_safe_id(f"{row:06d}" if name is None else name)
    return f"{source}-{row_id}" if len(sources) > 1 else row_id  # sources may have the same ids


def _check_row(row: SourceRow, config: EncodeConfig, *, place: tuple[int, int]) -> dict[str, Any]:
    """The fields of a `CheckedRow` except its place."""
    turns = check_turns(row)
    generator = random.Random(f"{config.seed} {row['id']}")
    tags = speaker_tags(turns, generator)
    turns = [turn | {"raw_text": turn["text"], "text": _normalized(turn["text"])} for turn in turns]
    raw_text = tagged_text(turns, tags, column="raw_text") if turns else row.get("text")
    if raw_text is not None and not isinstance(raw_text, str):
        raise RejectedRow(RejectCode.NOT_TEXT, "text", f"{raw_text!r} is a {type(raw_text).__name__}")
    text = tagged_text(turns, tags) if turns else _normalized(raw_text or "")
    _check_tagged_turns(text)
    can_be_cut = config.too_long == "cut_at_turn" and any(turn["audio"] is not None for turn in turns)
    if len(text) > MAX_TEXT_CHARS and not can_be_cut:
        raise RejectedRow(RejectCode.LONG_TRANSCRIPT, "text", f"{len(text)} characters, the limit is {MAX_TEXT_CHARS}")

    if (task := row.get("task") or None) not in (None, *TASKS):
        detail = f"is {task!r}; use one of {', '.join(TASKS)}, or leave it out"
        raise RejectedRow(RejectCode.INVALID_FIELD, "task", detail)
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
    seconds = own.seconds
    spoken = len(SPEAKER_TAG.sub("", text))
    if spoken / seconds > config.max_chars_per_second:
        raise RejectedRow(
            RejectCode.TOO_MANY_CHARACTERS,
            "text",
            f"{spoken} characters in {seconds:.2f} s, max_chars_per_second is {config.max_chars_per_second}",
        )
    # Reject texts with control tokens here, whatever the task.
    conversation({"id": row["id"], "text": text, "scene": row.get("scene")}, task="single_speaker_smart_voice")
    labels = {name: None if row.get(name) in (None, "") else str(row[name]) for name in LABELS}  # "" in CSV files
    checked = {
        "text": text,
        "raw_text": raw_text,
        **labels,
        "seconds": seconds,
        "own": own,
        "name": f"{row['id']}.wav" if own.parts else _name(row["audio"]),
    }
    # Without the recordings, which would fill the memory; they can be read again by their place.
    ref_speakers, turns = _without(ref_speakers, "ref_audio"), _without(turns, "audio")
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


def _without(mappings: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in mapping.items() if name != key} for mapping in mappings]


def _check_reference(owner: Mapping[str, Any], config: EncodeConfig, *, place: tuple[int, int, str]) -> Reference:
    """Check the reference clip of a row or of an entry of `ref_speakers`."""
    clip, ref_text = _check_clip(owner.get("ref_audio"), config, place=place), owner.get("ref_text")
    if not isinstance(ref_text, str | None):
        raise RejectedRow(RejectCode.NOT_TEXT, "ref_text", f"{ref_text!r} is a {type(ref_text).__name__}")
    if not config.ref_in_system and not (ref_text or "").strip():
        detail = "is missing; give the transcript of ref_audio, or set ref_in_system"
        raise RejectedRow(RejectCode.INVALID_FIELD, "ref_text", detail)
    return {
        "clip": clip,
        "ref_text": _normalized(ref_text, field="ref_text") if ref_text else None,
        "name": _name(owner["ref_audio"]),
    }


def _normalized(text: str, *, field: str = "text") -> str:
    with rejected_as(RejectCode.EMPTY_TRANSCRIPT, field):
        return canonical_speaker_tags(normalize_transcript(text))


def _name(cell: Cell) -> str:
    return PurePath(cell["path"]).name if cell["path"] else "recording"


def _check_clip(cell: Cell | None, config: EncodeConfig, *, place: tuple[int, int, str]) -> Clip:
    """Check a recording and measure it."""
    field = place[2]
    if cell is None:
        raise RejectedRow(RejectCode.MISSING_AUDIO, field, "add it or remove the row")
    with rejected_as(RejectCode.UNREADABLE_AUDIO, field):
        header_seconds = recorded_seconds(cell, name=field_name(field))
    _check_seconds(header_seconds, config, field=field)  # before decoding what may be ten hours long
    with rejected_as(RejectCode.UNREADABLE_AUDIO, field):
        waveform, levels = read_measured(cell, name=field_name(field))
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


def content_hash(waveform: Tensor) -> str:
    """Identify audio by its samples (N,), whatever the container."""
    return hashlib.sha256(waveform.numpy().tobytes()).hexdigest()[:32]
