"""The files of a base checkpoint: fetched once, and copied beside the weights of a fine-tuned model."""

import shutil
from pathlib import Path

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.run_record import MERGE_INFO, RUN_INFO


MODEL_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def fetch_base(config: ModelConfig) -> Snapshot:
    """The files of the recipe's base model.

    Raises:
        InputError: no such folder or repository, or it cannot be fetched.
    """
    return fetch(config.model_name_or_path, revision=config.model_revision, allow_patterns=MODEL_PATTERNS)


def copy_companions(base: Snapshot, folder: Path) -> None:
    """Copy the base's tokenizer, processor, template and generation config into a folder of weights.

    What is there already stays, and the records of how the base itself was made are left out.
    """
    others = ("*.safetensors", "*.index.json", RUN_INFO, MERGE_INFO)
    for path in sorted({path for pattern in MODEL_PATTERNS for path in base.folder.glob(pattern)}):
        if not any(path.match(pattern) for pattern in others) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
