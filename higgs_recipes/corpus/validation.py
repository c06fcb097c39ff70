"""One row of a source, checked: what cannot be used is rejected with its reason, and nothing is put in its place."""

import hashlib
import random
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from torch import Tensor

from higgs_recipes.audio.io import read_measured
from higgs_recipes.chatml import SPEAKER_TAG, TASKS, conversation
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.clips import Clip, check_turns, joined_clip, speaker_tags, tagged_text
from higgs_recipes.corpus.sources.source import Source
from higgs_recipes.errors import InputError
from higgs_recipes.text import normalize_transcript


Row = dict[str, Any]

# The samples of a silent recording stay below this: -60 dB of full scale. Dither is not silence to the codec.
SILENCE = 1e-3
FACTS = ("speaker", "language", "scene", "gender")
# The longest clip, 30 s, holds half of it. What is longer is a whole page that a broken table has put into one row.
MAX_TEXT_CHARS = 1000


def check_place(sources: Sequence[Source], source: int, row: int, config: EncodeConfig) -> Row:
    """The checked row, or its reject (with a "reason"); both know their place."""
    place = {"source": source, "row": row, "file": sources[source].label, "id": None}
    try:
        stored = sources[source].row(row)
        place["id"] = _row_id(stored, sources, source, row)
        return place | _check_row(stored | {"id": place["id"]}, config, place=(source, row))
    except InputError as error:
        return place | {"reason": str(error).removeprefix(f"row {place['id']}: ")}


def _row_id(stored: Row, sources: Sequence[Source], source: int, row: int) -> str:
    """The row's own id, else its recording's place in the folder, else its number; fit for a file name."""
    name, cell, folder = stored.get("id"), stored.get("audio"), sources[source].folder
    if name is None and cell and cell["bytes"] is None:
        name = PurePath(cell["path"]).relative_to(folder).with_suffix("")
    fit = re.sub(r"[^\w.-]+", "_", str(f"{row:06d}" if name is None else name)).lstrip(".")
    return f"{source}-{fit}" if len(sources) > 1 else fit  # sources may number their rows alike


def _check_row(row: Row, config: EncodeConfig, *, place: tuple[int, int]) -> Row:
    turns = check_turns(row)
    draw = random.Random(f"{config.seed} {row['id']}")
    tags = speaker_tags(turns, draw)
    turns = [turn | {"raw_text": turn["text"], "text": normalize_transcript(turn["text"])} for turn in turns]
    raw_text = tagged_text(turns, tags, column="raw_text") if turns else row.get("text")
    if raw_text is not None and not isinstance(raw_text, str):
        raise InputError(f"transcript is no text: {raw_text!r} is a {type(raw_text).__name__}")
    text = tagged_text(turns, tags) if turns else normalize_transcript(raw_text or "")
    can_be_cut = config.too_long == "cut_at_turn" and any(turn["audio"] is not None for turn in turns)
    if len(text) > MAX_TEXT_CHARS and not can_be_cut:
        raise InputError(f"transcript too long: {len(text)} characters, at most {MAX_TEXT_CHARS} are taken")

    if (task := row.get("task") or None) not in (None, *TASKS):
        raise InputError(f"task is {task!r}; use one of {', '.join(TASKS)}, or leave it out and one is drawn")
    tasks = config.tasks if task is None else (task,)
    reference, ref_speakers = None, [dict(each) for each in row.get("ref_speakers") or []]
    if "zero_shot_voice_cloning" in tasks and row.get("ref_audio") is not None:
        reference = _check_reference(row, config, place=(*place, "ref_audio"), name="reference clip")
    if "multi_speaker_voice_cloning" in tasks:
        ref_speakers = [
            each
            | _check_reference(each, config, place=(*place, f"ref_speakers.{index}"), name=f"reference clip {index}")
            for index, each in enumerate(ref_speakers)
        ]
    if any(turn["audio"] is not None for turn in turns):
        parts = [
            _check_clip(turn["audio"], config, place=(*place, f"turns.{index}"), name=f"recording of turn {index}")
            for index, turn in enumerate(turns)
        ]
        own = joined_clip(parts, [draw.uniform(*config.dialogue_gap_seconds) for _ in parts[1:]])
        _check_seconds(min(own.seconds, config.max_seconds) if can_be_cut else own.seconds, config)
    else:
        own = _check_clip(row.get("audio"), config, place=(*place, "audio"), name="recording")
    seconds = own.seconds
    spoken = len(SPEAKER_TAG.sub("", text))
    if spoken / seconds > config.max_chars_per_second:
        raise InputError(
            f"transcript too long for its clip: {spoken} characters in {seconds:.2f} s, max_chars_per_second is "
            f"{config.max_chars_per_second}"
        )
    # What no prompt may hold is found here, whatever task the row will teach.
    conversation({"id": row["id"], "text": text, "scene": row.get("scene")}, task="single_speaker_smart_voice")
    facts = {name: None if row.get(name) in (None, "") else str(row[name]) for name in FACTS}  # "": of a CSV
    checked = {
        "text": text,
        "raw_text": raw_text,
        **facts,
        "seconds": seconds,
        "own": own,
        "name": f"{row['id']}.wav" if own.parts else _name(row["audio"]),
    }
    # Without the recordings: where they lie in the corpus is known, and all of them would not go into memory.
    ref_speakers, turns = _without(ref_speakers, "ref_audio"), _without(turns, "audio")
    return checked | {"task": task, "reference": reference, "ref_speakers": ref_speakers, "turns": turns, "tags": tags}


