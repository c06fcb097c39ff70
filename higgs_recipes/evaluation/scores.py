"""Scores of metrics.json: a value with its 95 % interval, n, and how many clips have no score; and clips' entries."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from higgs_recipes.audio.word_errors import ErrorCounts
from higgs_recipes.evaluation.clip_judgments import SpeakerSegment, Transcription
from higgs_recipes.evaluation.intervals import Interval, mean_interval, rate_interval, share_interval


BOOTSTRAP_SEED = 0


def corpus_rate(errors: Sequence[ErrorCounts]) -> dict[str, Any]:
    """Compute the error rate over all texts: value, interval (low, high), number of scored and of skipped texts.

    Args:
        errors: of each text, as from `utterance_errors`.
    """
    interval = rate_interval([(count.edits, count.length) for count in errors], seed=BOOTSTRAP_SEED)
    total = sum(errors, ErrorCounts(0, 0))
    return make_score(total.rate, interval, n=len(errors) - total.skipped, skipped=total.skipped)


def mean_score(values: Sequence[float | None], *, low: float, high: float) -> dict[str, Any]:
    """The mean of the known values, which are between `low` and `high`; None is a clip without the score."""
    known = [value for value in values if value is not None]
    interval = mean_interval(known, seed=BOOTSTRAP_SEED, low=low, high=high)
    value = sum(known) / len(known) if known else None
    return make_score(value, interval, n=len(known), skipped=len(values) - len(known))


def share_score(outcomes: Sequence[bool | None]) -> dict[str, Any]:
    """The share of the known outcomes that are true; None is a clip without the score."""
    known = [outcome for outcome in outcomes if outcome is not None]
    value = sum(known) / len(known) if known else None
    return make_score(value, share_interval(sum(known), len(known)), n=len(known), skipped=len(outcomes) - len(known))


def make_score(value: float | None, interval: Interval, *, n: int, skipped: int) -> dict[str, Any]:
    """The record of a score."""
    return {"value": value, **asdict(interval), "n": n, "skipped": skipped}


def error_fields(words: ErrorCounts, characters: ErrorCounts) -> dict[str, int]:
    """The edits and lengths of one clip, as metrics.json has them: sums over clips give the rates of all texts."""
    return {
        "edits": words.edits,
        "words": words.length,
        "character_edits": characters.edits,
        "characters": characters.length,
    }


def indexes_by_value(values: Sequence[str | None]) -> dict[str, list[int]]:
    """The indexes of each value, sorted by value, without None; empty if there are fewer than two values.

    >>> indexes_by_value(["b", "a", None, "b"]), indexes_by_value(["a", "a"])
    ({'a': [1], 'b': [0, 3]}, {})
    """
    indexes: dict[str, list[int]] = defaultdict(list)
    for index, value in enumerate(values):
        if value is not None:
            indexes[value].append(index)
    return dict(sorted(indexes.items())) if len(indexes) > 1 else {}


def has_all_turns(segments: Sequence[SpeakerSegment]) -> bool | None:
    """Whether every turn that has words was found; None if none has words."""
    found = [segment.span is not None for segment in segments if segment.state != "empty"]
    return all(found) if found else None


def transcript_fields(transcription: Transcription, words: ErrorCounts) -> dict[str, Any]:
    """The fields of a clip's entry in metrics.json on its words.

    Args:
        words: the word errors, which of a missing clip are not those of its transcript.
    """
    return {
        "transcript": transcription.transcript,
        "wer": words.rate,
        **error_fields(words, transcription.character_errors),
    }


def turn_entry(
    segment: SpeakerSegment, *, similarity: float | None = None, nearest: str | None = None
) -> dict[str, Any]:
    """The entry of one turn of a dialogue in metrics.json."""
    return {
        "speaker": segment.speaker,
        "span": None if segment.span is None else list(segment.span),
        "state": segment.state,
        "similarity": similarity,
        "nearest_speaker": nearest,
    }
