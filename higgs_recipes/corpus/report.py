"""Check a corpus without encoding it: writes corpus_report.json and corpus_report.html."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

from accelerate import PartialState

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus import statistics as stats
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.corpus.corpus import Corpus
from higgs_recipes.corpus.encode import public_reject
from higgs_recipes.corpus.report_page import render_report
from higgs_recipes.corpus.rows import TaskRow
from higgs_recipes.corpus.streaming import load_corpus
from higgs_recipes.corpus.task_assignment import assign_splits, count_cuts, count_tasks
from higgs_recipes.files import atomic_write, real_path
from higgs_recipes.hub.public import public_path, public_record
from higgs_recipes.output_folder import remove_partial_files
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.run_lock import lock_output


REPORT_JSON, REPORT_PAGE = "corpus_report.json", "corpus_report.html"


def check_corpus(config: EncodeConfig) -> tuple[dict[str, Any], Path]:
    """Do everything that encode does before it makes codes; returns the record of the report, and its folder.

    The folder is `output_dir` with the suffix "-check", so that nothing is written where the corpus will be. All
    processes read, and the main process writes.

    Raises:
        InputError: as `load_corpus`, `split_rows` and `assign_tasks`, or the disk is full.
    """
    folder = Path(f"{real_path(config.output_dir)}-check")
    with lock_output(folder, in_place=True):
        return _check_corpus(config, folder), folder


def _check_corpus(config: EncodeConfig, folder: Path) -> dict[str, Any]:
    state = PartialState(cpu=True)
    corpus = load_corpus(config, codec=None, cache=CodeCache(config.cache_dir, codec="no codec"))
    splits = assign_splits(corpus, config)
    record = describe_corpus(corpus, splits, config)
    if state.is_main_process:
        # As ASCII, because an invalid text may not be encodable as UTF-8.
        atomic_write(folder / REPORT_JSON, json.dumps(record, indent=2, allow_nan=False) + "\n")
        atomic_write(folder / REPORT_PAGE, render_report(record))
        remove_partial_files(folder)
    state.wait_for_everyone()
    return record


def describe_corpus(corpus: Corpus, splits: Mapping[str, Sequence[TaskRow]], config: EncodeConfig) -> dict[str, Any]:
    """The record of the report: rows read and kept, rejects by reason, and measures of texts, audio and tasks."""
    rows = corpus.rows
    rejects = [public_reject(reject, corpus) for reject in corpus.rejects]
    texts = [row["text"] for row in rows]
    rates = Counter(row["own"].levels.rate for row in rows)
    total_weight = sum(config.tasks.values())
    return {
        "sources": public_record(config.sources),
        "read": sum(len(source.table) for source in corpus.sources),
        "kept": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "rejected": len(rejects),
        "rejects": stats.rejects_by_category(rejects),
        "not_drawn": {public_path(source): count for source, count in corpus.num_not_sampled.items()},
        "filters": stats.dropped_by_filters(rejects, corpus.num_not_sampled, config),
        "speakers": stats.sizes(rows, "speaker"),
        "languages": stats.sizes(rows, "language"),
        "durations": stats.spread([row["seconds"] for row in rows]),
        "sample_rates": [{"rate": rate, "rows": count} for rate, count in sorted(rates.items())],
        "clipped": stats.clipped(rows),
        "silent_edges": stats.silent_edged(rows),
        "text_lengths": stats.spread([len(text) for text in texts], least_step=1),
        "speaking_rates": stats.speaking_rates(rows),
        "characters": len(set().union(*texts)),
        "unusual_characters": stats.unusual_characters(texts),
        "not_composed": [row["id"] for row in rows if not is_normalized("NFC", row["text"])],
        "same_sound": stats.repeated(rows, lambda row: row["own"].content_hash),
        "same_text": stats.repeated(rows, stats.same_words),
        "same_text_and_speaker": stats.repeated(rows, lambda row: (stats.same_words(row), row["speaker"])),
        "tasks": {task: weight / total_weight for task, weight in config.tasks.items()},
        "splits": {split: _describe_split(task_rows) for split, task_rows in splits.items()},
        "recipe": public_record(asdict(config)),
        "git_commit": git_commit(),
        "versions": library_versions(),
    }


def _describe_split(rows: Sequence[TaskRow]) -> dict[str, Any]:
    positions = [stats.positions(row) for row in rows]
    lengths = [counts["codes"] + counts["text"] for counts in positions]
    longest = max(range(len(rows)), key=lengths.__getitem__)
    return {
        "rows": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "tasks": count_tasks(rows),
        "cut_at_turn": count_cuts(rows),
        "positions": {name: sum(counts[name] for counts in positions) for name in ("codes", "text", "text_at_most")},
        "longest": {"id": rows[longest]["id"], "positions": lengths[longest]},
        "lengths": stats.spread(lengths, least_step=1),
        "epoch": stats.epoch(lengths),
    }
