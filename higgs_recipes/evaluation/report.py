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

from torch import Tensor

from higgs_recipes.audio.io import wav_bytes
from higgs_recipes.evaluation.plots import training_plots
from higgs_recipes.evaluation.report_tables import cell_text, cells, grouped_tables, titles_of
from higgs_recipes.files import staged_folder
from higgs_recipes.hub.public import with_revision
from higgs_recipes.metrics_schema import SYSTEMS
from higgs_recipes.pages import render_page


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
        (folder / "report.html").write_text(render_html(metrics, wavs, run=run), encoding="utf-8")


def render_html(metrics: Mapping[str, Any], wavs: Mapping[str, bytes], *, run: Mapping[str, Any] | None) -> str:
    """report.html; `wavs` holds the files that the clips name."""
    shown = [name for name in SYSTEMS if name in metrics["rows"]]
    log_history = run["log_history"] if run else []
    return render_page(
        "evaluation",
        title=_title(metrics),
        verdict=_verdict(metrics),
        untrained=UNTRAINED if metrics["untrained_base"] else None,
        columns=titles_of(metrics["rows"]),
        table=[{"key": name, "title": SYSTEMS[name], "cells": cells(metrics["rows"], name)} for name in shown],
        grouped=grouped_tables(metrics),
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
    titles = titles_of(metrics["rows"])
    lines += _table_head("row", *titles)
    for name in shown:
        lines.append(_table_line(SYSTEMS[name], *map(cell_text, cells(metrics["rows"], name))))
    lines += ["", _table_note(metrics), ""]
    for table in grouped_tables(metrics):
        lines += [f"## {table['title']}", "", *_table_head(table["head"], "row", *table["columns"])]
        for group in table["groups"]:
            for line in group["lines"]:
                lines.append(_table_line(_plain(group["value"]), line["title"], *map(cell_text, line["cells"])))
        lines.append("")
    lines += ["## Clips", ""]
    for clip in metrics["clips"]:
        lines += [f"### {_plain(clip['text'])}", "", _plain(_text_note(clip)), ""]
        for name in shown:
            heard = clip[name]
            title = f"[{SYSTEMS[name]}]({heard['wav']})"
            lines.append(f"- {title}: {_plain(heard['transcript']) or 'nothing heard'} ({_plain(_clip_note(heard))})")
        lines.append("")
    lines += ["## How it was measured", ""]
    lines += [f"- {name}: {_plain(value)}" for name, value in _facts(metrics, None)]
    return "\n".join(lines) + "\n"


def _table_head(*titles: str) -> list[str]:
    return [_table_line(*titles), "|---" * len(titles) + "|"]


def _table_line(*texts: str) -> str:
    return "| " + " | ".join(texts) + " |"


def _title(metrics: Mapping[str, Any]) -> str:
    return f"Evaluation of {metrics['adapter'] or metrics['base_model']}"


def _verdict(metrics: Mapping[str, Any]) -> str:
    rates = [
        f"{SYSTEMS[name]} {100 * metrics['rows'][name]['wer']['value']:.1f}\u00a0%"
        for name in reversed(SYSTEMS)
        if name in metrics["rows"] and metrics["rows"][name]["wer"]["value"] is not None
    ]
    heard = f"Of the words in {metrics['n']} held-out texts the ASR model got wrong: {', '.join(rates)}."
    return heard if rates else "No text could be scored: none holds a word once normalized."


def _table_note(metrics: Mapping[str, Any]) -> str:
    note = (
        "Below each value its 95 % bootstrap interval over the texts; n is how many clips have the score. "
        f"{metrics['n']} texts scored, {metrics['skipped']} skipped (no word once normalized). Similarity is "
        f"{metrics['speaker_score']}, the cosine of a clip to the centroid of the same speaker's other held-out "
        "recordings, never the row's own; a clip without voice, or of a speaker with a single recording, has none."
    )
    if "turn_voice" in metrics["rows"]["real"]:
        note += " Of dialogues the turns have it; n of turns nearest to the own speaker is how many could be judged."
    return note


def _listen_note(metrics: Mapping[str, Any]) -> str:
    note = "The same texts and seeds side by side, with what the ASR model heard; words out of place are marked."
    if len(metrics["clips"]) > MAX_PLAYED_TEXTS:
        note += f" The first {MAX_PLAYED_TEXTS} texts play from this page itself, the rest from the folder samples/."
    return note


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
    said = f"{wer}, {similarity}, {heard['seconds']:.1f} s{stopped}"
    return said + "".join(_turn_note(number, turn) for number, turn in enumerate(heard["turns"], 1))


def _turn_note(number: int, turn: Mapping[str, Any]) -> str:
    """One turn of a dialogue: where it lies and whose voice it has."""
    if turn["span"] is None:
        return f"; turn {number} not found"
    start, end = turn["span"]
    nearest = f", nearest to {turn['nearest_speaker']}" if turn["nearest_speaker"] else ", voice not judged"
    return f"; turn {number} of {turn['speaker'] or 'unknown'} from {start:.1f} to {end:.1f} s{nearest}"


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
    asr_model = with_revision(metrics["asr"], metrics["asr_revision"])
    speaker_model = with_revision(metrics["speaker"], metrics["speaker_revision"])
    named = {
        "protocol": metrics["protocol"],
        "ASR model": f"{asr_model}, greedy, language {metrics['asr_language']}",
        "normalizer": metrics["normalizer"],
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
