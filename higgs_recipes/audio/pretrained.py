"""Pretrained metric models (ASR and speaker): load a checkpoint, and resample to the rate that they expect."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchaudio
from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_files
from higgs_recipes.hub.download import fetch
from higgs_recipes.hub.safe_files import check_checkpoint, check_processor


METRIC_MODEL_RATE = 16_000  # Hz
# Weights by their standard names only: whisper-large-v3 also stores float32 copies under other names.
CHECKPOINT_FILES = ("*.json", "*.txt", "model.safetensors", "model-*-of-*.safetensors")


class SpeakerModel(ABC):
    """A speaker model: waveform -> embedding.

    Attributes:
        revision: commit on the Hub, "local@" and a hash of the weights, or package and version.
        score_name: name of the cosine of two embeddings; scores of different models do not compare.
    """

    revision: str
    score_name: str

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        """Embed each clip (N_i,) at `SAMPLE_RATE` as a unit vector; None for a clip that is too short or silent."""
        return self.embed_resampled([resample_for_metrics(waveform) for waveform in waveforms])

    def embed_resampled(self, clips: Sequence[Tensor]) -> list[Tensor | None]:
        """As `embed`, of clips (N_i,) at `METRIC_MODEL_RATE`, on the CPU."""
        # One clip at a time: models normalize over time, so padding would change the embedding.
        embeddings = [self._embed_one(clip) for clip in clips]
        return [None if embedding is None else embedding / embedding.norm() for embedding in embeddings]

    @abstractmethod
    def _embed_one(self, clip: Tensor) -> Tensor | None:
        """The embedding (E,) of a clip (N,) at `METRIC_MODEL_RATE`, float32 on the CPU; None if it has none."""


def score_name(name: str) -> str:
    """The name of the cosine of a speaker model's embeddings, by the last part of the model's name.

    >>> score_name("microsoft/wavlm-base-plus-sv")
    'sim_wavlm_base_plus_sv'
    """
    return "sim_" + name.rstrip("/").rsplit("/", 1)[-1].replace("-", "_")


def resample_for_metrics(waveform: Tensor) -> Tensor:
    """Resample a waveform (N,) from `SAMPLE_RATE` to `METRIC_MODEL_RATE`, as float32 on the CPU."""
    samples = waveform.detach().cpu().float()
    return torchaudio.functional.resample(samples, SAMPLE_RATE, METRIC_MODEL_RATE) if len(samples) else samples


def fetch_checkpoint(name: str, revision: str | None, *, field: str) -> tuple[Path, str]:
    """Fetch a checkpoint's config and safetensors weights.

    Args:
        name: Hub id or folder.
        field: config field that names the model, for messages.

    Returns:
        The folder, and the revision: the commit on the Hub, or "local@" and 16 hex digits of the weights' hash.

    Raises:
        InputError: not found, no weights in safetensors, or a file that names others than those of the checkpoint.
    """
    files = fetch(name, revision=revision, allow_patterns=list(CHECKPOINT_FILES))
    folder = files.folder
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(
            f"{field} {name}: no weights in safetensors, and pickles are never loaded; set {field}_revision to a "
            "commit that has them (often that of a conversion pull request), or choose another model"
        )
    check_checkpoint(folder, name=f"{field} {name}")
    check_processor(folder, name=f"{field} {name}")
    if files.commit is None:
        return folder, f"local@{sha256_files(weights)}"
    return folder, files.commit


def load_part(auto_class: type, folder: Path, *, name: str, field: str) -> Any:
    """Load the config, processor or feature extractor of a checkpoint; code in the checkpoint is never run.

    Raises:
        InputError: transformers cannot load it without running code of the checkpoint, or it is broken.
    """
    try:
        return auto_class.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(f"{field} {name}: {auto_class.__name__} cannot load it: {reason}") from error


def load_complete_model(auto_class: type, folder: Path, *, name: str, field: str) -> torch.nn.Module:
    """Load a model in float32 and evaluation mode; every weight must be in the checkpoint.

    transformers would only warn and initialize a missing head at random, which makes scores random.

    Raises:
        InputError: another architecture, or missing weights.
    """
    try:
        model, info = auto_class.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except ValueError as error:
        raise InputError(f"{field} {name}: {auto_class.__name__} cannot load it; choose another model") from error
    if info["missing_keys"]:
        raise InputError(
            f"{field} {name}: the checkpoint lacks {len(info['missing_keys'])} weights of {type(model).__name__}, "
            f"e.g. {min(info['missing_keys'])}; choose a model that was trained for this task"
        )
    return model.eval()
