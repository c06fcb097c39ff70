"""The report of a benchmark: written after each row, and shown as a table."""

import json
from pathlib import Path

import pytest

from higgs_recipes.benchmarks.report import describe, write_report
from higgs_recipes.configs.benchmark import BenchmarkTrainConfig
from tests.helpers.benchmark_fields import train_fields


ROWS = [
    {
        "name": "packed",
        "outcome": "measured",
        "positions_per_second": 42025.7,
        "peak_gib": 26.91,
        "share_of_limit": 0.5,
    },
    {"name": "large", "outcome": "out of memory"},
    {"name": "transformers", "outcome": "measured", "positions_per_second": 99.94, "peak_gib": 12.0},
]


@pytest.fixture
def config(tmp_path) -> BenchmarkTrainConfig:
    return BenchmarkTrainConfig(**train_fields(tmp_path))


def test_report_is_written_after_each_row(config):
    counts = []

    def rows():
        for row in ROWS:
            yield row
            counts.append(len(json.loads(Path(config.output).read_text())["rows"]))

    report = write_report("train", config, rows())
    assert counts == [1, 2, 3]
    assert json.loads(Path(config.output).read_text()) == report
    assert report["benchmark"] == "train" and report["config"]["timed_steps"] == 10 and report["hardware"]


def test_interrupted_report_has_the_rows_measured_before(config):
    def rows():
        yield ROWS[0]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_report("train", config, rows())
    assert json.loads(Path(config.output).read_text())["rows"] == ROWS[:1]


def test_table_has_a_line_per_row_and_only_columns_with_values(config):
    lines = describe(write_report("train", config, iter(ROWS))).splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert table[0] == ["train", "positions/s", "peak GiB", "of the limit"]
    assert table[2:] == [
        ["packed", "42,026", "26.9", "50.00%"],
        ["large", "out of memory", "out of memory", "out of memory"],
        ["transformers", "99.9", "12.0", ""],
    ]
    assert any("hardware" in line for line in lines[len(table) :])
