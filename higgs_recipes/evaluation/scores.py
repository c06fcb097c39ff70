"""Scores of metrics.json: a value with its 95 % interval, n, and how many clips have no score."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from higgs_recipes.audio.word_errors import ErrorCounts
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
