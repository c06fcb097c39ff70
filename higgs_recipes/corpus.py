"""Rows to train on, and the rejects with their reasons: nothing is replaced, nothing is dropped silently."""

import hashlib
import logging
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio import join_waveforms, read_audio, read_measured, recorded_seconds
from higgs_recipes.chatml import TASKS, conversation
from higgs_recipes.clips import Clip, check_turns, joined_clip, speaker_tags, tagged_text
from higgs_recipes.corpus_configs import EncodeConfig
from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.sources import LISTED_AUDIO, Source, open_sources
from higgs_recipes.text import normalize_transcript


logger = logging.getLogger(__name__)

Row = dict[str, Any]

# The samples of a silent recording stay below this: -60 dB of full scale. Dither is not silence to the codec.
SILENCE = 1e-3
FACTS = ("speaker", "language", "scene", "gender")
# The longest clip, 30 s, holds half of it. What is longer is a whole page that a broken table has put into one row.
MAX_TEXT_CHARS = 1000


@dataclass(frozen=True)
class Corpus:
    """The checked rows of a recipe's sources.

    Attributes:
        rows: {"id", "text" (normalised), "raw_text", "speaker", "language", "scene", "seconds", "own" (its `Clip`),
            "name" (of its recording), "gender", "task" (the one that it names itself, or None), "reference" and
            "ref_speakers" (those that it brings itself: {"clip", "ref_text", "name"} and "speaker_tag"), "turns" and
            "tags" (of a dialogue in turns, tags by speaker), "file", "source" and "row" (indexes)}.
        rejects: {"file", "row", "id", "reason"}; the row's index counts from 0.
        num_not_drawn: good rows that the weights of a mixture leave out, by source.
    """

    sources: list[Source]
    rows: list[Row]
    rejects: list[dict[str, Any]]
    num_not_drawn: dict[str, int]

    def recording(self, clip: Clip) -> dict[str, Any]:
        """The undecoded cell {"path", "bytes"} of a clip that is one recording."""
        source, row, column = clip.place
        stored = self.sources[source].row(row)
        column, _, index = column.partition(".")
        return stored[column][int(index)][LISTED_AUDIO[column]] if index else stored[column]

    def waveform(self, clip: Clip, *, name: str) -> Tensor:
        """A clip's waveform (N,); `name` stands in errors."""
        if clip.place is not None:
            return read_audio(self.recording(clip), name=name)
        return join_waveforms([self.waveform(part, name=name) for part in clip.parts], gaps=clip.gaps)

    def reject_counts(self) -> dict[str, int]:
        """How many rows were rejected for which reason, the commonest first."""
        return dict(Counter(short_reason(reject["reason"]) for reject in self.rejects).most_common())


def load_rows(config: EncodeConfig) -> Corpus:
    """Read, check and, where the sources have weights, mix the rows of a recipe. Several processes share the reading.

    Weights are relative probabilities, as `datasets.interleave_datasets` has them: rows are drawn in these proportions
    until the first source is used up, each row at most once.

    Raises:
        InputError: what `open_sources` finds, or not one good row is left.
    """
    sources = open_sources(config)
    state = PartialState()
    places = [(source, row) for source in range(len(sources)) for row in range(len(sources[source].table))]
    with state.split_between_processes(places) as share:
        progress = tqdm(share, desc="Checking", unit=" rows", disable=not state.is_main_process)
        checked = [_check_place(sources, source, row, config) for source, row in progress]
    checked = gather_object(checked)

    rows, rejects = _reject_duplicates(checked)
    rejects.sort(key=lambda reject: (reject["source"], reject["row"]))
    rows, num_not_drawn = _draw_mixture(rows, sources, seed=config.seed)
    rejects = [{key: reject[key] for key in ("file", "row", "id", "reason")} for reject in rejects]
    corpus = Corpus(sources, rows, rejects, num_not_drawn)
    if not rows:
        raise InputError(f"no row is left of {len(places)}: {corpus.reject_counts()}; the first: {rejects[0]}")
    return corpus


