"""The benchmark of encoding compares the timed codes, and restores the settings of torch."""

import pytest
import torch

from higgs_recipes.benchmarks.encode import measure_encoding
from higgs_recipes.configs.benchmark import BenchmarkEncodeConfig
from higgs_recipes.errors import InputError
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


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"codec_config": ""}, "codec_config is missing"),
        ({"num_clips": 0}, "num_clips must be positive, got 0"),
        ({"batch_sizes": [1, 3]}, "batch_sizes: 4 clips are not a multiple of 3"),
        ({"batch_sizes": []}, "batch_sizes must be positive"),
        ({"arithmetic": []}, "arithmetic is empty: name at least float32"),
        ({"arithmetic": ["fp32"]}, "arithmetic: 'fp32' is none of float32, default, tf32"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        BenchmarkEncodeConfig(**fields(tmp_path, **changed))
