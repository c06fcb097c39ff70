"""What the ASR and speaker models share: loading a checkpoint, and their sample rate."""

import hashlib
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_file
from higgs_recipes.hub.download import fetch


METRIC_MODEL_RATE = 16_000  # Hz
# Whole checkpoints only: whisper-large-v3 also holds float32 copies under names of their own.
_CHECKPOINT_FILES = ["*.json", "*.txt", "model.safetensors", "model-*-of-*.safetensors"]


def _resample(waveform: Tensor) -> Tensor:
    return torchaudio.functional.resample(waveform.detach().cpu().float(), SAMPLE_RATE, METRIC_MODEL_RATE)


def _fetch_checkpoint(name: str, revision: str | None, *, field: str) -> tuple[Path, str]:
    """The folder of a checkpoint and its identity."""
    files = fetch(name, revision=revision, allow_patterns=_CHECKPOINT_FILES)
    folder = files.folder
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"{field} {name}: no weights in safetensors there, and a pickle is never loaded; set {field}_revision to "
            "a commit that has them (a repo's conversion pull request often does), or name another model"
        )
    if files.commit is None:
        digest = hashlib.sha256("".join(map(sha256_file, weights)).encode()).hexdigest()
        return folder, f"local@{digest[:16]}"
    return folder, files.commit


def _load_whole(auto_class: type, folder: Path, *, name: str, field: str) -> torch.nn.Module:
    """The model in evaluation mode, every weight from the checkpoint: a head left at random would judge at random."""
    try:
        model, info = auto_class.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except ValueError as error:
        raise InputError(f"{field} {name}: {auto_class.__name__} cannot load it; name another model") from error
    if info["missing_keys"]:
        raise InputError(
            f"{field} {name}: the checkpoint lacks {len(info['missing_keys'])} weights of {type(model).__name__}, "
            f"e.g. {min(info['missing_keys'])}; name a model that was trained for this"
        )
    return model.eval()
