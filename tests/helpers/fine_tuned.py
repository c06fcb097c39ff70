"""Runs of `fine_tune` on a small encoded corpus of random codes, as scripts/sft.py makes them."""

from functools import cache
from pathlib import Path
from typing import Any

from higgs_recipes.audio.codec import codec_revision
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.provenance import resolved_recipe
from higgs_recipes.training.checkpoints import checkpoint_to_resume
from higgs_recipes.training.fine_tune import fine_tune
from higgs_recipes.training.trainer import HiggsTrainer
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.encoded_corpus import encoded_rows, write_encoded
from tests.helpers.shared_folder import shared_folder


NUM_ROWS = 8


@cache
def codes_folder(name: str = "codes", *, num_rows: int = NUM_ROWS) -> Path:
    """An encoded corpus in a folder of this process."""
    folder = shared_folder() / f"{name}-{num_rows}-{id(codes_folder)}"
    codec = codec_revision(str(tiny_folder() / "codec"), revision=None)
    write_encoded(folder, encoded_rows(num_rows, codec=codec))
    return write_encoded(folder, encoded_rows(3, codec=codec), split="test")


def recipe(folder: Path, **fields: Any) -> SFTConfig:
    """A recipe of four steps with a constant learning rate, which saves each of them."""
    defaults = {
        "model_name_or_path": str(tiny_folder() / "model"),
        "codec_name_or_path": str(tiny_folder() / "codec"),
        "dtype": "float32",
        "datasets": [str(codes_folder())],
        "lora_dropout": 0.1,
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_steps": 1,
        "allow_untrained": True,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return SFTConfig(output_dir=str(folder), **(defaults | fields))


def fine_tuned(folder: Path, **fields: Any) -> HiggsTrainer:
    """A run of scripts/sft.py without its card."""
    config = recipe(folder, **fields)
    state = ResultState(folder, script="sft", recipe=resolved_recipe(config, given=set(fields)), repo_id=None)
    return fine_tune(config, state, checkpoint=checkpoint_to_resume(config, is_same_run=state.is_same_run()))
