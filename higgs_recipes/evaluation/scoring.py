"""Waveforms and texts -> scores: words by an ASR model, voices by a speaker model, each with its interval and n."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.speaker import SpeakerModel
from higgs_recipes.audio.word_errors import WordErrors, bootstrap_interval
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.evaluation.clip_judgments import MIN_TURN_SECONDS, Part, SpeakerCentroids, Transcription, hear
from higgs_recipes.evaluation.turn_alignment import FOUND_SHARE


PROTOCOL = (
    "fine-tuned voice: every held-out text is spoken once, row i with seed + i; WER and CER are corpus rates (edits "
    "of all texts over their words or characters); similarity is the cosine to the centroid of the speaker's other "
    "held-out recordings (never the row's own), mean over clips; duration ratio is generated over real length, mean "
    "over clips; intervals are 95 % percentile bootstraps over the texts (1,000 resamples)"
)
PROTOCOL_OF = {  # where a corpus has what is measured
    "nearest_speaker": (
        "nearest speaker: the share of single speakers' clips whose cosine to their own speaker's centroid is larger "
        "than to the centroid of any other speaker of the split, the row's own recording left out of both"
    ),
    "turns_in_order": (
        "dialogues: words are decoded with their times, and WER is of the whole text without its tags; the words, "
        "normalized one by one, are aligned with the text's by fewest edits, and a turn is found where at least "
        f"{FOUND_SHARE:.0%} of its words are heard right; turns in order is the share of dialogues whose every turn "
        "is found, which an alignment leaves in order"
    ),
    "turn_voice": (
        "turn voice: a found turn is cut from the first to the last of its words heard right, and the measure is the "
        "share of turns nearer to their own speaker's centroid than to that of any other speaker of the dialogue; "
        f"turns below {MIN_TURN_SECONDS:g} s, not found, or without a voice to compare are counted and not judged; "
        "the interval draws dialogues; the turns of recorded dialogues, cut alike, are recordings of their speakers"
    ),
}
BOOTSTRAP_SEED = 0
GROUPS = {"by_speaker": "speaker", "by_task": "task"}  # field of metrics.json to the column of the rows


@dataclass(frozen=True)
class Clip:
    """A waveform (N,) and whether its generation ended by itself; None where nothing was generated."""

    waveform: Tensor
    stopped: bool | None = None

    @property
    def seconds(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


@dataclass(frozen=True)
class _Verdict:
    """One clip with all that is scored in it: `nearest` whose voice it is nearest to, by part as the others."""

    clip: Clip
    heard: Transcription
    is_dialogue: bool
    similarities: list[float | None]
    nearest: list[str | None]
    duration_ratio: float

    @property
    def is_in_order(self) -> bool:
        return all(part.span is not None for part in self.heard.parts)

    @property
    def judged_turns(self) -> list[bool]:
        """Of the turns that could be judged, whether each is nearest to its own speaker."""
        pairs = zip(self.heard.parts, self.nearest, strict=True)
        return [part.speaker == nearest for part, nearest in pairs if nearest is not None]


def score_clips(
    rows: Sequence[Mapping[str, Any]],
    clips: Mapping[str, Sequence[Clip]],
    *,
    asr_model: ASRModel,
    speaker_model: SpeakerModel,
    normalizer: str,
) -> dict[str, Any]:
    """The fields rows, by_speaker, by_task, n, skipped, clips and protocol of metrics.json.

    Args:
        rows: of each text `id`, `text` (what is said), `speaker` (None if unknown), `task`, `turn_speakers` (who
            speaks each turn of a dialogue; empty where it is none) and `seed`.
        clips: for "real", and any of "codec", "base" and "finetuned", a clip for each row.

    A score that cannot be had is None and not in the row's n: WER where the text holds no word once normalized,
    similarity where the clip is a dialogue, holds no voice or its speaker has no other recording.
    """
    heard = {}
    for name, row_clips in clips.items():
        assert len(row_clips) == len(rows), (name, len(row_clips), len(rows))
        waveforms = [clip.waveform for clip in row_clips]
        heard[name] = hear(rows, waveforms, asr_model=asr_model, speaker_model=speaker_model, normalizer=normalizer)
    voices = SpeakerCentroids(heard["real"])
    verdicts = {
        name: [
            _judge(index, row, clips[name][index], heard[name][index], voices, real=clips["real"][index])
            for index, row in enumerate(rows)
        ]
        for name in clips
    }
    scored = {"rows": _summary(verdicts, range(len(rows)), voices)} | {
        field: _grouped(verdicts, rows, voices, column=column) for field, column in GROUPS.items()
    }
    details = [{name: row[name] for name in ("id", "text", "speaker", "task", "seed")} for row in rows]
    for name in clips:
        for index, verdict in enumerate(verdicts[name]):
            # By number: a row's id is anybody's text, and no file name.
            details[index][name] = {"wav": f"samples/{index:04d}_{name}.wav"} | _detail(verdict)
    skipped = sum(each.words.skipped for each in heard["real"])  # by the texts alone, so the same in every row
    measured = [PROTOCOL, *(text for name, text in PROTOCOL_OF.items() if name in scored["rows"]["real"])]
    return scored | {"n": len(rows) - skipped, "skipped": skipped, "clips": details, "protocol": "; ".join(measured)}


def _judge(
    index: int, row: Mapping[str, Any], clip: Clip, heard: Transcription, voices: SpeakerCentroids, *, real: Clip
) -> _Verdict:
    speakers = row["turn_speakers"] or voices.speakers
    return _Verdict(
        clip=clip,
        heard=heard,
        is_dialogue=bool(row["turn_speakers"]),
        similarities=[voices.similarity(part, without=index) for part in heard.parts],
        nearest=[voices.nearest(part, speakers, without=index) for part in heard.parts],
        duration_ratio=clip.seconds / real.seconds,
    )


def _summary(
    verdicts: Mapping[str, Sequence[_Verdict]], indexes: Sequence[int], voices: SpeakerCentroids
) -> dict[str, dict[str, Any]]:
    """The scores of each row of the report on these texts."""
    summary = {}
    for name, of_row in verdicts.items():
        chosen = [of_row[index] for index in indexes]
        singles = [each for each in chosen if not each.is_dialogue]
        dialogues = [each for each in chosen if each.is_dialogue]
        scores = {
            "wer": corpus_rate([each.heard.words for each in chosen]),
            "cer": corpus_rate([each.heard.characters for each in chosen]),
            "similarity": _mean([None if each.is_dialogue else each.similarities[0] for each in chosen]),
        }
        if name not in ("real", "codec"):
            scores["stop_rate"] = _mean([float(bool(each.clip.stopped)) for each in chosen])
            scores["duration_ratio"] = _mean([each.duration_ratio for each in chosen])
        if len(voices.speakers) > 1 and singles:
            judged = [each.judged_turns for each in singles]
            scores["nearest_speaker"] = _mean([float(turns[0]) if turns else None for turns in judged])
        if dialogues:
            scores["turns_in_order"] = _mean([float(each.is_in_order) for each in dialogues])
            scores["turn_voice"] = _turn_voice(dialogues)
        summary[name] = scores
    return summary


def _turn_voice(dialogues: Sequence[_Verdict]) -> dict[str, Any]:
    judged = [(sum(each.judged_turns), len(each.judged_turns)) for each in dialogues]
    right, num_judged = (sum(column) for column in zip(*judged, strict=True))
    parts = [part for each in dialogues for part in each.heard.parts]
    states = {state: sum(part.state == state for part in parts) for state in ("not_found", "too_short", "no_voice")}
    interval = bootstrap_interval(judged, seed=BOOTSTRAP_SEED)
    value = right / num_judged if num_judged else None
    return _score(value, interval, n=num_judged, skipped=len(parts) - num_judged) | states


def _grouped(
    verdicts: Mapping[str, Sequence[_Verdict]],
    rows: Sequence[Mapping[str, Any]],
    voices: SpeakerCentroids,
    *,
    column: str,
) -> dict[str, dict[str, Any]]:
    """A summary for each value of a column; none where it has not two. A dialogue is no one speaker's."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row[column] is not None and not (column == "speaker" and row["turn_speakers"]):
            members[row[column]].append(index)
    if len(members) < 2:
        return {}
    return {value: _summary(verdicts, members[value], voices) for value in sorted(members)}


