"""An evaluation as a folder: metrics.json, report.md, samples/*.wav, and report.html, one file that needs no network.

Texts, transcripts and names come from anywhere: whatever is shown is escaped, and no file is named by them.
"""

import base64
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from torch import Tensor

from higgs_recipes.audio import wav_bytes
from higgs_recipes.files import staged_folder
from higgs_recipes.plots import training_plots
from higgs_recipes.records import with_revision
from higgs_recipes.report_page import PAGE


SYSTEMS = {
    "real": "real recordings",
    "codec": "codec resynthesis",
    "base": "base model",
    "finetuned": "fine-tuned model",
}
METRICS = {  # field of a row: its column, and what a share is multiplied by
    "wer": ("word errors (WER)", 100),
    "cer": ("character errors (CER)", 100),
    "similarity": ("speaker similarity", 1),
    "stop_rate": ("stopped by itself", 100),
    "duration_ratio": ("duration, generated / real", 1),
}
UNTRAINED = (
    "The base model is untrained: its weights are random, so nothing that it says is speech. This report shows that "
    "the chain runs from text to scores; only the row of the real recordings is a measurement."
)
NO_RUN = "There are no training curves: no run.json lies beside what was evaluated."
MAX_PLAYED_TEXTS = 24  # whose players lie in the page, 50 kB for each second of audio; the rest are files in samples/


def write_report(
    metrics: Mapping[str, Any],
    waveforms: Mapping[str, Sequence[Tensor]],
    *,
    run: Mapping[str, Any] | None,
    output_dir: str | Path,
    overwrite: bool = False,
) -> None:
    """Write the whole folder, or nothing.

    Args:
        metrics: metrics.json, as `evaluation.evaluate_model` makes it.
        waveforms: for each of its rows the clips (N_i,), in the order of `metrics["clips"]`.
        run: run.json of the training, if there was one.

    Raises:
        InputError: the folder exists and is not empty, or the disk is full.
    """
    with staged_folder(output_dir, overwrite=overwrite) as folder:
        (folder / "samples").mkdir()
        wavs: dict[str, bytes] = {}
        for row, clips in waveforms.items():
            for clip, waveform in zip(metrics["clips"], clips, strict=True):
                wavs[clip[row]["wav"]] = wav_bytes(waveform)
        for path, wav in wavs.items():
            (folder / path).write_bytes(wav)
        encoded = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "metrics.json").write_text(encoded + "\n", encoding="utf-8")
        (folder / "report.md").write_text(render_markdown(metrics), encoding="utf-8")
        (folder / "report.html").write_text(render_page(metrics, wavs, run=run), encoding="utf-8")


def render_page(metrics: Mapping[str, Any], wavs: Mapping[str, bytes], *, run: Mapping[str, Any] | None) -> str:
    """report.html; `wavs` holds the files that the clips name."""
    page = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    shown = [name for name in SYSTEMS if name in metrics["rows"]]
    log_history = run["log_history"] if run else []
    return page.render(
        title=_title(metrics),
        verdict=_verdict(metrics),
        untrained=UNTRAINED if metrics["untrained_base"] else None,
        columns=[title for title, _ in METRICS.values()],
        table=[{"key": name, "title": SYSTEMS[name], "cells": _cells(metrics, name)} for name in shown],
        table_note=_table_note(metrics),
        listen_note=_listen_note(metrics),
        texts=[_text(clip, shown, _sources(clip, shown, wavs, index)) for index, clip in enumerate(metrics["clips"])],
        training_note=None if run else NO_RUN,
        plots=training_plots(log_history),
        facts=_facts(metrics, run),
    )


