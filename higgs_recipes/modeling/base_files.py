"""The files of a base checkpoint: fetch them, and copy all but the weights to a fine-tuned model."""

import shutil
from pathlib import Path

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.result_files import BASE_FILES, LICENSE_FILES


MODEL_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE", "NOTICE", "README.md"]


def fetch_base(config: ModelConfig) -> Snapshot:
    """Fetch the files of the recipe's base model.

    Raises:
        InputError: the folder or repository does not exist, or cannot be fetched.
    """
    return fetch(config.model_name_or_path, revision=config.model_revision, allow_patterns=MODEL_PATTERNS)


def copy_base_files(base: Snapshot, folder: Path) -> None:
    """Copy the base's tokenizer, processor, chat template and generation config to a folder with weights.

    Existing files are kept. Other files of the base, such as its records or files of the user, are not copied.
    """
    for name in (*BASE_FILES, *LICENSE_FILES):
        if (base.folder / name).is_file() and not (folder / name).exists():
            shutil.copyfile(base.folder / name, folder / name)
