"""What is compared with exact float32 is what was timed, and the settings of torch are as they were."""

import pytest
import torch

from higgs_recipes.benchmarks.encode import measure_encoding
from higgs_recipes.configs.benchmark import BenchmarkEncodeConfig
from tests.helpers.paths import ROOT


def fields(folder, **changed) -> dict:
    return {
        "codec_config": str(ROOT / "tests/data/random_tiny/codec.json"),
        "codec_dir": str(folder / "codec"),
        "clip_seconds": 1.0,
        "num_clips": 4,
        "batch_sizes": [1, 4],
        "arithmetic": ["float32", "default", "bfloat16"],
        "output": str(folder / "numbers" / "encode.json"),
    } | changed


def settings() -> tuple:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")


@pytest.mark.slow
def test_coarser_products_change_codes_and_leave_no_trace(tmp_path):
    before = settings()
    rows = list(
        measure_encoding(BenchmarkEncodeConfig(**fields(tmp_path, arithmetic=["bfloat16", "tf32", "float32"])))
    )
    assert settings() == before
    coarse, exact = rows[1], rows[-1]
    assert coarse["equal_frames"] < coarse["equal_codes"] < 1 and coarse["batch_size"] == 4
    assert exact["equal_frames"] >= 0.99 and exact["distinct_codes"] > 20
