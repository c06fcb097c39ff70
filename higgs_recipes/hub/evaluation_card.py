"""Evaluation scores in a model card: the model-index of its metadata, and its Evaluation section."""

import html
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from huggingface_hub import EvalResult, RepoCard, constants
from huggingface_hub.repocard_data import eval_results_to_model_index

from higgs_recipes.errors import InputError, shown
from higgs_recipes.hub.markdown import facts, literal, table
from higgs_recipes.hub.public import is_hub_id, public_name, with_revision
from higgs_recipes.metrics_schema import (
    METRICS,
    SYSTEMS,
    describe_languages,
    held_out_warning,
    is_held_out,
    languages_in_characters,
    metrics_of,
    no_effect_warning,
)
from higgs_recipes.records import Fields


UNTRAINED = "> **The base model is untrained: its weights are random. Its output is not speech.**\n"
END = "<!-- end of evaluation -->"

EVALUATION_FOLDER = "evaluation"  # folder of the report in a model's repository or folder
_BENCHMARK = re.compile(r"[a-z0-9_-]+")
PLAYED_SYSTEMS = ("real", "base", "finetuned")
MAX_PLAYED_TEXTS = 3


def report_folder(metrics: Mapping[str, Any]) -> str:
    """The folder of a report in a model's repository: each benchmark has its own next to the fine-tuned voice's.

    Raises:
        InputError: a field of metrics.json is missing, or the id of the benchmark is no name of a folder.
    """
    benchmark = Fields(metrics, "metrics.json")["benchmark"] if "benchmark" in metrics else None
    if benchmark is None:
        return EVALUATION_FOLDER
    name = Fields(benchmark, "metrics.json: benchmark")["id"]
    if not isinstance(name, str) or not _BENCHMARK.fullmatch(name):
        raise InputError(f"metrics.json: benchmark.id is {shown(name)}: use small letters, digits, - and _")
    return f"{EVALUATION_FOLDER}/{name}"


def _begin(folder: str) -> str:
    return f"<!-- {folder}: written from metrics.json -->"


def update_evaluation(card: str, metrics: Mapping[str, Any], *, name: str, folder: str = EVALUATION_FOLDER) -> str:
    """Write an evaluation into a card: its model-index and its Evaluation section; the rest of the card is kept.

    The Hub reads each score of a model-index as a score of the card's model, so the model-index contains only its row:
    that of the adapter, or without an adapter that of the base model. The Evaluation section shows all rows. Results
    on other datasets are kept.

    Args:
        card: README.md, or "".
        metrics: metrics.json.
        name: Hub id or folder of the model.
        folder: of the report in it; each has a section of its own.

    Raises:
        InputError: a field of metrics.json is missing.
    """
    metrics = Fields(metrics, "metrics.json")
    card = RepoCard(card if re.match(r"\s*---\r?\n", card) else f"---\n{{}}\n---\n{card}")
    ours = _model_index_results(metrics)
    if ours:
        old = [result for entry in card.data.get("model-index", []) for result in entry["results"]]
        kept = [result for result in old if _task_and_dataset(result) != _task_and_dataset(ours[0])]
        card.data["model-index"] = [{"name": public_name(name), "results": kept + ours}]
    section = f"{_begin(folder)}\n{_section(metrics)}{_players(metrics, name, folder)}{END}"
    before, begin, rest = card.text.partition(_begin(folder))
    card.text = before + section + rest.partition(END)[2] if begin else f"{before.rstrip()}\n\n{section}\n"
    return str(card)


def _model_index_results(metrics: Fields) -> list[dict]:
    """The model-index results of the card's model: one result with all measured scores, or none."""
    scores, similarity = metrics["rows"][_own_row(metrics)], metrics["speaker_score"]
    in_characters = languages_in_characters(metrics["languages"])
    types = {
        "wer_macro": ("wer_macro", METRICS["wer_macro"].title),
        "wer": ("wer", f"WER, in characters for {', '.join(in_characters)}" if in_characters else "WER"),
        "cer": ("cer", "CER"),
        "similarity": (similarity, f"Speaker similarity ({similarity})"),
        "prompt_similarity": (similarity, f"Similarity to the prompt ({similarity})"),
    }
    results = [
        EvalResult(
            task_type="text-to-speech",
            task_name="Text to speech",
            dataset_type=public_name(metrics["dataset"]),
            dataset_name=public_name(metrics["dataset"]),
            dataset_split=metrics["split"],
            metric_type=metric_type,
            metric_name=title,
            metric_value=scores[metric]["value"],
        )
        for metric, (metric_type, title) in types.items()
        if metric in scores and scores[metric]["value"] is not None
    ]
    return eval_results_to_model_index("", results)[0]["results"] if results else []


