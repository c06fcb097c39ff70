"""The lists of a segmented corpus: rows, rejects and counts, and the exclusion of rows by hand."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.corpus.sources.lines import json_lines
from higgs_recipes.corpus.statistics import spread
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_write_errors, file_inside, read_text_file, real_path
from higgs_recipes.ingest.listening_page import MEASURED, write_page
from higgs_recipes.ingest.rows import SegmentRow
from higgs_recipes.output_folder import remove_leftovers, remove_partial_files
from higgs_recipes.rejects import Reject, RejectCode
from higgs_recipes.run_lock import lock_output


# The category of excluded rows, and the one that earlier versions wrote.
_EXCLUDED = (Reject(RejectCode.STRUCK).category, "struck by hand")


def write_lists(
    folder: Path,
    rows: Sequence[SegmentRow],
    rejects: Sequence[Mapping[str, Any]],
    *,
    counts: Mapping[str, int],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Write metadata.jsonl, rejects.jsonl, segment.json and listen.html; return the record with its counts.

    Args:
        rejects: the lines of rejects.jsonl.
        counts: the number of rejects by category.
        record: the other keys of segment.json.
    """
    record = dict(record) | {
        "rows": len(rows),
        "seconds": round(sum(row["duration"] for row in rows), 2),
        "measured": {column: _percentiles([row[column] for row in rows]) for column in MEASURED},
        "rejects": dict(sorted(counts.items(), key=lambda count: -count[1])),
    }
    for name, lines in (("rejects.jsonl", rejects), ("metadata.jsonl", rows)):
        atomic_write(folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    atomic_write(folder / "segment.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_page(folder / "listen.html", rows, record=record)
    return record


def exclude_rows(config: SegmentConfig) -> dict[str, Any]:
    """Remove the rows in the list `config.strike` from the corpus in output_dir and return its new record.

    A killed run can be repeated: it then deletes the recordings that it left.

    Raises:
        InputError: no list, no corpus in output_dir, an unknown id, or all rows are excluded.
    """
    with lock_output(config.output_dir):
        return _exclude_rows(Path(config.output_dir).expanduser(), Path(config.strike).expanduser(), config)


def _exclude_rows(folder: Path, list_path: Path, config: SegmentConfig) -> dict[str, Any]:
    if not list_path.is_file():
        raise InputError(f"strike: no such file: {config.strike}")
    if not (folder / "segment.json").is_file():
        raise InputError(f"{folder}: no segment.json; run once without --strike")
    remove_leftovers(real_path(folder))
    excluded_ids = set(read_text_file(list_path, name=f"strike: {config.strike}").split())
    rows, rejects = (_read_lines(folder / name) for name in ("metadata.jsonl", "rejects.jsonl"))
    rejected_ids = {reject["id"] for reject in rejects}
    if unknown := sorted(excluded_ids - rejected_ids - {row["id"] for row in rows}):
        raise InputError(f"strike: {config.strike} has {len(unknown)} ids that {folder} never had: {unknown[0]}")
    excluded = [row for row in rows if row["id"] in excluded_ids]
    kept = [row for row in rows if row["id"] not in excluded_ids]
    if not kept:
        raise InputError(f"strike: {config.strike} has the ids of all {len(rows)} rows of {folder}")
    rejects += [Reject(RejectCode.STRUCK).at(row).record() for row in excluded if row["id"] not in rejected_ids]
    paths = _unused_audio(folder, kept, rejects)
    record = json.loads((folder / "segment.json").read_text("utf-8"))
    # All other rejects were counted when the corpus was written.
    counts = {name: count for name, count in record["rejects"].items() if name not in _EXCLUDED}
    if num_excluded := len(rejects) - sum(counts.values()):
        counts[_EXCLUDED[0]] = num_excluded
    record = write_lists(folder, kept, rejects, counts=counts, record=record)
    with explain_write_errors(folder):
        for path in paths:  # recordings last, so that a killed run can be repeated
            path.unlink()
        remove_partial_files(folder)
    return record


def _unused_audio(folder: Path, rows: Sequence[SegmentRow], rejects: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The recordings of rejects that still exist: of rows that are excluded now, and of a run that was killed."""
    used = {row["file_name"] for row in rows}
    names = [reject["file_name"] for reject in rejects if reject.get("file_name") and reject["file_name"] not in used]
    existing = [name for name in names if os.path.lexists(folder / name)]
    return [file_inside(folder, name, field="rejects.jsonl: file_name") for name in existing]


def _percentiles(values: list[float]) -> dict[str, float]:
    return {name: value for name, value in spread(values).items() if name in ("p5", "median", "p95")}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in json_lines(path):
        if isinstance(line, Reject):
            raise InputError(f"{path} line {line.columns['line']}: {line.reason}")
        if "id" not in line["stored"]:
            raise InputError(f"{path} line {line['line']}: no id")
        lines.append(line["stored"])
    return lines
