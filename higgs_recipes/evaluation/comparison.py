"""Compare the fine-tuned with the base model on the same texts and seeds: paired differences, and changed codes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from higgs_recipes.delay import share_of_equal_codes
from higgs_recipes.evaluation.intervals import difference_interval
from higgs_recipes.evaluation.scores import BOOTSTRAP_SEED
from higgs_recipes.metrics_schema import METRICS


BASE, FINETUNED = "base", "finetuned"

Clip = Mapping[str, Any]  # the entry of a clip in metrics.json
# (value, weight) of a clip, so that a score over all texts is sum(value) / sum(weight); None if it has no score.
_Term = Callable[[Clip, Clip], tuple[float, float] | None]


def _rate(edits: str, words: str) -> _Term:
    return lambda clip, real: (clip[edits], clip[words]) if clip[words] else None


def _mean(field: str) -> _Term:
    return lambda clip, real: None if clip[field] is None else (float(clip[field]), 1.0)


_TERMS: dict[str, _Term] = {
    "wer_macro": _mean("wer"),
    "wer": _rate("edits", "words"),
    "cer": _rate("character_edits", "characters"),
    "wer_above_50": lambda clip, real: None if clip["wer"] is None else (float(clip["wer"] > 0.5), 1.0),
    "similarity": _mean("similarity"),
    "prompt_similarity": _mean("similarity"),
    "emotion_similarity": _mean("similarity"),
    "dialogue_voices": _mean("dialogue_voices"),
    "intra_speaker": _mean("intra_speaker"),
    "inter_speaker": _mean("inter_speaker"),
    "stop_rate": _mean("stopped"),
    "duration_ratio": lambda clip, real: (clip["seconds"], real["seconds"]),
}


def compare_models(rows: Mapping[str, Mapping[str, Any]], clips: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The differences fine-tuned - base of the metrics that both have; None if only one was evaluated.

    Args:
        rows: the field `rows` of metrics.json.
        clips: its field `clips`.

    Returns:
        metric -> {"value", "low", "high", "note", "n", "verdict"}, over the texts that both have a score of.
    """
    if BASE not in rows or FINETUNED not in rows:
        return None
    metrics = [metric for metric in _TERMS if metric in rows[BASE] and metric in rows[FINETUNED]]
    if "real" not in rows:
        metrics = [metric for metric in metrics if metric != "duration_ratio"]
    return {metric: _difference(metric, clips) for metric in metrics}


def _difference(metric: str, clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # The mean over clips of generated / real, as `duration_ratio` is.
    is_mean = metric == "duration_ratio"
    pairs = []
    for clip in clips:
        real = clip["real"] if "real" in clip else clip[BASE]
        base, finetuned = _TERMS[metric](clip[BASE], real), _TERMS[metric](clip[FINETUNED], real)
        if base is not None and finetuned is not None:
            difference, weight = finetuned[0] - base[0], base[1]
            pairs.append((difference / weight, 1.0) if is_mean else (difference, weight))
    return paired_difference(pairs, better=METRICS[metric].better)


def paired_difference(pairs: Sequence[tuple[float, float]], *, better: str | None) -> dict[str, Any]:
    """The record of a paired difference.

    Args:
        pairs: (difference, weight) of each text that both systems have a score of.
        better: as of `Metric`.

    >>> paired_difference([(-1, 10), (-2, 10)] * 10, better="lower")["verdict"]
    'better'
    """
    weight = sum(weight for _, weight in pairs)
    value = sum(difference for difference, _ in pairs) / weight if weight else None
    interval = difference_interval(pairs, seed=BOOTSTRAP_SEED)
    record = {"value": value, **asdict(interval), "n": len(pairs)}
    return record | {"verdict": _verdict(record, better=better)}


def _verdict(difference: Mapping[str, Any], *, better: str | None) -> str:
    """What the interval shows, in words."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "no difference shown" if difference["value"] == 0 else "too few texts to tell"
    if low <= 0 <= high:
        return "no difference shown"
    direction = "higher" if low > 0 else "lower"
    if better is None:
        return direction
    return "better" if direction == better else "worse"


def compare_codes(base: Sequence[Tensor], finetuned: Sequence[Tensor]) -> dict[str, Any]:
    """How far the codes of two models differ on the same texts and seeds.

    Args:
        base, finetuned: codes (T_i, C) of each text.

    Returns:
        `changed`: mean over texts of the share of codes that differ, where frames that only the longer clip has count
        as different; `identical`: number of texts with equal codes; `n`: number of texts.
    """
    shares = [1 - share_of_equal_codes(one, other) for one, other in zip(base, finetuned, strict=True)]
    return {"changed": sum(shares) / len(shares), "identical": shares.count(0.0), "n": len(shares)}


def no_effect_warning(codes: Mapping[str, Any] | None) -> str | None:
    """The warning of a report if the fine-tuned model speaks exactly as the base model does."""
    if codes is None or codes["identical"] < codes["n"]:
        return None
    return (
        f"The fine-tuning has no effect: on all {codes['n']} texts the base and the fine-tuned model generated the "
        "same codes from the same seeds. Check that the adapter is the trained one, that its weights are not all "
        "zero, and that it was trained from this base model."
    )


def describe_codes(codes: Mapping[str, Any]) -> str:
    """`compare_codes` in words.

    >>> describe_codes({"changed": 0.875, "identical": 1, "n": 20})
    '87.5 % of the codes differ between base and fine-tuned model on the same seeds; 1 of 20 clips is identical'
    """
    verb = "is" if codes["identical"] == 1 else "are"
    return (
        f"{100 * codes['changed']:.1f} % of the codes differ between base and fine-tuned model on the same seeds; "
        f"{codes['identical']} of {codes['n']} clips {verb} identical"
    )
