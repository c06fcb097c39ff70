"""Which task each row teaches: its own, or one drawn by the recipe's weights, with references and dialogues made of
other rows.

A reference is the row's own or drawn from the same speaker's other clips; a dialogue is the row's own or joined from
single utterances of two speakers. Draws are seeded. A row that lacks what its task needs is rejected with the reason:
it never teaches another task in silence.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from higgs_recipes.chatml import SPEAKER_TAG, conversation, describe_voice, is_dialogue
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.clips import Clip, cut_at_turns, joined_clip, speaker_tags, tagged_text
from higgs_recipes.corpus.corpus import REJECT_COLUMNS, Corpus
from higgs_recipes.corpus.rows import CheckedRow, Reference, TaskRow
from higgs_recipes.corpus.validation import MAX_TEXT_CHARS
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


DIALOGUE_TASKS = ("multi_speaker_smart_voice", "multi_speaker_voice_cloning")
CLONING_TASKS = ("zero_shot_voice_cloning", "multi_speaker_voice_cloning")
NUM_DRAWN = 8  # clips among which a reference is sought first


@dataclass(frozen=True)
class _Speakers:
    """What a split knows of its speakers: their clips that can be references, and the word for the voice of those
    whose gender is said."""

    references: Mapping[str | None, Sequence[CheckedRow]]
    voices: Mapping[str, str]


def assign_tasks(corpus: Corpus, rows: Sequence[CheckedRow], config: EncodeConfig, *, split: str) -> list[TaskRow]:
    """The rows of a split as they are taught: laid out as their tasks.

    A dialogue takes the place of the utterances that it is joined from, and the pieces of one that is cut at its turns
    take its place. Rejects are added to the corpus's.

    Raises:
        InputError: not one row of the split is left.
    """
    draw = random.Random(f"{config.seed} {split}")
    rows = [piece for row in rows for piece in _pieces(row, config)]
    task_of = _draw_tasks(rows, config, draw)
    made: list[TaskRow] = []
    utterances: dict[str, list[CheckedRow]] = {task: [] for task in DIALOGUE_TASKS}
    speakers = _speakers(rows, config)
    for row, task in zip(rows, task_of, strict=True):
        if task in DIALOGUE_TASKS and not _is_dialogue(row):
            utterances[task].append(row)
            continue
        try:
            made.append(_lay_out(row, task, speakers, config, draw))
        except RejectedRow as error:
            _reject(corpus, row, task, error.reject)
    for task in DIALOGUE_TASKS:
        made += _dialogues(corpus, utterances[task], task, speakers, config, draw, split=split)
    if not made:
        last = corpus.rejects[-1].record()
        raise InputError(f"no row of split {split} is left: {corpus.reject_counts()}; the last: {last}")
    return made


def count_tasks(rows: Sequence[TaskRow]) -> dict[str, int]:
    """How many rows teach which task."""
    return dict(Counter(row["task"] for row in rows))


def count_cuts(rows: Sequence[TaskRow]) -> dict[str, int]:
    """{"dialogues", "pieces"}: how many dialogues were cut at their turns, and into how many."""
    cut_from = [row["cut_from"] for row in rows if row["cut_from"] is not None]
    return {"dialogues": len(set(cut_from)), "pieces": len(cut_from)}


def _pieces(row: CheckedRow, config: EncodeConfig) -> list[CheckedRow]:
    """The row itself, or the dialogues that it is cut into where it is longer than the recipe allows."""
    if row["seconds"] <= config.max_seconds:
        return [row | {"cut_from": None}]
    draw = random.Random(f"{config.seed} {row['id']} cut")
    return [
        _dialogue_row(row, row["turns"][held], clip, draw, name=f"{row['id']}-turns-{held.start}-{held.stop - 1}")
        | {"cut_from": row["id"]}
        for held, clip in cut_at_turns(row["own"], config.max_seconds)
    ]


def _speakers(rows: Sequence[CheckedRow], config: EncodeConfig) -> _Speakers:
    references: dict[str | None, list[CheckedRow]] = defaultdict(list)
    voices: dict[str, str] = {}
    for row in rows:
        if config.ref_min_seconds <= row["own"].seconds <= config.ref_max_seconds and not _is_dialogue(row):
            references[row["speaker"]].append(row)
        for spoken in (row, *row["turns"]):
            if spoken["speaker"] is not None and (voice := describe_voice(spoken["gender"])):
                voices.setdefault(spoken["speaker"], voice)
    return _Speakers(references, voices)


def _draw_tasks(rows: Sequence[CheckedRow], config: EncodeConfig, draw: random.Random) -> list[str]:
    """A task for each row: its own, and for those that name none the weights' shares, rounded to whole rows, in drawn
    order.

    A row that is a dialogue itself takes one of the dialogue tasks; where the recipe has none it is left as the single
    speaker's that it is not, and rejected when it is laid out.
    """
    open_rows = [row for row in rows if row["task"] is None]
    tasks, weights = list(config.tasks), list(config.tasks.values())
    total, ends, passed = sum(weights), [], 0.0
    for weight in weights:
        passed += weight
        ends.append(round(passed / total * len(open_rows)))
    drawn = [task for task, start, end in zip(tasks, [0, *ends], ends, strict=False) for _ in range(end - start)]
    draw.shuffle(drawn)
    dialogue_tasks = {task: weight for task, weight in config.tasks.items() if task in DIALOGUE_TASKS}
    for index, row in enumerate(open_rows):
        if _is_dialogue(row) and drawn[index] not in DIALOGUE_TASKS and dialogue_tasks:
            (drawn[index],) = draw.choices(list(dialogue_tasks), list(dialogue_tasks.values()))
    in_order = iter(drawn)
    return [row["task"] or next(in_order) for row in rows]


def _is_dialogue(row: CheckedRow) -> bool:
    return is_dialogue(row["text"])


def _lay_out(row: CheckedRow, task: str, speakers: _Speakers, config: EncodeConfig, draw: random.Random) -> TaskRow:
    if _is_dialogue(row) and task not in DIALOGUE_TASKS:
        where = "tasks" if row["task"] is None else "its column task"
        raise RejectedRow(RejectCode.DIALOGUE, "text", f"give {where} a multi_speaker task")
    if len(row["text"]) > MAX_TEXT_CHARS:
        detail = f"{len(row['text'])} characters, at most {MAX_TEXT_CHARS} are taken"
        raise RejectedRow(RejectCode.LONG_TRANSCRIPT, "text", detail)
    references: list[dict[str, Any]] = []
    if task == "zero_shot_voice_cloning":
        references = [row["reference"] or _draw_reference(row["speaker"], [row], speakers, config, draw)]
    elif task == "multi_speaker_voice_cloning":
        references = row["ref_speakers"] or _draw_references(row["tags"], [row], speakers, config, draw)
    return _finish(row, task, references, speakers, config)


def _draw_references(
    tags: dict[str, str],
    targets: Sequence[CheckedRow],
    speakers: _Speakers,
    config: EncodeConfig,
    draw: random.Random,
) -> list[dict[str, Any]]:
    """A reference for each speaker of a dialogue, in the order of their tags."""
    return [
        _draw_reference(speaker, targets, speakers, config, draw) | {"speaker_tag": tag}
        for speaker, tag in sorted(tags.items(), key=lambda each: each[1])
    ]


def _draw_reference(
    speaker: str | None,
    targets: Sequence[CheckedRow],
    speakers: _Speakers,
    config: EncodeConfig,
    draw: random.Random,
) -> Reference:
    """Another clip of the speaker, none of the targets and of no target's sound, within the recipe's length."""
    if speaker is None:
        detail = "ref_audio is missing, and without a speaker no other clip can be drawn: map one of the two"
        raise RejectedRow(RejectCode.NO_SPEAKER, "speaker", detail)
    clips = (clip for target in targets for clip in (target["own"], *target["own"].parts))
    sounds = {clip.content_hash for clip in clips}
    rows = speakers.references.get(speaker, [])
    # A few drawn clips are nearly always enough: to look through all of a speaker's for each row takes hours at size.
    few = draw.sample(rows, min(len(rows), NUM_DRAWN))
    fit = [row for row in few if row["own"].content_hash not in sounds]
    if not fit:
        fit = [row for row in rows if row["own"].content_hash not in sounds]
        draw.shuffle(fit)
    if not fit:
        raise RejectedRow(
            RejectCode.NO_REFERENCE,
            "ref_audio",
            f"speaker {speaker} has no other clip of {config.ref_min_seconds} to {config.ref_max_seconds} s",
        )
    chosen = fit[0]
    return {"clip": chosen["own"], "ref_text": chosen["text"], "name": chosen["name"]}


def _dialogues(
    corpus: Corpus,
    rows: Sequence[CheckedRow],
    task: str,
    speakers: _Speakers,
    config: EncodeConfig,
    draw: random.Random,
    *,
    split: str,
) -> list[TaskRow]:
    """Utterances joined two speakers a dialogue, each utterance in one; what finds no partner is rejected."""
    left: dict[str, list[CheckedRow]] = defaultdict(list)
    for row in draw.sample(list(rows), len(rows)):
        if row["speaker"] is None:
            detail = "no speaker to join dialogues by; map a column to speaker"
            _reject(corpus, row, task, Reject(RejectCode.NO_SPEAKER, "speaker", detail))
        else:
            left[row["speaker"]].append(row)
    made: list[TaskRow] = []
    while len(able := sorted(speaker for speaker, mine in left.items() if mine)) > 1:
        # The speakers with most utterances left come first: so few are left without a partner.
        draw.shuffle(able)
        first, second = sorted(able, key=lambda speaker: -len(left[speaker]))[:2]
        turns, seconds, gaps = [], 0.0, []
        for index in range(draw.randint(*config.dialogue_turns)):
            mine = left[(first, second)[index % 2]]
            gap = draw.uniform(*config.dialogue_gap_seconds) if turns else 0.0
            if not mine or (len(turns) > 1 and seconds + gap + mine[-1]["own"].seconds > config.max_seconds):
                break
            seconds += gap + mine[-1]["own"].seconds
            gaps += [gap] * bool(turns)
            turns.append(mine.pop())
        try:
            if seconds > config.max_seconds:
                detail = f"two turns of {seconds:.2f} s, max_seconds is {config.max_seconds}"
                raise RejectedRow(RejectCode.TOO_LONG, "dialogue", detail)
            name = f"dialogue-{split}-{task.split('_')[2]}-{len(made):05d}"
            clip = joined_clip([turn["own"] for turn in turns], gaps)
            made.append(_lay_out(_dialogue_row(turns[0], turns, clip, draw, name=name), task, speakers, config, draw))
        except RejectedRow as error:
            for turn in turns:
                _reject(corpus, turn, task, error.reject)
    for row in (row for mine in left.values() for row in mine):
        _reject(corpus, row, task, Reject(RejectCode.NO_PARTNER, detail="the other speakers' utterances are used up"))
    return made


def _dialogue_row(
    owner: CheckedRow, turns: Sequence[Mapping[str, Any]], clip: Clip, draw: random.Random, *, name: str
) -> CheckedRow:
    """The row of a dialogue in these turns; what it shares with its owner, as language and place, is the owner's."""
    tags = speaker_tags(turns, draw)
    texts = {column: tagged_text(turns, tags, column=column) for column in ("text", "raw_text")}
    row = {"id": name, "own": clip, "name": f"{name}.wav", "speaker": None, "seconds": clip.seconds, "tags": tags}
    return owner | row | texts | {"reference": None, "ref_speakers": []}


