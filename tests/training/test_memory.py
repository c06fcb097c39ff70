"""Peak memory of each method at the published size, with random weights, on one GPU with 80 GB."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from higgs_recipes.benchmarks.train import measure_training
from higgs_recipes.configs.benchmark import BenchmarkTrainConfig
from higgs_recipes.configs.parser import read_recipe
from tests.helpers.paths import ROOT


# Variant of the recipe -> maximum of its peak memory in GiB, including loading.
MAX_GIB = {"voice_qlora": 7, "voice_lora": 13, "audio_expert_8bit": 40, "full_8bit": 74}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> BenchmarkTrainConfig:
    recipe = read_recipe(ROOT / "recipes/higgs-3b/benchmark_train.yaml", BenchmarkTrainConfig)
    recipe |= {"model_config": str(ROOT / recipe["model_config"]), "timed_steps": 10}
    # A model of an earlier benchmark is reused: it takes 12 GB.
    model = ROOT / recipe["checkpoint_dir"]
    recipe["checkpoint_dir"] = str(model if model.is_dir() else Path(tmp_path_factory.mktemp("true_size")) / "model")
    return BenchmarkTrainConfig(**recipe)


@pytest.mark.gpu
@pytest.mark.parametrize("variant", MAX_GIB)
def test_method_stays_within_its_memory(variant, config):
    (row,) = measure_training(replace(config, only=[variant]))
    print(variant, row)  # noqa: T201
    assert row["outcome"] == "measured" and math.isfinite(row["loss"])
    assert row["peak_gib"] <= MAX_GIB[variant]
