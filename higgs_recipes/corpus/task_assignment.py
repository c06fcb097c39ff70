"""Assign a task to each row: its own, or one sampled by the weights of the recipe.

A reference is the row's own, or sampled from the speaker's other clips. A dialogue is the row's own, or joined from
single utterances of two speakers. All sampling is seeded. A row that lacks what its task needs is rejected; it is
never used for another task.
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
from higgs_recipes.corpus.corpus import REJECT_COLUMNS, Corpus, split_rows
from higgs_recipes.corpus.rows import CheckedRow, Reference, TaskRow
from higgs_recipes.corpus.validation import check_text_length
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow


DIALOGUE_TASKS = ("multi_speaker_smart_voice", "multi_speaker_voice_cloning")
CLONING_TASKS = ("zero_shot_voice_cloning", "multi_speaker_voice_cloning")
NUM_CANDIDATES = 8  # clips that are tried first as a reference


@dataclass(frozen=True)
class _Speakers:
    """The speakers of a split: their clips that can be references, and the description of their voices, if known."""

    references: Mapping[str | None, Sequence[CheckedRow]]
    voices: Mapping[str, str]


def assign_splits(corpus: Corpus, config: EncodeConfig) -> dict[str, list[TaskRow]]:
    """Split the rows of a corpus and prepare them for their tasks.

    Raises:
        InputError: as `split_rows` and `assign_tasks`.
    """
    return {
        split: assign_tasks(corpus, rows, config, split=split)
        for split, rows in split_rows(corpus.rows, config).items()
    }


def assign_tasks(corpus: Corpus, rows: Sequence[CheckedRow], config: EncodeConfig, *, split: str) -> list[TaskRow]:
    """Prepare the rows of a split for their tasks.

    A joined dialogue replaces its utterances; the pieces of a dialogue that is cut at turns replace it. Rejects are
    added to those of the corpus.

    Raises:
        InputError: no row of the split remains.
    """
    generator = random.Random(f"{config.seed} {split}")
    rows = [piece for row in rows for piece in _pieces(row, config)]
    tasks = _sample_tasks(rows, config, generator)
    task_rows: list[TaskRow] = []
    utterances: dict[str, list[CheckedRow]] = {task: [] for task in DIALOGUE_TASKS}
    speakers = _speakers(rows, config)
    for row, task in zip(rows, tasks, strict=True):
        if task in DIALOGUE_TASKS and not _is_dialogue(row):
            utterances[task].append(row)
            continue
        try:
            task_rows.append(_prepare(row, task, speakers, config, generator))
        except RejectedRow as error:
            _reject(corpus, row, task, error.reject)
    for task in DIALOGUE_TASKS:
        task_rows += _dialogues(corpus, utterances[task], task, speakers, config, generator, split=split)
    if not task_rows:
        last = corpus.rejects[-1].record()
        raise InputError(f"no row of split {split} can be used: {corpus.reject_counts()}; the last reject: {last}")
    return task_rows


def count_tasks(rows: Sequence[TaskRow]) -> dict[str, int]:
    """Number of rows by task."""
    return dict(Counter(row["task"] for row in rows))


def count_cuts(rows: Sequence[TaskRow]) -> dict[str, int]:
    """{"dialogues", "pieces"}: how many dialogues were cut at turns, and into how many pieces in total."""
    cut_from = [row["cut_from"] for row in rows if row["cut_from"] is not None]
    return {"dialogues": len(set(cut_from)), "pieces": len(cut_from)}


def _pieces(row: CheckedRow, config: EncodeConfig) -> list[CheckedRow]:
    """The row itself, or the dialogues that it is cut into if it is longer than `max_seconds`."""
    if row["seconds"] <= config.max_seconds:
        return [row | {"cut_from": None}]
    generator = random.Random(f"{config.seed} {row['id']} cut")
    return [
        _dialogue_row(row, row["turns"][held], clip, generator, name=f"{row['id']}-turns-{held.start}-{held.stop - 1}")
        | {"cut_from": row["id"]}
        for held, clip in cut_at_turns(row["own"], config.max_seconds)
    ]


def _speakers(rows: Sequence[CheckedRow], config: EncodeConfig) -> _Speakers:
    references: dict[str | None, list[CheckedRow]] = defaultdict(list)
    voices: dict[str, str] = {}
    for row in rows:
        if config.ref_min_seconds <= row["own"].seconds <= config.ref_max_seconds and not _is_dialogue(row):
            references[row["speaker"]].append(row)
        for owner in (row, *row["turns"]):
            if owner["speaker"] is not None and (voice := describe_voice(owner["gender"])):
                voices.setdefault(owner["speaker"], voice)
    return _Speakers(references, voices)


def _sample_tasks(rows: Sequence[CheckedRow], config: EncodeConfig, generator: random.Random) -> list[str]:
    """A task for each row: its own, or one of the recipe's.

    The recipe's tasks are shared out by their weights, rounded to whole rows, in random order. A row that is a
    dialogue gets one of the dialogue tasks. If the recipe has none, it keeps its single-speaker task, and `_prepare`
    rejects it.
    """
    open_rows = [row for row in rows if row["task"] is None]
    tasks, weights = list(config.tasks), list(config.tasks.values())
    total, ends, passed = sum(weights), [], 0.0
    for weight in weights:
        passed += weight
        ends.append(round(passed / total * len(open_rows)))
    sampled = [task for task, start, end in zip(tasks, [0, *ends], ends, strict=False) for _ in range(end - start)]
    generator.shuffle(sampled)
    dialogue_tasks = {task: weight for task, weight in config.tasks.items() if task in DIALOGUE_TASKS}
    for index, row in enumerate(open_rows):
        if _is_dialogue(row) and sampled[index] not in DIALOGUE_TASKS and dialogue_tasks:
            (sampled[index],) = generator.choices(list(dialogue_tasks), list(dialogue_tasks.values()))
    in_order = iter(sampled)
    return [row["task"] or next(in_order) for row in rows]


def _is_dialogue(row: CheckedRow) -> bool:
    return is_dialogue(row["text"])


def _prepare(
    row: CheckedRow, task: str, speakers: _Speakers, config: EncodeConfig, generator: random.Random
) -> TaskRow:
    """Prepare a row for its task.

    Raises:
        RejectedRow: it lacks what the task needs.
    """
    if _is_dialogue(row) and task not in DIALOGUE_TASKS:
        where = "the recipe's tasks" if row["task"] is None else "the row's column task"
        raise RejectedRow(RejectCode.DIALOGUE, "text", f"it needs a multi_speaker task in {where}")
    check_text_length(row["text"])
    references: list[dict[str, Any]] = []
    if task == "zero_shot_voice_cloning":
        references = [row["reference"] or _sample_reference(row["speaker"], [row], speakers, config, generator)]
    elif task == "multi_speaker_voice_cloning":
        references = row["ref_speakers"] or _sample_references(row["tags"], [row], speakers, config, generator)
    return _finish(row, task, references, speakers, config)


def _sample_references(
    tags: dict[str, str],
    targets: Sequence[CheckedRow],
    speakers: _Speakers,
    config: EncodeConfig,
    generator: random.Random,
) -> list[dict[str, Any]]:
    """A reference for each speaker of a dialogue, in the order of their tags."""
    return [
        _sample_reference(speaker, targets, speakers, config, generator) | {"speaker_tag": tag}
        for speaker, tag in sorted(tags.items(), key=lambda item: item[1])
    ]


def _sample_reference(
    speaker: str | None,
    targets: Sequence[CheckedRow],
    speakers: _Speakers,
    config: EncodeConfig,
    generator: random.Random,
) -> Reference:
    """Another clip of the speaker, within the recipe's limits, whose audio is not that of a target."""
    if speaker is None:
        detail = "ref_audio is missing, and without a speaker no reference can be sampled: map one of the two columns"
        raise RejectedRow(RejectCode.NO_SPEAKER, "speaker", detail)
    clips = (clip for target in targets for clip in (target["own"], *target["own"].parts))
    hashes = {clip.content_hash for clip in clips}
    rows = speakers.references.get(speaker, [])
    # A few candidates are nearly always enough; to filter all clips of a speaker for each row takes hours at size.
    candidates = generator.sample(rows, min(len(rows), NUM_CANDIDATES))
    candidates = [row for row in candidates if row["own"].content_hash not in hashes]
    if not candidates:
        candidates = [row for row in rows if row["own"].content_hash not in hashes]
        generator.shuffle(candidates)
    if not candidates:
        raise RejectedRow(
            RejectCode.NO_REFERENCE,
            "ref_audio",
            f"speaker {speaker} has no other clip of {config.ref_min_seconds} to {config.ref_max_seconds} s",
        )
    chosen = candidates[0]
    return {"clip": chosen["own"], "ref_text": chosen["text"], "name": chosen["name"]}


