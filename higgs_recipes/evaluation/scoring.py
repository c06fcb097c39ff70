"""Score clips: words with an ASR model, voices with a speaker model; each score has an interval and n."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.speaker import SpeakerModel
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.evaluation.clip_judgments import SpeakerCentroids, Transcription, judge_clips
from higgs_recipes.evaluation.intervals import rate_interval
from higgs_recipes.evaluation.protocol import describe_protocol
from higgs_recipes.evaluation.scores import (
    BOOTSTRAP_SEED,
    corpus_rate,
    has_all_turns,
    indexes_by_value,
    make_score,
    mean_score,
    share_score,
    transcript_fields,
    turn_entry,
)
from higgs_recipes.metrics_schema import GROUPS
from higgs_recipes.normalizers import TextRule


UNNAMED_SPEAKER = ""  # of all single-speaker rows, if no row names a speaker


@dataclass(frozen=True)
class SpokenClip:
    """A clip of a system.

    Attributes:
        waveform: (N,).
        stopped: whether its generation stopped by itself; None for a clip that was not generated.
        codes: (T, C), of a clip that was generated.
    """

    waveform: Tensor
    stopped: bool | None = None
    codes: Tensor | None = None

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
    rules: Sequence[TextRule],
) -> dict[str, Any]:
    """Compute the fields rows, by_speaker, by_task, by_language, languages, n, skipped, clips and protocol of
    metrics.json.

    A score that cannot be computed is None and not counted in n: WER if the normalized text has no words, similarity
    if the clip is a dialogue, has no voice, or its speaker has no other recording. If no row names a speaker, the
    single-speaker rows are compared as those of one speaker.

    Args:
        rows: `id`, `text`, `speaker` (None if unknown), `task`, `turn_speakers` (the speaker of each turn; empty
            unless the row is a dialogue) and `seed` of each text.
        clips: for "real", and any of the other `SYSTEMS`, one clip per row.
        rules: language, normalizer and unit of each text.

    Raises:
        InputError: as `judge_clips`.
    """
    is_unnamed_speaker = all(row["speaker"] is None and not any(row["turn_speakers"]) for row in rows)
    compared = [row | {"speaker": UNNAMED_SPEAKER} for row in rows] if is_unnamed_speaker else rows
    judged = {}
    for system, system_clips in clips.items():
        assert len(system_clips) == len(rows), (system, len(system_clips), len(rows))
        judged[system] = judge_clips(
            compared,
            [clip.waveform for clip in system_clips],
            asr_model=asr_model,
            speaker_model=speaker_model,
            rules=rules,
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
                is_generated=system not in ("real", "codec"),
                has_other_speakers=len(centroids.speakers) > 1,
            )
            for system, system_clips in scored.items()
        }

    scores = summary(range(len(rows)))
    rows = [row | {"language": rule.language} for row, rule in zip(rows, rules, strict=True)]
    grouped = {
        field: {value: summary(indexes) for value, indexes in _groups(rows, column=column).items()}
        for field, column in GROUPS.items()
    }
    details = [{name: row[name] for name in ("id", "text", "speaker", "language", "task", "seed")} for row in rows]
    for system, system_clips in scored.items():
        for index, clip in enumerate(system_clips):
            # Numbered: a row's id can be any text, so it is not used in a file name.
            details[index][system] = {"wav": f"samples/{index:04d}_{system}.wav"} | _detail(clip)
    # Depends only on the texts, so it is the same for all systems.
    skipped = sum(transcription.word_errors.skipped for transcription in judged["real"])
    languages = count_languages(rules)
    return {
        "rows": scores,
        **grouped,
        "languages": languages,
        "n": len(rows) - skipped,
        "skipped": skipped,
        "clips": details,
        "protocol": describe_protocol(scores["real"], languages=languages, is_unnamed_speaker=is_unnamed_speaker),
    }


def count_languages(rules: Sequence[TextRule]) -> dict[str, dict[str, Any]]:
    """The normalizer, the unit and the number of texts of each language, sorted by code."""
    counts = Counter(rule.language for rule in rules)
    rule_of = {rule.language: rule for rule in rules}
    return {
        code: {"normalizer": rule_of[code].name, "unit": rule_of[code].unit, "n": n}
        for code, n in sorted(counts.items())
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
    return indexes_by_value([None if column == "speaker" and row["turn_speakers"] else row[column] for row in rows])


def _scores(
    clips: Sequence[_ScoredClip], *, is_generated: bool, has_other_speakers: bool
) -> dict[str, dict[str, Any]]:
    """The scores of one system on some rows, by metric."""
    singles = [clip for clip in clips if not clip.is_dialogue]
    dialogues = [clip for clip in clips if clip.is_dialogue]
    similarities = [None if clip.is_dialogue else clip.similarities[0] for clip in clips]
    scores = {
        "wer": corpus_rate([clip.transcription.word_errors for clip in clips]),
        "cer": corpus_rate([clip.transcription.character_errors for clip in clips]),
        "similarity": mean_score(similarities, low=-1.0, high=1.0),
    }
    if is_generated:
        scores["stop_rate"] = share_score([bool(clip.clip.stopped) for clip in clips])
        scores["duration_ratio"] = mean_score([clip.duration_ratio for clip in clips], low=0.0, high=math.inf)
    if has_other_speakers and singles:
        own_voice = [clip.is_own_voice for clip in singles]
        scores["nearest_speaker"] = share_score([is_own[0] if is_own else None for is_own in own_voice])
    if dialogues:
        scores["turns_in_order"] = share_score([has_all_turns(clip.transcription.segments) for clip in dialogues])
        scores["turn_voice"] = _turn_voice(dialogues)
    return scores


def _turn_voice(dialogues: Sequence[_ScoredClip]) -> dict[str, Any]:
    """The share of turns closest to their own speaker, with the number of turns in each state that is not scored."""
    counts = [(sum(clip.is_own_voice), len(clip.is_own_voice)) for clip in dialogues]
    num_own, num_compared = (sum(column) for column in zip(*counts, strict=True))
    segments = [segment for clip in dialogues for segment in clip.transcription.segments]
    states = {
        state: sum(segment.state == state for segment in segments)
        for state in ("empty", "not_found", "too_short", "no_voice")
    }
    interval = rate_interval(counts, seed=BOOTSTRAP_SEED, high=1.0)
    value = num_own / num_compared if num_compared else None
    return make_score(value, interval, n=num_compared, skipped=len(segments) - num_compared) | states


def _detail(clip: _ScoredClip) -> dict[str, Any]:
    """The entry of one clip in metrics.json."""
    transcription = clip.transcription
    turns = zip(transcription.segments, clip.similarities, clip.nearest, strict=True)
    return {
        **transcript_fields(transcription, transcription.word_errors),
        "similarity": None if clip.is_dialogue else clip.similarities[0],
        "nearest_speaker": None if clip.is_dialogue else clip.nearest[0],
        "stopped": clip.clip.stopped,
        "seconds": clip.clip.seconds,
        "turns": [turn_entry(segment, similarity=own, nearest=nearest) for segment, own, nearest in turns]
        if clip.is_dialogue
        else [],
    }
