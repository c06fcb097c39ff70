"""Write an evaluation as a folder: metrics.json, report.md, samples/*.wav, and report.html, which needs no network.

Texts, transcripts and names are untrusted: they are escaped wherever they are shown, and never used in file names.
"""

import base64
import difflib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from higgs_recipes.audio.io import wav_bytes
from higgs_recipes.evaluation.detail_tables import detail_tables
from higgs_recipes.evaluation.plots import training_plots
from higgs_recipes.evaluation.report_tables import cell_text, cells, grouped_tables, titles_of
from higgs_recipes.evaluation.report_text import (
    MAX_PLAYED_TEXTS,
    listen_note,
    summary,
    systems_of,
    table_note,
    title,
    warnings,
)
from higgs_recipes.evaluation.transcript_flags import FLAGS
from higgs_recipes.hub.markdown import escape_marks, facts, literal, table
from higgs_recipes.hub.public import with_revision
from higgs_recipes.metrics_schema import (
    SYSTEMS,
    describe_languages,
    languages_in_characters,
)
from higgs_recipes.output_folder import staged_folder
from higgs_recipes.pages import render_page


NO_RUN = "No training curves: there is no run.json in the folder of the evaluated model."


def write_report(
    metrics: Mapping[str, Any],
    waveforms: Mapping[str, Sequence[Tensor]],
    *,
    run: Mapping[str, Any] | None,
    output_dir: str | Path,
    overwrite: bool = False,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write the whole folder, or nothing.

    Args:
        metrics: the content of metrics.json, from `evaluate_model`.
        waveforms: the clips (N_i,) of each system, in the order of `metrics["clips"]`.
        run: run.json of the training; None if there is none.
        overwrite: replace an existing folder.
        finish: called with the folder when all is written, before the folder appears.

    Raises:
        InputError: the folder exists and is not empty, or the disk is full.
    """
    with staged_folder(output_dir, kind="evaluate", overwrite=overwrite) as folder:
        (folder / "samples").mkdir()
        wavs: dict[str, bytes] = {}
        for system, system_waveforms in waveforms.items():
            for clip, waveform in zip(metrics["clips"], system_waveforms, strict=True):
                if clip[system]["wav"] is not None:  # of a benchmark's missing clip
                    wavs[clip[system]["wav"]] = wav_bytes(waveform)
        for path, wav in wavs.items():
            (folder / path).write_bytes(wav)
        encoded = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "metrics.json").write_text(encoded + "\n", encoding="utf-8")
        (folder / "report.md").write_text(render_markdown(metrics), encoding="utf-8")
        (folder / "report.html").write_text(render_html(metrics, wavs, run=run), encoding="utf-8")
        if finish:
            finish(folder)


def render_html(metrics: Mapping[str, Any], wavs: Mapping[str, bytes], *, run: Mapping[str, Any] | None) -> str:
    """Render report.html.

    Args:
        wavs: content of each wav file that `metrics["clips"]` names.
    """
    systems, in_characters = systems_of(metrics), languages_in_characters(metrics["languages"])
    return render_page(
        "evaluation",
        title=title(metrics),
        summary=summary(metrics),
        warnings=warnings(metrics),
        columns=titles_of(metrics["rows"]),
        results=[{"key": key, "title": SYSTEMS[key], "cells": cells(metrics["rows"], key)} for key in systems],
        details=detail_tables(metrics),
        grouped=grouped_tables(metrics),
        table_note=table_note(metrics),
        listen_note=listen_note(metrics),
        texts=[
            _text_section(
                clip, systems, _sources(clip, systems, wavs, index), in_characters=clip["language"] in in_characters
            )
            for index, clip in enumerate(metrics["clips"])
        ],
        training_note=None if run else NO_RUN,
        plots=training_plots(run["log_history"]) if run else [],
        setup=_setup(metrics, run),
    )


def render_markdown(metrics: Mapping[str, Any]) -> str:
    """Render report.md: the tables, transcripts and setup of report.html, with links to the wav files."""
    systems = systems_of(metrics)
    results = [[SYSTEMS[key], *map(cell_text, cells(metrics["rows"], key))] for key in systems]
    sections = [
        f"# {literal(title(metrics))}\n",
        f"{literal(summary(metrics))}\n",
        *(f"> **{literal(warning)}**\n" for warning in warnings(metrics)),
        table(["system", *titles_of(metrics["rows"])], results),
        f"{literal(table_note(metrics))}\n",
    ]
    for details in detail_tables(metrics):
        lines = [[escape_marks(cell) for cell in line] for line in details["lines"]]
        shown = table(details["head"], lines)
        sections.append(f"## {details['title']}\n\n{shown}\n{literal(details['note'])}\n")
    for grouped in grouped_tables(metrics):
        lines = [
            [escape_marks(group["value"]), line["title"], *map(cell_text, line["cells"])]
            for group in grouped["groups"]
            for line in group["lines"]
        ]
        head = [grouped["head"], "system", *grouped["columns"]]
        sections.append(f"## {grouped['title']}\n\n{table(head, lines)}")
    sections.append("## Clips\n")
    for clip in metrics["clips"]:
        lines = [
            f"- {_linked(SYSTEMS[key], clip[key]['wav'])}: {literal(clip[key]['transcript']) or 'empty transcript'} "
            f"({literal(_clip_note(clip[key]))})\n"
            for key in systems
        ]
        sections.append(f"### {literal(clip['text'])}\n\n{literal(_text_note(clip))}\n\n{''.join(lines)}")
    sections.append(f"## Method\n\n{facts(_setup(metrics, None))}")
    return "\n".join(section for section in sections if section)


def _sources(
    clip: Mapping[str, Any], systems: Sequence[str], wavs: Mapping[str, bytes], index: int
) -> dict[str, str | None]:
    """The URL of the audio of each system: embedded for the first texts, else the path of the wav file."""
    paths = {key: clip[key]["wav"] for key in systems}
    if index >= MAX_PLAYED_TEXTS:
        return paths
    return {key: None if path is None else _embedded(wavs[path]) for key, path in paths.items()}


def _embedded(wav: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(wav).decode()


def _text_section(
    clip: Mapping[str, Any], systems: Sequence[str], sources: Mapping[str, str | None], *, in_characters: bool
) -> dict[str, Any]:
    """One text with the clips of all systems, for the template."""
    clips = [
        {
            "key": key,
            "title": SYSTEMS[key],
            "source": sources[key],
            "units": _compared(clip["text"], clip[key]["transcript"], in_characters=in_characters),
            "note": _clip_note(clip[key]),
        }
        for key in systems
    ]
    separator = "" if in_characters else " "
    return {"text": clip["text"], "note": _text_note(clip), "separator": separator, "clips": clips}


def _linked(name: str, wav: str | None) -> str:
    return f"{name}, missing" if wav is None else f"[{name}]({wav})"


def _text_note(clip: Mapping[str, Any]) -> str:
    speaker = f", speaker {clip['speaker']}" if clip["speaker"] else ""
    return f"row {clip['id']}{speaker}, seed {clip['seed']}"


def _clip_note(scores: Mapping[str, Any]) -> str:
    wer = "no WER" if scores["wer"] is None else f"WER {100 * scores['wer']:.0f}\u00a0%"
    similarity = "no similarity" if scores["similarity"] is None else f"similarity {scores['similarity']:.3f}"
    stopped = {None: "", True: ", stopped by itself", False: ", cut at the maximum length"}[scores["stopped"]]
    flags = "".join(f"; {FLAGS[flag]}" for flag in scores["flags"])
    turns = "".join(_turn_note(number, turn) for number, turn in enumerate(scores["turns"], 1))
    return f"{wer}, {similarity}, {scores['seconds']:.1f} s{stopped}{flags}{turns}"


def _turn_note(number: int, turn: Mapping[str, Any]) -> str:
    if turn["span"] is None:
        return f"; turn {number} {'has no words' if turn['state'] == 'empty' else 'not found'}"
    start, end = turn["span"]
    nearest = f"closest to {turn['nearest_speaker']}" if turn["nearest_speaker"] else "voice not compared"
    return f"; turn {number} ({turn['speaker'] or 'unknown speaker'}), {start:.1f} to {end:.1f} s, {nearest}"


def _compared(text: str, transcript: str, *, in_characters: bool) -> list[tuple[str, bool]]:
    """The words or characters of the transcript, each with whether it differs from the text.

    Case and punctuation do not count.
    """
    units = list(transcript) if in_characters else transcript.split()
    recognized = [_letters(unit) for unit in units]
    expected = [letters for unit in (text if in_characters else text.split()) if (letters := _letters(unit))]
    matched = {
        block.b + offset
        for block in difflib.SequenceMatcher(None, expected, recognized, autojunk=False).get_matching_blocks()
        for offset in range(block.size)
    }
    return [(unit, bool(recognized[index]) and index not in matched) for index, unit in enumerate(units)]


def _letters(unit: str) -> str:
    """The letters, digits and combining marks, which are the vowels and tones of many scripts; and apostrophes."""
    composed = unicodedata.normalize("NFC", unit).casefold()
    return "".join(char for char in composed if unicodedata.category(char)[0] in "LMN" or char == "'")


def _speaker_model(metrics: Mapping[str, Any]) -> str:
    if metrics["speaker"] is None:
        return "none"
    return f"{with_revision(metrics['speaker'], metrics['speaker_revision'])}, score {metrics['speaker_score']}"


def _setup(metrics: Mapping[str, Any], run: Mapping[str, Any] | None) -> dict[str, str]:
    """Models, data and settings behind the scores."""
    asr_model = with_revision(metrics["asr"], metrics["asr_revision"])
    setup = {
        "protocol": metrics["protocol"],
        "ASR model": f"{asr_model}, greedy",
        "languages": describe_languages(metrics["languages"]),
        "normalizer": metrics["normalizer"],
        "speaker model": _speaker_model(metrics),
        "texts": f"{metrics['n']} scored, {metrics['skipped']} skipped",
        "seeds": metrics["seeds"],
        "dataset": with_revision(metrics["dataset"], metrics["dataset_revision"])
        + (f", split {metrics['split']}" if metrics["split"] else ""),
        "codec": metrics["codec"],
        "base model": with_revision(metrics["base_model"], metrics["base_revision"]),
        "adapter": with_revision(metrics["adapter"], metrics["adapter_revision"]) if metrics["adapter"] else "none",
        "hardware": metrics["hardware"],
        "commit": metrics["git_commit"] or "not recorded",
        "versions": ", ".join(f"{name} {version}" for name, version in metrics["versions"].items() if version),
    }
    if run:
        setup["training"] = f"{run['method']}, {run['steps']} steps on {run['hardware']}, commit {run['git_commit']}"
    return setup