def _finish(
    row: CheckedRow, task: str, references: Sequence[dict[str, Any]], speakers: _Speakers, config: EncodeConfig
) -> TaskRow:
    """The row with its conversation; only the recordings' names go into it: where they lie is nobody's business."""
    named = {"id": row["id"], "text": row["text"], "scene": row["scene"], "audio": row["name"]}
    described = [each | {"ref_audio": each["name"]} for each in references]
    if task == "zero_shot_voice_cloning":
        named |= {"ref_audio": described[0]["ref_audio"], "ref_text": described[0]["ref_text"]}
    elif task in DIALOGUE_TASKS:
        voiced = [
            {"speaker_tag": tag, "description": speakers.voices[speaker]}
            for speaker, tag in row["tags"].items()
            if speaker in speakers.voices
        ]
        named["ref_speakers"] = described or row["ref_speakers"] or voiced
    turns = conversation(named, task=task, ref_in_system=config.ref_in_system and task in CLONING_TASKS)
    return row | {
        "task": task,
        "messages": json.dumps(turns, ensure_ascii=False),
        "clips": [*(each["clip"] for each in references), row["own"]],
        "ref_texts": [each["ref_text"] for each in references],
        "turn_speakers": _turn_speakers(row) if task in DIALOGUE_TASKS else [],
    }


def _turn_speakers(row: CheckedRow) -> list[str | None]:
    """Who speaks each turn of a dialogue; None of a tag whose speaker the corpus does not say."""
    speaker_of = {tag: speaker for speaker, tag in row["tags"].items()}
    return [speaker_of.get(tag) for tag in SPEAKER_TAG.findall(row["text"])]


def _reject(corpus: Corpus, row: CheckedRow, task: str, reject: Reject) -> None:
    corpus.rejects.append(replace(reject, task=task, columns={column: row[column] for column in REJECT_COLUMNS}))