def split_rows(rows: Sequence[Row], config: EncodeConfig) -> dict[str, list[Row]]:
    """{"train": ..., "test": ...} by `split_by`, `test_size` and `seed`; no "test" where test_size is 0.

    Groups (rows of one sentence, or of one speaker) are drawn until the test split has its size, so the last one may
    make it larger.

    Raises:
        InputError: a row has no speaker to split by, or nothing would be left to train on.
    """
    if config.test_size == 0:
        return {"train": list(rows)}
    target = config.test_size if config.test_size >= 1 else max(1, round(config.test_size * len(rows)))
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if config.split_by == "speaker" and row["speaker"] is None:
            raise InputError(f"row {row['id']}: no speaker to split by; map a column to speaker or use split_by: text")
        groups.setdefault(row["speaker"] if config.split_by == "speaker" else sentence(row["text"]), []).append(row)
    keys = sorted(groups)
    random.Random(config.seed).shuffle(keys)

    held_out: list[Row] = []
    for key in keys:
        if len(held_out) < target:
            held_out += groups[key]
    if len(held_out) == len(rows):
        raise InputError(
            f"test_size {config.test_size} by {config.split_by} takes all {len(rows)} rows ({len(groups)} groups): "
            "nothing is left to train on; make it smaller"
        )
    ids = {row["id"] for row in held_out}
    return {
        "train": [row for row in rows if row["id"] not in ids],
        "test": [row for row in rows if row["id"] in ids],
    }


def short_reason(reason: str) -> str:
    """What rejects are counted by.

    >>> short_reason("too short: 0.05 s, min_seconds is 0.3")
    'too short'
    >>> short_reason("zero_shot_voice_cloning: no reference; speaker anna has no other clip of 2.0 to 10.0 s")
    'zero_shot_voice_cloning: no reference'
    """
    task, colon, rest = reason.partition(": ")
    if colon and task in TASKS:
        return f"{task}: {short_reason(rest)}"
    return re.split(r"[:;(]", reason)[0].strip()


def _check_place(sources: Sequence[Source], source: int, row: int, config: EncodeConfig) -> Row:
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
    spoken = len(re.sub(r"\[SPEAKER\d+\]", "", text))
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
    return checked | {"task": task, "reference": reference, "ref_speakers": ref_speakers, "turns": turns, "tags": tags}


def _check_reference(owner: Row, config: EncodeConfig, *, place: tuple[int, int, str], name: str) -> Row:
    """{"clip", "ref_text", "name"} of a reference that the row brings itself."""
    clip, ref_text = _check_clip(owner.get("ref_audio"), config, place=place, name=name), owner.get("ref_text")
    if not config.ref_in_system and not (isinstance(ref_text, str) and ref_text.strip()):
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
        _check_seconds(recorded_seconds(cell, name=name), config)  # before a ten-hour file is decoded
        waveform, levels = read_measured(cell, name=name)
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


def _reject_duplicates(checked: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    rows, rejects, first = [], [], {}
    for row in checked:
        if "reason" not in row and row["id"] in first:
            other = first[row["id"]]
            row = row | {"reason": f"duplicate id: row {other['row']} of {other['file']} has it too"}
        elif "reason" not in row:
            first[row["id"]] = row
        (rejects if "reason" in row else rows).append(row)
    return rows, rejects


def _draw_mixture(rows: list[Row], sources: Sequence[Source], *, seed: int) -> tuple[list[Row], dict[str, int]]:
    if sources[0].weight is None:
        return rows, {}
    by_source = [[row for row in rows if row["source"] == index] for index in range(len(sources))]
    scale = min(len(mine) / source.weight for mine, source in zip(by_source, sources, strict=True))
    drawn, num_not_drawn = [], {}
    for index, (mine, source) in enumerate(zip(by_source, sources, strict=True)):
        if not mine:
            raise InputError(f"{source.label}: no good row is left, so its weight {source.weight} cannot be met")
        # A rounding error below a whole number must not cost a row.
        num_drawn = max(1, int(source.weight * scale + 1e-9))
        kept = sorted(random.Random(f"{seed} {index}").sample(range(len(mine)), num_drawn))
        drawn += [mine[position] for position in kept]
        num_not_drawn[source.label] = len(mine) - num_drawn
    return drawn, num_not_drawn


def sentence(text: str) -> str:
    """What two readings of one sentence share: its letters and digits."""
    return "".join(re.findall(r"\w+", text.casefold()))
