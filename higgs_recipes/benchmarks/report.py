"""Write the results of a benchmark to a JSON file, and show them as a table."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState

from higgs_recipes.configs.benchmark import BenchmarkConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write
from higgs_recipes.hub.markdown import facts, table
from higgs_recipes.provenance import run_environment


# Field of a row -> column title, in the order of the columns; a column without values is left out.
COLUMNS = {
    "first_audio_ms": "first audio, ms",
    "longest_pause_ms": "longest pause, ms",
    "positions_per_second": "positions/s",
    "frames_per_second": "frames/s",
    "times_real_time": "x real time",
    "audio_seconds_per_second": "audio s/s",
    "preparation_seconds": "compile, s",
    "peak_gib": "peak GiB",
    "limit_positions_per_second": "limit, positions/s",
    "limit_frames_per_second": "limit, frames/s",
    "limit_times_real_time": "limit, x real time",
    "share_of_limit": "of the limit",
    "data_wait_share": "waits for data",
    "equal_frames": "equal frames",
}


def write_report(name: str, config: BenchmarkConfig, rows: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """Collect rows as they are measured, and write `config.output` again after each.

    Returns:
        {"benchmark": name, "config": ..., "rows": [...]} and the fields of `run_environment`.

    Raises:
        InputError: `config.output` is a folder or cannot be written.
    """
    if Path(config.output).is_dir():  # before hours of work
        raise InputError(f"output: {config.output} is a folder, expected a file: choose another name")
    report = {"benchmark": name, "config": asdict(config), "rows": []}
    for row in rows:
        report |= run_environment()  # only now: the config of the first variant sets up the devices
        report["rows"].append(row)
        if PartialState().is_main_process:
            atomic_write(Path(config.output), json.dumps(report, indent=1) + "\n")
    return report


def describe(report: Mapping[str, Any]) -> str:
    """A Markdown table with a line per row, and the hardware, library versions and commit."""
    rows = report["rows"]
    columns = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    lines = [[row["name"], *(_number(row, name) for name in columns)] for row in rows]
    names = ("hardware", "versions", "git_commit")
    head = [report["benchmark"], *(COLUMNS[name] for name in columns)]
    return table(head, lines) + "\n" + facts({name: report[name] for name in names})


def _number(row: Mapping[str, Any], name: str) -> str:
    if row["outcome"] != "measured":
        return row["outcome"]
    value = row.get(name)
    if value is None:
        return ""
    if name in ("share_of_limit", "data_wait_share", "equal_frames"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
