"""The sentences of a report: its title, summary, warnings and notes."""

from collections.abc import Mapping
from typing import Any

from higgs_recipes.metrics_schema import (
    METRICS,
    SYSTEMS,
    held_out_warning,
    is_held_out,
    languages_in_characters,
    no_effect_warning,
    unit_note,
)


UNTRAINED = (
    "The base model is untrained: its weights are random, so its output is not speech. This report only shows that "
    "the pipeline runs from text to scores; only the scores of the real recordings are meaningful."
)
MAX_PLAYED_TEXTS = 24  # texts whose audio is embedded in the page, at 50 kB per second; the rest is in samples/


def systems_of(metrics: Mapping[str, Any]) -> list[str]:
    """The systems that were evaluated."""
    return [key for key in SYSTEMS if key in metrics["rows"]]


def title(metrics: Mapping[str, Any]) -> str:
    """The title of the page: the benchmark, if it is one, and the model."""
    model = metrics["adapter"] or metrics["base_model"]
    return f"Evaluation of {model}" if metrics["benchmark"] is None else f"{metrics['benchmark']['name']}: {model}"


def warnings(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the scores."""
    warnings = [
        UNTRAINED if metrics["untrained_base"] else None,
        held_out_warning(metrics),
        no_effect_warning(metrics["codes"]),
        *(metrics["benchmark"]["warnings"] if metrics["benchmark"] else []),
    ]
    return [warning for warning in warnings if warning]


def summary(metrics: Mapping[str, Any]) -> str:
    """The main score of every system, in a sentence."""
    if metrics["benchmark"] is not None:
        return _benchmark_summary(metrics, metrics["benchmark"]["headline"])
    rates = [
        f"{SYSTEMS[key]} {100 * metrics['rows'][key]['wer']['value']:.1f}\u00a0%"
        for key in reversed(systems_of(metrics))
        if metrics["rows"][key]["wer"]["value"] is not None
    ]
    if not rates:
        return "No text could be scored: none has words after normalization."
    num_in_characters = len(languages_in_characters(metrics["languages"]))
    if not num_in_characters:
        rate = "Word error rate"
    elif num_in_characters == len(metrics["languages"]):
        rate = "Character error rate"
    else:
        rate = "Error rate, in words or characters by language,"
    texts = "held-out texts" if is_held_out(metrics) else "texts"
    return f"{rate} on {metrics['n']} {texts}: {', '.join(rates)}."


def _benchmark_summary(metrics: Mapping[str, Any], headline: str) -> str:
    metric = METRICS[headline]
    scores = {key: metrics["rows"][key][headline] for key in systems_of(metrics) if headline in metrics["rows"][key]}
    shown = [
        f"{SYSTEMS[key]} {metric.factor * score['value']:.2f}" + ("\u00a0%" if metric.is_share else "")
        for key, score in scores.items()
        if score["value"] is not None
    ]
    return (
        f"{metric.title[:1].upper()}{metric.title[1:]} on {metrics['n']} texts: {', '.join(shown) or 'not measured'}."
    )


def table_note(metrics: Mapping[str, Any]) -> str:
    """What the values of the table of results are."""
    if metrics["benchmark"] is not None:
        return metrics["benchmark"]["note"]
    note = (
        "Each value has its 95 % interval over the texts; n is the number of clips with a score. "
        f"{metrics['n']} texts were scored and {metrics['skipped']} skipped (no words after normalization). Speaker "
        f"similarity ({metrics['speaker_score']}) is the cosine of a clip to the centroid of the same speaker's other "
        "recordings in the split, never the row's own. A clip without a voice, or of a speaker with a single "
        "recording, has no similarity."
    )
    units = unit_note(metrics["languages"])
    if units:
        note += f" {units}."
    if "turn_voice" in metrics["rows"]["real"]:
        note += " A dialogue has no similarity as a whole: its turns are compared, and n counts the turns compared."
    return note


def listen_note(metrics: Mapping[str, Any]) -> str:
    """The sentence over the audio players."""
    note = "All systems on the same texts and seeds, with ASR transcripts. What differs from the text is marked."
    if len(metrics["clips"]) > MAX_PLAYED_TEXTS:
        note += f" The audio of the first {MAX_PLAYED_TEXTS} texts is in this page, the rest in the folder samples/."
    return note
