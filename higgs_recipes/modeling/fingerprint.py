"""Identify a base model by a hash of a few rows of its weights."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open

from higgs_recipes.errors import InputError


# A few rows of these suffice; reading all weights would take 12 GB.
FINGERPRINT_WEIGHTS = ("model.norm.weight", "model.layers.0.self_attn.q_proj.weight", "audio_lm_head.weight")


def folder_fingerprint(folder: Path) -> str:
    """The first 16 hex digits of the SHA-256 of a few rows of a checkpoint's weights, rounded to bfloat16.

    Raises:
        InputError: no safetensors file contains one of `FINGERPRINT_WEIGHTS`.
    """
    digest = hashlib.sha256()
    for name in FINGERPRINT_WEIGHTS:
        with safe_open(_weights_file(folder, name), framework="pt") as weights:
            rows = weights.get_slice(name)[:8]
        digest.update(rows.to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _weights_file(folder: Path, weight: str) -> Path:
    """The safetensors file with a weight: the only file, or the one that the index names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        file = json.loads(index.read_text(encoding="utf-8"))["weight_map"].get(weight)
        path = folder / Path(file).name if file else None  # .name: the index must not point outside its folder
    else:
        path = folder / "model.safetensors"
    if path is None or not path.is_file():
        raise InputError(f"{folder}: no safetensors file with the weight {weight}")
    return path
