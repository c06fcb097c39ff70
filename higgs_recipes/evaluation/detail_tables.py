"""The tables of a report besides its scores: published anchors, paired differences, invented transcripts."""

from collections.abc import Mapping
from typing import Any

from higgs_recipes.evaluation.comparison import describe_codes
from higgs_recipes.evaluation.transcript_flags import FLAGS
from higgs_recipes.metrics_schema import METRICS, SYSTEMS


def detail_tables(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables that metrics.json has content for.

    Returns:
        {"key", "title", "head", "lines", "note"} of each; all cells are text.
    """
    tables = [_anchors(metrics), _abilities(metrics), _judgments(metrics), _comparison(metrics), _transcripts(metrics)]
    return [table for table in tables if table]


def _anchors(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """This run's scores next to published ones."""
    benchmark = metrics["benchmark"]
    if benchmark is None or not benchmark["anchors"]:
        return None
    columns = list(benchmark["anchors"][0]["scores"])
    lines = [
        [
            SYSTEMS[system],
            *(_value(scores[name]["value"], name) if name in scores else "–" for name in columns),
            "this run",
        ]
        for system, scores in metrics["rows"].items()
    ]
    lines += [
        [anchor["name"], *(_value(anchor["scores"][name], name) for name in columns), anchor["source"]]
        for anchor in benchmark["anchors"]
    ]
    head = ["", *(METRICS[name].title for name in columns), "source"]
    return {
        "key": "anchors",
        "title": "Published scores",
        "head": head,
        "lines": lines,
        "note": benchmark["anchors_note"],
    }


def _abilities(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    if "abilities" not in metrics:
        return None
    lines = [
        [
            ability,
            METRICS[name].title,
            _value(score["base"], name),
            _value(score["finetuned"], name),
            _difference(score, name),
            _range(score, name),
            str(score["n"]),
            score["verdict"],
        ]
        for ability, scores in metrics["abilities"].items()
        for name, score in scores.items()
    ]
    note = (
        'What the base model could do, before and after. "worse" is what the fine-tuning forgot; "no difference '
        'shown" says that these texts do not show one. Differences and intervals are paired by text.'
    )
    head = ["ability", "metric", "base", "fine-tuned", "difference", "95 % interval", "n", "shown"]
    return {"key": "abilities", "title": "What the fine-tuning forgot", "head": head, "lines": lines, "note": note}


def _judgments(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    if "judge" not in metrics:
        return None
    judge = metrics["judge"]
    fields = ("wins", "ties", "losses", "unparsed", "no_answer")
    lines = [
        [
            SYSTEMS[system],
            *(str(counts[field]) for field in fields),
            _mean(counts["mean_score"]),
            _mean(counts["mean_opponent_score"]),
            "–" if counts["first_wins"] is None else f"{100 * counts['first_wins']:.0f}\u00a0%",
        ]
        for system, counts in judge["systems"].items()
    ]
    note = (
        f"Answers of the judge {judge['model']}. Texts whose answer could not be parsed, or that had none, are left "
        "out of the win rate. Scores are from 0 to 3. Far from 50 %, the last column shows a judge that prefers a "
        "position rather than a clip."
    )
    head = [
        "system",
        "wins",
        "ties",
        "losses",
        "not parsed",
        "no answer",
        "score",
        "opponent's score",
        "first clip wins",
    ]
    return {"key": "judge", "title": "Judgments", "head": head, "lines": lines, "note": note}


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _comparison(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    if metrics["comparison"] is None:
        return None
    lines = [
        [METRICS[name].title, _difference(score, name), _range(score, name), str(score["n"]), score["verdict"]]
        for name, score in metrics["comparison"].items()
    ]
    note = (
        "Fine-tuned minus base model, over the texts that both have a score of; 95 % interval of the difference, "
        'paired by text. "better" and "worse": the interval excludes 0. "no difference shown": it does '
        f"not, which does not show that there is none. {describe_codes(metrics['codes'])}."
    )
    return {
        "key": "comparison",
        "title": "Fine-tuned against base",
        "head": ["metric", "difference", "95 % interval", "n", "shown"],
        "lines": lines,
        "note": note,
    }


def _transcripts(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    flags = metrics["transcript_flags"]
    counts = {system: [of_system[flag] for flag in FLAGS] for system, of_system in flags.items()}
    if not any(map(any, counts.values())):
        return None
    lines = [[SYSTEMS[system], *map(str, counts[system]), str(flags[system]["n"])] for system in counts]
    note = (
        "Clips whose transcript the ASR model probably invented, by cause. They stay in every score: a clip without "
        "intelligible speech is an error. metrics.json names them (flags of each clip)."
    )
    return {
        "key": "transcripts",
        "title": "Invented transcripts",
        "head": ["system", *FLAGS.values(), "clips"],
        "lines": lines,
        "note": note,
    }


def _value(value: float | None, name: str) -> str:
    if value is None:
        return "not measured"
    metric = METRICS[name]
    return f"{metric.factor * value:.{2 if metric.factor == 100 else 3}f}" + ("\u00a0%" if metric.is_share else "")


def _difference(score: Mapping[str, Any], name: str) -> str:
    return "not measured" if score["value"] is None else _signed(score["value"], name)


def _range(score: Mapping[str, Any], name: str) -> str:
    if score["low"] is None or score["high"] is None:
        return f"none: {score['note']}"
    return f"{_signed(score['low'], name)} to {_signed(score['high'], name)}"


def _signed(value: float, name: str) -> str:
    metric = METRICS[name]
    return f"{metric.factor * value:+.{1 if metric.factor == 100 else 3}f}" + (" points" if metric.is_share else "")