def _without(mappings: Sequence[Row], key: str) -> list[Row]:
    return [{name: value for name, value in each.items() if name != key} for each in mappings]


def _check_reference(owner: Row, config: EncodeConfig, *, place: tuple[int, int, str], name: str) -> Row:
    """{"clip", "ref_text", "name"} of a reference that the row brings itself."""
    clip, ref_text = _check_clip(owner.get("ref_audio"), config, place=place, name=name), owner.get("ref_text")
    if not isinstance(ref_text, str | None):
        raise InputError(f"ref_text is no text: {ref_text!r} is a {type(ref_text).__name__}")
    if not config.ref_in_system and not (ref_text or "").strip():
        raise InputError("ref_text is missing; give the words of ref_audio, or set ref_in_system")
    ref_text = normalize_transcript(ref_text) if ref_text else None
    return {"clip": clip, "ref_text": ref_text, "name": _name(owner["ref_audio"])}


def _name(cell: dict[str, Any]) -> str:
    return PurePath(cell["path"]).name if cell["path"] else "recording"


def _check_clip(cell: dict[str, Any] | None, config: EncodeConfig, *, place: tuple[int, int, str], name: str) -> Clip:
    """The recording as a clip that can be encoded."""
    try:
        if cell is None:
            raise InputError("missing; give the row one or drop it")
        waveform, levels = read_measured(cell, name=name, max_seconds=config.max_seconds)
        seconds = len(waveform) / SAMPLE_RATE
        _check_seconds(seconds, config)
        if waveform.abs().max() < SILENCE:
            raise InputError("silent; record it again or drop it")
    except InputError as error:
        raise InputError(f"{name} {str(error).removeprefix(f'{name}: ')}") from error
    return Clip(seconds, content_hash(waveform), place=place, levels=levels)


def _check_seconds(seconds: float, config: EncodeConfig) -> None:
    if seconds < config.min_seconds:
        raise InputError(f"too short: {seconds:.2f} s, min_seconds is {config.min_seconds}")
    if seconds > config.max_seconds:
        raise InputError(f"too long: {seconds:.2f} s, max_seconds is {config.max_seconds}")


def content_hash(waveform: Tensor) -> str:
    """Name of a sound: the same samples (N,) have the same, whatever file they came in."""
    return hashlib.sha256(waveform.numpy().tobytes()).hexdigest()[:32]
