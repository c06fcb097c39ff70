"""Score clips: words with an ASR model, voices with a speaker model; each score has an interval and n."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.speaker import SpeakerModel
from higgs_recipes.audio.word_errors import CER, WER, ErrorRate, bootstrap_interval, utterance_errors
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.evaluation.clip_judgments import (
    MIN_TURN_SECONDS,
    SpeakerCentroids,
    SpeakerSegment,
    Transcription,
    judge_clips,
)
from higgs_recipes.evaluation.turn_alignment import FOUND_SHARE
from higgs_recipes.metrics_schema import GROUPS


PROTOCOL = (
    "fine-tuned voice: each held-out text is generated once, row i with seed + i; WER and CER are corpus rates (edits "
    "in all texts over their words or characters); similarity is the cosine to the centroid of the speaker's other "
    "held-out recordings (never the row's own), mean over clips; duration ratio is generated over real length, mean "
    "over clips; intervals are 95 % percentile bootstraps over the texts (1,000 resamples)"
)
METRIC_PROTOCOLS = {  # of metrics that not every corpus has
    "nearest_speaker": (
        "nearest speaker: the share of single-speaker clips whose cosine to their own speaker's centroid is larger "
        "than to the centroid of any other speaker of the split; the row's own recording is left out of all centroids"
    ),
    "turns_in_order": (
        "dialogues: the transcript has word times, and WER is of the whole text without speaker tags; the words, "
        "normalized one by one, are aligned with the text's words with the fewest edits, and a turn is found if at "
        f"least {FOUND_SHARE:.0%} of its words are matched; turns in order is the share of dialogues in which every "
        "turn is found (an alignment keeps the order)"
    ),
    "turn_voice": (
        "turn voice: a found turn is cut from its first to its last matched word, and the metric is the share of "
        "turns closer to their own speaker's centroid than to that of any other speaker of the dialogue; turns below "
        f"{MIN_TURN_SECONDS:g} s, turns not found and turns without a voice to compare are counted and not scored; "
        "the interval resamples dialogues; the turns of recorded dialogues, cut in the same way, count as recordings "
        "of their speakers"
    ),
}
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class SpokenClip:
    """A waveform (N,), and whether its generation stopped by itself; None for a clip that was not generated."""

    waveform: Tensor
    stopped: bool | None = None

    @property
    def seconds(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


@dataclass(frozen=True)
class _ScoredClip:
    """One clip with its scores.

    Attributes:
        similarities: of each speaker segment to its own speaker.
        nearest: the speaker that each speaker segment is closest to.
        duration_ratio: length over the length of the real recording.
    """

    clip: SpokenClip
    transcription: Transcription
    is_dialogue: bool
    similarities: list[float | None]
    nearest: list[str | None]
    duration_ratio: float

    @property
    def has_all_turns(self) -> bool:
        return all(segment.span is not None for segment in self.transcription.segments)

    @property
    def is_own_voice(self) -> list[bool]:
        """For each speaker segment that can be compared, whether it is closest to its own speaker."""
        pairs = zip(self.transcription.segments, self.nearest, strict=True)
        return [segment.speaker == nearest for segment, nearest in pairs if nearest is not None]


def score_clips(
    rows: Sequence[Mapping[str, Any]],
    clips: Mapping[str, Sequence[SpokenClip]],
    *,
    asr_model: ASRModel,
    speaker_model: SpeakerModel,
    normalizer: str,
) -> dict[str, Any]:
    """Compute the fields rows, by_speaker, by_task, n, skipped, clips and protocol of metrics.json.

    A score that cannot be computed is None and not counted in n: WER if the normalized text has no words, similarity
    if the clip is a dialogue, has no voice, or its speaker has no other recording.

    Args:
        rows: `id`, `text`, `speaker` (None if unknown), `task`, `turn_speakers` (the speaker of each turn; empty
            unless the row is a dialogue) and `seed` of each text.
        clips: for "real", and any of the other `SYSTEMS`, one clip per row.
        normalizer: key of `NORMALIZERS`.

    Raises:
        InputError: as `check_turn_speakers`.
    """
    judged = {}
    for system, system_clips in clips.items():
        assert len(system_clips) == len(rows), (system, len(system_clips), len(rows))
        judged[system] = judge_clips(
            rows,
            [clip.waveform for clip in system_clips],
            asr_model=asr_model,
            speaker_model=speaker_model,
            normalizer=normalizer,
        )
    centroids = SpeakerCentroids(judged["real"])
    scored = {
        system: [
            _scored_clip(index, row, clips[system][index], judged[system][index], centroids, real=clips["real"][index])
            for index, row in enumerate(rows)
        ]
        for system in clips
    }

    def summary(indexes: Sequence[int]) -> dict[str, dict[str, Any]]:
        """The scores of each system on these rows."""
        return {
            system: _scores(
                [system_clips[index] for index in indexes],
                normalizer=normalizer,
                is_generated=system not in ("real", "codec"),
                has_other_speakers=len(centroids.speakers) > 1,
            )
            for system, system_clips in scored.items()
        }

    scores = summary(range(len(rows)))
    grouped = {
        field: {value: summary(indexes) for value, indexes in _groups(rows, column=column).items()}
        for field, column in GROUPS.items()
    }
    details = [{name: row[name] for name in ("id", "text", "speaker", "task", "seed")} for row in rows]
    for system, system_clips in scored.items():
        for index, clip in enumerate(system_clips):
            # Numbered: a row's id can be any text, so it is not used in a file name.
            details[index][system] = {"wav": f"samples/{index:04d}_{system}.wav"} | _detail(clip)
    # Depends only on the texts, so it is the same for all systems.
    skipped = sum(transcription.word_errors.skipped for transcription in judged["real"])
    protocols = [PROTOCOL, *(text for metric, text in METRIC_PROTOCOLS.items() if metric in scores["real"])]
    return {
        "rows": scores,
        **grouped,
        "n": len(rows) - skipped,
        "skipped": skipped,
        "clips": details,
        "protocol": "; ".join(protocols),
    }


def _scored_clip(
    index: int,
    row: Mapping[str, Any],
    clip: SpokenClip,
    transcription: Transcription,
    centroids: SpeakerCentroids,
    *,
    real: SpokenClip,
) -> _ScoredClip:
    speakers = row["turn_speakers"] or centroids.speakers
    return _ScoredClip(
        clip=clip,
        transcription=transcription,
        is_dialogue=bool(row["turn_speakers"]),
        similarities=[centroids.similarity(segment, without=index) for segment in transcription.segments],
        nearest=[centroids.nearest(segment, speakers, without=index) for segment in transcription.segments],
        duration_ratio=clip.seconds / real.seconds,
    )


def _groups(rows: Sequence[Mapping[str, Any]], *, column: str) -> dict[str, list[int]]:
    """The row indexes of each value of a column, sorted; empty if there are fewer than two values.

    A dialogue belongs to no single speaker.
    """
    indexes: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row[column] is not None and not (column == "speaker" and row["turn_speakers"]):
            indexes[row[column]].append(index)
    return dict(sorted(indexes.items())) if len(indexes) > 1 else {}


def _scores(
    clips: Sequence[_ScoredClip], *, normalizer: str, is_generated: bool, has_other_speakers: bool
) -> dict[str, dict[str, Any]]:
    """The scores of one system on some rows, by metric."""
    singles = [clip for clip in clips if not clip.is_dialogue]
    dialogues = [clip for clip in clips if clip.is_dialogue]
    texts = [clip.transcription.text for clip in clips]
    transcripts = [clip.transcription.transcript for clip in clips]
    scores = {
        "wer": corpus_rate(WER(), texts, transcripts, normalizer=normalizer),
        "cer": corpus_rate(CER(), texts, transcripts, normalizer=normalizer),
        "similarity": _mean([None if clip.is_dialogue else clip.similarities[0] for clip in clips]),
    }
    if is_generated:
        scores["stop_rate"] = _mean([float(bool(clip.clip.stopped)) for clip in clips])
        scores["duration_ratio"] = _mean([clip.duration_ratio for clip in clips])
    if has_other_speakers and singles:
        own_voice = [clip.is_own_voice for clip in singles]
        scores["nearest_speaker"] = _mean([float(is_own[0]) if is_own else None for is_own in own_voice])
    if dialogues:
        scores["turns_in_order"] = _mean([float(clip.has_all_turns) for clip in dialogues])
        scores["turn_voice"] = _turn_voice(dialogues)
    return scores


def _turn_voice(dialogues: Sequence[_ScoredClip]) -> dict[str, Any]:
    """The share of turns closest to their own speaker, with the number of turns in each state that is not scored."""
    counts = [(sum(clip.is_own_voice), len(clip.is_own_voice)) for clip in dialogues]
    num_own, num_compared = (sum(column) for column in zip(*counts, strict=True))
    segments = [segment for clip in dialogues for segment in clip.transcription.segments]
    states = {
        state: sum(segment.state == state for segment in segments) for state in ("not_found", "too_short", "no_voice")
    }
    interval = bootstrap_interval(counts, seed=BOOTSTRAP_SEED)
    value = num_own / num_compared if num_compared else None
    return _score(value, interval, n=num_compared, skipped=len(segments) - num_compared) | states


def _detail(clip: _ScoredClip) -> dict[str, Any]:
    """The entry of one clip in metrics.json."""
    transcription = clip.transcription
    turns = zip(transcription.segments, clip.similarities, clip.nearest, strict=True)
    return {
        "transcript": transcription.transcript,
        "wer": transcription.word_errors.rate,
        "similarity": None if clip.is_dialogue else clip.similarities[0],
        "nearest_speaker": None if clip.is_dialogue else clip.nearest[0],
        "stopped": clip.clip.stopped,
        "seconds": clip.clip.seconds,
        "turns": [_turn_detail(*turn) for turn in turns] if clip.is_dialogue else [],
    }


def _turn_detail(segment: SpeakerSegment, similarity: float | None, nearest: str | None) -> dict[str, Any]:
    return {
        "speaker": segment.speaker,
        "span": None if segment.span is None else list(segment.span),
        "state": segment.state,
        "similarity": similarity,
        "nearest_speaker": nearest,
    }


def corpus_rate(
    metric: ErrorRate, references: Sequence[str], predictions: Sequence[str], *, normalizer: str
) -> dict[str, Any]:
    """Compute the error rate over all texts: value, interval (low, high), number of scored and of skipped texts."""
    total = metric.compute(references=references, predictions=predictions, normalizer=normalizer)
    errors = utterance_errors(references, predictions, normalizer=normalizer, unit=metric.unit)
    interval = bootstrap_interval([(count.edits, count.length) for count in errors], seed=BOOTSTRAP_SEED)
    skipped = total["skipped"]
    return _score(total[metric.rate_name], interval, n=len(references) - skipped, skipped=skipped)


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    interval = bootstrap_interval(known, seed=BOOTSTRAP_SEED)
    value = sum(known) / len(known) if known else None
    return _score(value, interval, n=len(known), skipped=len(values) - len(known))


def _score(value: float | None, interval: tuple[float, float] | None, *, n: int, skipped: int) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high, "n": n, "skipped": skipped}