def _own_row(metrics: Fields) -> str:
    """The row of the card's model; a fully fine-tuned model has no adapter and is evaluated as a base model."""
    return "base" if metrics["adapter"] is None else "finetuned"


def _task_and_dataset(result: Mapping[str, Any]) -> tuple[str, str, str | None]:
    return result["task"]["type"], result["dataset"]["type"], result["dataset"].get("split")


def _section(metrics: Fields) -> str:
    rows, titles = metrics["rows"], SYSTEMS | {_own_row(metrics): "this model"}
    columns = metrics_of(rows)
    lines = [
        [title] + [_score(rows[system], metric) for metric in columns]
        for system, title in titles.items()
        if system in rows
    ]
    benchmark = metrics["benchmark"] if "benchmark" in metrics else None
    about = ({"benchmark": benchmark["name"]} if benchmark else {}) | {
        "dataset": public_name(metrics["dataset"]) + (f", split {metrics['split']}" if metrics["split"] else ""),
        "protocol": metrics["protocol"],
        "texts": f"{metrics['n']} scored, {metrics['skipped']} skipped"
        + (", held out" if is_held_out(metrics) else ""),
        "languages": describe_languages(metrics["languages"]),
        "ASR model": with_revision(metrics["asr"], metrics["asr_revision"]),
        "normalizer": metrics["normalizer"],
        "speaker score": metrics["speaker_score"],
        "speaker model": metrics["speaker"] and with_revision(metrics["speaker"], metrics["speaker_revision"]),
        "codec": metrics["codec"],
        "seeds": metrics["seeds"],
        "hardware": metrics["hardware"],
        "commit": metrics["git_commit"],
    }
    warnings = UNTRAINED + "\n" if metrics["untrained_base"] else ""
    no_effect = no_effect_warning(metrics["codes"] if "codes" in metrics else None)
    for warning in [held_out_warning(metrics), *(benchmark["warnings"] if benchmark else []), no_effect]:
        warnings += f"> **{literal(warning)}**\n\n" if warning else ""
    head = ["", *(METRICS[metric].card_title for metric in columns)]
    note = "Brackets: 95 % interval; n: number of scored clips.\n"
    if "comparison" in metrics and metrics["comparison"]:
        note += f"\nAgainst the base model, paired by text: {_differences(metrics['comparison'])}.\n"
    title = f"Evaluation: {literal(benchmark['name'])}" if benchmark else "Evaluation"
    return f"## {title}\n\n{warnings}{table(head, lines)}\n{note}\n{facts(about)}"


def _differences(comparison: Mapping[str, Any]) -> str:
    """The paired differences that have an interval, with what it shows; or that there are none."""
    shown = []
    for metric, score in comparison.items():
        if score["low"] is not None and score["high"] is not None:
            value, low, high = (METRICS[metric].factor * score[field] for field in ("value", "low", "high"))
            shown.append(f"{METRICS[metric].card_title} {value:+.3g} [{low:+.3g}, {high:+.3g}], {score['verdict']}")
    return "; ".join(shown) or "no difference has an interval"


def _players(metrics: Fields, name: str, folder: str) -> str:
    """The first texts with audio players, as one block of HTML, in which texts cannot act as Markdown.

    A card on the Hub needs the full URL of a recording; in a local folder a relative path works.
    """
    titles = SYSTEMS | {_own_row(metrics): "this model"}
    shown = [system for system in PLAYED_SYSTEMS if system in metrics["rows"]]
    root = f"{constants.ENDPOINT}/{name}/resolve/main/{folder}" if is_hub_id(name) else folder
    lines = ["<tr><th>text</th>" + "".join(f"<th>{titles[system]}</th>" for system in shown) + "</tr>"]
    for clip in metrics["clips"][:MAX_PLAYED_TEXTS]:
        cells = [html.escape(" ".join(clip["text"].split()))]
        for system in shown:
            wav = clip[system]["wav"]
            source = html.escape(f"{root}/{quote(wav or '')}")
            cells.append(f'<audio controls src="{source}"></audio>' if wav else "missing")
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n<table>\n" + "\n".join(lines) + "\n</table>\n\n" if len(lines) > 1 else ""


def _score(scores: Mapping[str, Any], metric: str) -> str:
    if metric not in scores or scores[metric]["value"] is None:
        return "not measured"
    score, factor = scores[metric], METRICS[metric].factor
    value = f"{score['value'] * factor:.3g}"
    if score["low"] is None or score["high"] is None:
        return f"{value}, n={score['n']}, no interval: {score['note']}"
    return f"{value} [{score['low'] * factor:.3g}, {score['high'] * factor:.3g}], n={score['n']}"
