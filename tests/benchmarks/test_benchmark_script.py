"""scripts/benchmark.py end to end at a tiny size: a table of all variants, with consistent numbers."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers.benchmark_fields import (
    TRAIN_VARIANTS,
    TRANSFORMERS_VARIANTS,
    encode_fields,
    generate_fields,
    train_fields,
)
from tests.helpers.forked_scripts import TIMEOUT, Done, Scripts
from tests.helpers.paths import ROOT


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    with Scripts(dict(os.environ), tmp_path_factory.mktemp("scripts")) as scripts:
        yield scripts


def run_benchmark(scripts: Scripts, name: str, recipe: dict) -> tuple[Done, dict]:
    """The output and the report of the script; asserts that its table has a line for each row."""
    path = Path(recipe["output"]).parent.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = scripts.run("benchmark", name, "--config", path)
    assert done.code == 0, done.said
    report = json.loads(Path(recipe["output"]).read_text())
    assert report["benchmark"] == name
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0] and report["hardware"].startswith("CPU")
    assert report["git_commit"] is None or len(report["git_commit"].partition("-")[0]) == 40
    lines = [line for line in done.said.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines] == [name, "---", *(row["name"] for row in report["rows"])]
    return done, report


def test_unknown_benchmark_is_refused(scripts):
    done = scripts.run("benchmark", "trian")
    assert (
        done.code != 0 and "unknown benchmark 'trian': expected train, generate, stream, texts or encode" in done.said
    )


def test_train_measures_every_variant(scripts, tmp_path):
    done, report = run_benchmark(scripts, "train", train_fields(tmp_path))
    assert [row["name"] for row in report["rows"]] == [*TRAIN_VARIANTS, *TRANSFORMERS_VARIANTS]
    assert [row["clips_per_step"] for row in report["rows"]] == [2, 2, 6, 2, 4]
    for row in report["rows"]:
        assert row["outcome"] == "measured" and row["steps"] == 10 and row["peak_gib"] > 0, row
        assert row["positions_per_step"] == 26 * row["clips_per_step"]
        assert row["positions_per_second"] == pytest.approx(row["positions_per_step"] * 10 / row["seconds"])
        assert row["audio_seconds_per_second"] == pytest.approx(row["positions_per_second"] * 0.2 / 26)
        assert row["share_of_limit"] == pytest.approx(row["positions_per_second"] / row["limit_positions_per_second"])
        assert 0 < row["share_of_limit"] < 1 and math.isfinite(row["loss"])
        assert f"{row['positions_per_second']:,.0f}" in done.said
    packed, checkpointed, _, full, original = report["rows"]
    # Both clocks agree, apart from the time between the end of a step and its log.
    assert packed["logged_positions_per_second"] == pytest.approx(packed["positions_per_second"], rel=0.5)
    assert packed["flops_per_position"] == checkpointed["flops_per_position"] == original["flops_per_position"]
    assert full["flops_per_position"] > 1.3 * packed["flops_per_position"]
    assert 0 <= packed["data_wait_share"] < 1 and original["data_wait_share"] is None


def test_generate_measures_the_frames_of_clips_of_equal_length(scripts, tmp_path):
    done, report = run_benchmark(scripts, "generate", generate_fields(tmp_path))
    variants = ("sampled", "greedy", "transformers", "transformers_static")
    names = [f"{variant}, batch {streams}" for variant in variants for streams in (1, 3)]
    assert [row["name"] for row in report["rows"]] == names
    for row in report["rows"]:
        assert row["outcome"] == "measured" and row["peak_gib"] > 0
        assert row["frames"] == 10 * row["streams"] and row["preparation_seconds"] >= 0
        assert row["frames_per_second"] == pytest.approx(row["frames"] / row["seconds"])
        assert row["times_real_time"] == pytest.approx(row["frames_per_second"] / 25)
        assert row["share_of_limit"] == pytest.approx(row["frames_per_second"] / row["limit_frames_per_second"])
        assert 0 < row["share_of_limit"] < 1
    one, three = report["rows"][:2]
    assert one["bytes_per_frame"] > 2 * three["bytes_per_frame"]  # three streams read the weights once


def test_encode_measures_every_arithmetic_and_batch_size(scripts, tmp_path):
    done, report = run_benchmark(scripts, "encode", encode_fields(tmp_path))
    names = [f"{arithmetic}, batch {size}" for arithmetic in ("float32", "default", "bfloat16") for size in (1, 4)]
    assert [row["name"] for row in report["rows"]] == names
    for row in report["rows"]:
        assert row["outcome"] == "measured" and row["audio_seconds"] == 4.0
        assert row["times_real_time"] == pytest.approx(4.0 / row["seconds"])
        assert row["share_of_limit"] == pytest.approx(row["times_real_time"] / row["limit_times_real_time"])
        assert 0 <= row["equal_frames"] <= row["equal_codes"] <= 1
    assert report["rows"][0]["equal_frames"] == 1.0  # the reference: exact float32, each clip alone


def test_two_processes_write_one_report(tmp_path):
    recipe = train_fields(tmp_path, only=["packed", "transformers"])
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "scripts/benchmark.py", "train", "--config", str(tmp_path / "train.yaml")]
    env = dict(os.environ) | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": "."}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count("| packed |") == 1  # one process prints the table
    packed, original = json.loads(Path(recipe["output"]).read_text())["rows"]
    assert packed["processes"] == original["processes"] == 2
    assert packed["clips_per_step"] == 4 and original["clips_per_step"] == 8
    assert packed["positions_per_second"] == pytest.approx(26 * 4 * 10 / packed["seconds"])
