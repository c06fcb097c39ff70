"""The benchmark of encoding compares the timed codes, and restores the settings of torch."""

import pytest
import torch

from higgs_recipes.benchmarks.encode import measure_encoding
from higgs_recipes.configs.benchmark import BenchmarkEncodeConfig
from tests.helpers.benchmark_fields import encode_fields as fields


def settings() -> tuple:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")


@pytest.mark.slow
def test_less_exact_arithmetic_changes_codes_and_settings_are_restored(tmp_path):
    before = settings()
    rows = list(
        measure_encoding(BenchmarkEncodeConfig(**fields(tmp_path, arithmetic=["bfloat16", "tf32", "float32"])))
    )
    assert settings() == before
    bfloat16, exact = rows[1], rows[-1]
    assert bfloat16["equal_frames"] < bfloat16["equal_codes"] < 1 and bfloat16["batch_size"] == 4
    assert exact["equal_frames"] >= 0.99 and exact["distinct_codes"] > 20