def _detail(verdict: _Verdict) -> dict[str, Any]:
    heard = verdict.heard
    detail = {
        "transcript": heard.transcript,
        "wer": heard.words.rate,
        "similarity": None if verdict.is_dialogue else verdict.similarities[0],
        "nearest_speaker": None if verdict.is_dialogue else verdict.nearest[0],
        "stopped": verdict.clip.stopped,
        "seconds": verdict.clip.seconds,
    }
    turns = zip(heard.parts, verdict.similarities, verdict.nearest, strict=True)
    return detail | {"turns": [_turn(*each) for each in turns if verdict.is_dialogue]}


def _turn(part: Part, similarity: float | None, nearest: str | None) -> dict[str, Any]:
    return {
        "speaker": part.speaker,
        "span": None if part.span is None else list(part.span),
        "state": part.state,
        "similarity": similarity,
        "nearest_speaker": nearest,
    }


def corpus_rate(errors: Sequence[WordErrors]) -> dict[str, Any]:
    """The error rate of all texts together: value, its interval from low to high, n and what was skipped."""
    total = sum(errors, WordErrors(0, 0))
    interval = bootstrap_interval([(each.edits, each.words) for each in errors], seed=BOOTSTRAP_SEED)
    return _score(total.rate, interval, n=len(errors) - total.skipped, skipped=total.skipped)


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    interval = bootstrap_interval(known, seed=BOOTSTRAP_SEED)
    value = sum(known) / len(known) if known else None
    return _score(value, interval, n=len(known), skipped=len(values) - len(known))


def _score(value: float | None, interval: tuple[float, float] | None, *, n: int, skipped: int) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high, "n": n, "skipped": skipped}