def _dialogues(
    corpus: Corpus,
    rows: Sequence[CheckedRow],
    task: str,
    speakers: _Speakers,
    config: EncodeConfig,
    generator: random.Random,
    *,
    split: str,
) -> list[TaskRow]:
    """Join utterances, each used once, into dialogues of two speakers; reject those without a partner."""
    remaining: dict[str, list[CheckedRow]] = defaultdict(list)
    for row in generator.sample(list(rows), len(rows)):
        if row["speaker"] is None:
            detail = "no speaker, which dialogues are joined by; map a column to speaker"
            _reject(corpus, row, task, Reject(RejectCode.NO_SPEAKER, "speaker", detail))
        else:
            remaining[row["speaker"]].append(row)
    dialogues: list[TaskRow] = []
    while len(names := sorted(speaker for speaker, utterances in remaining.items() if utterances)) > 1:
        # Speakers with the most remaining utterances come first, so that few utterances find no partner.
        generator.shuffle(names)
        first, second = sorted(names, key=lambda speaker: -len(remaining[speaker]))[:2]
        turns, seconds, gaps = [], 0.0, []
        for index in range(generator.randint(*config.dialogue_turns)):
            utterances = remaining[(first, second)[index % 2]]
            gap = generator.uniform(*config.dialogue_gap_seconds) if turns else 0.0
            if not utterances:
                break
            if len(turns) > 1 and seconds + gap + utterances[-1]["own"].seconds > config.max_seconds:
                break
            seconds += gap + utterances[-1]["own"].seconds
            gaps += [gap] * bool(turns)
            turns.append(utterances.pop())
        try:
            if seconds > config.max_seconds:
                detail = f"two turns of {seconds:.2f} s, max_seconds is {config.max_seconds}"
                raise RejectedRow(RejectCode.TOO_LONG, "dialogue", detail)
            name = f"dialogue-{split}-{task.split('_')[2]}-{len(dialogues):05d}"
            clip = joined_clip([turn["own"] for turn in turns], gaps)
            row = _dialogue_row(turns[0], turns, clip, generator, name=name)
            dialogues.append(_prepare(row, task, speakers, config, generator))
        except RejectedRow as error:
            for turn in turns:
                _reject(corpus, turn, task, error.reject)
    for row in (row for utterances in remaining.values() for row in utterances):
        detail = "all utterances of other speakers are used"
        _reject(corpus, row, task, Reject(RejectCode.NO_PARTNER, detail=detail))
    return dialogues


