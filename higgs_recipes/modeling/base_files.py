"""The files of a base checkpoint: fetch them, and copy all but the weights to a fine-tuned model."""

import shutil
from pathlib import Path

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.run_record import MERGE_INFO, RUN_INFO


MODEL_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def fetch_base(config: ModelConfig) -> Snapshot:
    """Fetch the files of the recipe's base model.

    Raises:
        InputError: the folder or repository does not exist, or cannot be fetched.
    """
    return fetch(config.model_name_or_path, revision=config.model_revision, allow_patterns=MODEL_PATTERNS)


def copy_base_files(base: Snapshot, folder: Path) -> None:
    """Copy the base's tokenizer, processor, chat template and generation config to a folder with weights.

    Existing files are kept. The base's own run.json and merge.json are not copied.
    """
    excluded = ("*.safetensors", "*.index.json", RUN_INFO, MERGE_INFO)
    for path in sorted({path for pattern in MODEL_PATTERNS for path in base.folder.glob(pattern)}):
        if not any(path.match(pattern) for pattern in excluded) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