def render_markdown(metrics: Mapping[str, Any]) -> str:
    """report.md: the same table, transcripts and facts, with links to the wav files."""
    shown = [name for name in SYSTEMS if name in metrics["rows"]]
    lines = [f"# {_plain(_title(metrics))}", "", _plain(_verdict(metrics)), ""]
    if metrics["untrained_base"]:
        lines += [f"> **{UNTRAINED}**", ""]
    lines += [
        "| row | " + " | ".join(title for title, _ in METRICS.values()) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for name in shown:
        cells = [
            cell["missing"] if cell["text"] is None else f"{cell['text']} ({cell['interval']})"
            for cell in _cells(metrics, name)
        ]
        lines.append(f"| {SYSTEMS[name]} | " + " | ".join(cells) + " |")
    lines += ["", _table_note(metrics), "", "## Clips", ""]
    for clip in metrics["clips"]:
        lines += [f"### {_plain(clip['text'])}", "", _plain(_text_note(clip)), ""]
        for name in shown:
            heard = clip[name]
            title = f"[{SYSTEMS[name]}]({heard['wav']})"
            lines.append(f"- {title}: {_plain(heard['transcript']) or 'nothing heard'} ({_clip_note(heard)})")
        lines.append("")
    lines += ["## How it was measured", ""]
    lines += [f"- {name}: {_plain(value)}" for name, value in _facts(metrics, None)]
    return "\n".join(lines) + "\n"


def _title(metrics: Mapping[str, Any]) -> str:
    return f"Evaluation of {metrics['adapter'] or metrics['base_model']}"


def _verdict(metrics: Mapping[str, Any]) -> str:
    rates = [
        f"{SYSTEMS[name]} {100 * metrics['rows'][name]['wer']['value']:.1f}\u00a0%"
        for name in reversed(SYSTEMS)
        if name in metrics["rows"] and metrics["rows"][name]["wer"]["value"] is not None
    ]
    heard = f"Of the words in {metrics['n']} held-out texts the recogniser got wrong: {', '.join(rates)}."
    return heard if rates else "No text could be scored: none holds a word once normalised."


def _table_note(metrics: Mapping[str, Any]) -> str:
    return (
        "Below each value its 95 % bootstrap interval over the texts; n is how many clips have the score. "
        f"{metrics['n']} texts scored, {metrics['skipped']} skipped (no word once normalised). Similarity is "
        f"{metrics['speaker_score']}, the cosine of a clip to the centroid of the same speaker's other held-out "
        "recordings, never the row's own; a clip without voice, or of a speaker with a single recording, has none."
    )


def _listen_note(metrics: Mapping[str, Any]) -> str:
    note = "The same texts and seeds side by side, with what the recogniser heard; words out of place are marked."
    if len(metrics["clips"]) > MAX_PLAYED_TEXTS:
        note += f" The first {MAX_PLAYED_TEXTS} texts play from this page itself, the rest from the folder samples/."
    return note


def _cells(metrics: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The cells of one row; left, width and at place its interval on the column's scale, in percent."""
    cells = []
    for metric, (_, factor) in METRICS.items():
        score = metrics["rows"][name].get(metric)
        if score is None or score["value"] is None:
            # Recordings were not generated, so they neither stop nor run on.
            cells.append({"text": None, "missing": "–" if score is None else "not measured"})
            continue
        unit = "\u00a0%" if factor == 100 else ""
        low, high = score["low"], score["high"]
        others = (row[metric] for row in metrics["rows"].values() if metric in row)
        top = max([1e-9, *(other["high"] for other in others if other["high"] is not None)])
        left, right = (100 * min(max(edge / top, 0), 1) for edge in (low, high))
        cells.append(
            {
                "text": _number(score["value"], factor) + unit,
                "interval": f"{_number(low, factor)} to {_number(high, factor)}{unit}, n={score['n']}",
                "left": round(left, 1),
                "width": round(right - left, 1),
                "at": round(100 * min(max(score["value"] / top, 0), 1), 1),
            }
        )
    return cells


def _number(value: float, factor: int) -> str:
    return f"{factor * value:.1f}" if factor == 100 else f"{value:.3f}"


def _sources(clip: Mapping[str, Any], shown: Sequence[str], wavs: Mapping[str, bytes], index: int) -> dict[str, str]:
    paths = {name: clip[name]["wav"] for name in shown}
    if index >= MAX_PLAYED_TEXTS:
        return paths
    return {name: "data:audio/wav;base64," + base64.b64encode(wavs[path]).decode() for name, path in paths.items()}


def _text(clip: Mapping[str, Any], shown: Sequence[str], sources: Mapping[str, str]) -> dict[str, Any]:
    clips = [
        {
            "key": name,
            "title": SYSTEMS[name],
            "source": sources[name],
            "words": _marked_words(clip["text"], clip[name]["transcript"]),
            "note": _clip_note(clip[name]),
        }
        for name in shown
    ]
    return {"text": clip["text"], "note": _text_note(clip), "clips": clips}


def _text_note(clip: Mapping[str, Any]) -> str:
    speaker = f", speaker {clip['speaker']}" if clip["speaker"] else ""
    return f"row {clip['id']}{speaker}, seed {clip['seed']}"


def _clip_note(heard: Mapping[str, Any]) -> str:
    wer = "not scored" if heard["wer"] is None else f"WER {100 * heard['wer']:.0f}\u00a0%"
    similarity = "no similarity" if heard["similarity"] is None else f"similarity {heard['similarity']:.3f}"
    stopped = {None: "", True: ", stopped by itself", False: ", cut at the cap"}[heard["stopped"]]
    return f"{wer}, {similarity}, {heard['seconds']:.1f} s{stopped}"


def _marked_words(text: str, transcript: str) -> list[tuple[str, bool]]:
    """The transcript's words, and whether each is out of place in the text; case and punctuation do not count."""
    heard = transcript.split()
    bare = [[re.sub(r"[^\w']", "", word).lower() for word in words] for words in (text.split(), heard)]
    matched = {
        block.b + offset
        for block in difflib.SequenceMatcher(None, *bare, autojunk=False).get_matching_blocks()
        for offset in range(block.size)
    }
    return [(word, index not in matched) for index, word in enumerate(heard)]


def _facts(metrics: Mapping[str, Any], run: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    recogniser = with_revision(metrics["asr"], metrics["asr_revision"])
    speaker_model = with_revision(metrics["speaker"], metrics["speaker_revision"])
    named = {
        "protocol": metrics["protocol"],
        "recogniser": f"{recogniser}, greedy, language {metrics['asr_language']}",
        "normaliser": metrics["normalizer"],
        "speaker model": f"{speaker_model}, score {metrics['speaker_score']}",
        "texts": f"{metrics['n']} scored, {metrics['skipped']} skipped",
        "seeds": metrics["seeds"],
        "dataset": with_revision(metrics["dataset"], metrics["dataset_revision"]) + f", split {metrics['split']}",
        "codec": metrics["codec"],
        "base model": with_revision(metrics["base_model"], metrics["base_revision"]),
        "adapter": with_revision(metrics["adapter"], metrics["adapter_revision"]) if metrics["adapter"] else "none",
        "hardware": metrics["hardware"],
        "commit": metrics["git_commit"] or "not recorded",
        "versions": ", ".join(f"{name} {version}" for name, version in metrics["versions"].items() if version),
    }
    if run:
        named["training"] = f"{run['method']}, {run['steps']} steps on {run['hardware']}, commit {run['git_commit']}"
    return list(named.items())


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: on one line, its marks escaped."""
    return re.sub(r"([\\`*_{}\[\]<>()#|~!&])", r"\\\1", " ".join(str(text).split()))
