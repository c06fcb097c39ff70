"""A corpus's check before codes are made: corpus_report.json, a page to read, and a few lines for the terminal."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any
from unicodedata import is_normalized

from accelerate import PartialState

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus import statistics as stats
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.corpus.corpus import Corpus, split_rows
from higgs_recipes.corpus.encode import public_reject
from higgs_recipes.corpus.report_page import render_report
from higgs_recipes.corpus.rows import TaskRow
from higgs_recipes.corpus.streaming import load_corpus
from higgs_recipes.corpus.task_assignment import assign_tasks, count_cuts, count_tasks
from higgs_recipes.files import atomic_write
from higgs_recipes.hub.public import public_path, public_record
from higgs_recipes.provenance import git_commit, library_versions


REPORT_JSON, REPORT_PAGE = "corpus_report.json", "corpus_report.html"


def check_corpus(config: EncodeConfig) -> tuple[dict[str, Any], Path]:
    """Do all that encode does before codes are made; returns the report's record and the folder it lies in.

    The folder is `output_dir` with "-check" at its end, so that nothing is written where the corpus will stand.
    Started on several processes, all read and the main one writes.

    Raises:
        InputError: what `load_corpus`, `split_rows` and `assign_tasks` find, a full disk.
    """
    state = PartialState(cpu=True)
    corpus = load_corpus(config, codec=None, cache=CodeCache(config.cache_dir, codec="no codec"))
    splits = {
        split: assign_tasks(corpus, rows, config, split=split)
        for split, rows in split_rows(corpus.rows, config).items()
    }
    record = describe_corpus(corpus, splits, config)
    place = PurePath(config.output_dir)
    folder = Path(place.with_name(f"{place.name}-check"))
    if state.is_main_process:
        # In ASCII: a broken text may hold what UTF-8 has no bytes for.
        atomic_write(folder / REPORT_JSON, json.dumps(record, indent=2, allow_nan=False) + "\n")
        atomic_write(folder / REPORT_PAGE, render_report(record))
    state.wait_for_everyone()
    return record, folder


def describe_corpus(corpus: Corpus, splits: Mapping[str, Sequence[TaskRow]], config: EncodeConfig) -> dict[str, Any]:
    """The record of the report: what was read, what is kept and why not the rest, and what is taught."""
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
        "not_drawn": {public_path(source): count for source, count in corpus.num_not_drawn.items()},
        "filters": stats.dropped_by_filters(rejects, corpus.num_not_drawn, config),
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
        "splits": {split: _taught(mine) for split, mine in splits.items()},
        "recipe": public_record(asdict(config)),
        "git_commit": git_commit(),
        "versions": library_versions(),
    }


def _taught(rows: Sequence[TaskRow]) -> dict[str, Any]:
    taken = [stats.positions(row) for row in rows]
    lengths = [each["codes"] + each["text"] for each in taken]
    longest = max(range(len(rows)), key=lengths.__getitem__)
    return {
        "rows": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "tasks": count_tasks(rows),
        "cut_at_turn": count_cuts(rows),
        "positions": {name: sum(each[name] for each in taken) for name in ("codes", "text", "text_at_most")},
        "longest": {"id": rows[longest]["id"], "positions": lengths[longest]},
        "lengths": stats.spread(lengths, least_step=1),
        "epoch": stats.epoch(lengths),
    }