def _dialogue_row(
    owner: CheckedRow, turns: Sequence[Mapping[str, Any]], clip: Clip, generator: random.Random, *, name: str
) -> CheckedRow:
    """The row of a dialogue of these turns; its other fields, such as language and place, are those of `owner`."""
    tags = speaker_tags(turns, generator)
    texts = {column: tagged_text(turns, tags, column=column) for column in ("text", "raw_text")}
    row = {"id": name, "own": clip, "name": f"{name}.wav", "speaker": None, "seconds": clip.seconds, "tags": tags}
    return owner | row | texts | {"reference": None, "ref_speakers": []}


def _finish(
    row: CheckedRow, task: str, references: Sequence[dict[str, Any]], speakers: _Speakers, config: EncodeConfig
) -> TaskRow:
    """The row with its conversation, which has the file names of recordings but no paths of this machine."""
    named = {"id": row["id"], "text": row["text"], "scene": row["scene"], "audio": row["name"]}
    described = [reference | {"ref_audio": reference["name"]} for reference in references]
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
        "clips": [*(reference["clip"] for reference in references), row["own"]],
        "ref_texts": [reference["ref_text"] for reference in references],
        "turn_speakers": _turn_speakers(row) if task in DIALOGUE_TASKS else [],
    }


def _turn_speakers(row: CheckedRow) -> list[str | None]:
    """The speaker of each turn of a dialogue; None for a tag whose speaker is unknown."""
    speaker_of = {tag: speaker for speaker, tag in row["tags"].items()}
    return [speaker_of.get(tag) for tag in SPEAKER_TAG.findall(row["text"])]


def _reject(corpus: Corpus, row: CheckedRow, task: str, reject: Reject) -> None:
    corpus.rejects.append(replace(reject, task=task, columns={column: row[column] for column in REJECT_COLUMNS}))
