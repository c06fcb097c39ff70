"""The golden figures of Seed-TTS-eval's speaker model, and checkpoints with their weights."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from higgs_recipes.audio.wavlm_ecapa import WavLMEcapa, load_wavlm_ecapa, rename_weights
from tests.helpers.paths import DATA


GOLDEN = DATA / "golden/wavlm_ecapa.safetensors"


@cache
def figures() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@cache
def metadata() -> dict:
    with safe_open(GOLDEN, framework="pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items()}


def golden_weights() -> dict[str, Tensor]:
    """The state dict under the published checkpoint's names."""
    return {key.removeprefix("weights."): value for key, value in figures().items() if key.startswith("weights.")}


@cache
def golden_model() -> WavLMEcapa:
    return load_wavlm_ecapa(golden_weights(), wavlm_config=metadata()["transformers_config"])


def save_golden_port(folder: Path, *, renamed: bool = True) -> Path:
    """Save the weights as a safetensors port, under the model's own names or those of the original."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = rename_weights(golden_weights()) if renamed else golden_weights()
    save_file({key: weight.contiguous() for key, weight in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"wavlm_config": metadata()["transformers_config"]}))
    return folder


def save_golden_pickle(path: Path) -> Path:
    torch.save({"model": golden_weights(), "best_valid_eer": 100.0}, path)
    return path
