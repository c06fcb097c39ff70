"""The benchmark of generation: clips of equal length, and variants that fail."""

import pytest
import torch

from higgs_recipes.benchmarks.generate import _measure, measure_generation
from higgs_recipes.configs.benchmark import BenchmarkGenerateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.jobs import Clip
from tests.helpers.benchmark_fields import generate_fields as fields


def test_variant_out_of_memory_is_recorded(tmp_path, monkeypatch):
    config = BenchmarkGenerateConfig(**fields(tmp_path, only=["greedy"]))
    calls, original_argmax = [], torch.Tensor.argmax

    def fail_first(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original_argmax(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "argmax", fail_first)
    one, three = measure_generation(config)
    assert (one["outcome"], three["outcome"]) == ("out of memory", "measured") and three["frames"] == 30


def test_invalid_variant_is_refused_before_anything_is_measured(tmp_path):
    config = BenchmarkGenerateConfig(**fields(tmp_path, variants={"a": {"top_p": 2.0}}))
    with pytest.raises(InputError, match=r"variant 'a': top_p must be in \(0, 1\], got 2.0"):
        next(measure_generation(config))


def test_the_fastest_run_after_the_first_counts(monkeypatch):
    clocks = iter([0.0, 9.0, 10.0, 12.0, 20.0, 21.0, 30.0, 33.0])  # runs of 9, 2, 1 and 3 s
    monkeypatch.setattr("higgs_recipes.benchmarks.generate.time.perf_counter", lambda: next(clocks))
    clips = [Clip(torch.zeros(25, 8), False)] * 2
    row = _measure(lambda: clips, device=torch.device("cpu"), num_timed=3)
    assert (row["frames"], row["seconds"], row["frames_per_second"], row["times_real_time"]) == (50, 1.0, 50.0, 2.0)
    assert row["preparation_seconds"] == 8.0
