"""Fingerprints tell base models apart, independently of data type and sharding."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.modeling.fingerprint import FINGERPRINT_WEIGHTS, folder_fingerprint
from tests.helpers.checkpoints import base_fingerprint, load_tiny, tiny_folder, tiny_model_config


def test_fingerprint_depends_on_the_weights_and_not_on_their_type(tmp_path):
    model = load_tiny()[0]
    model.to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    assert base_fingerprint(ModelConfig(str(tmp_path / "bf16"))) == base_fingerprint(tiny_model_config())
    torch.nn.init.normal_(model.audio_lm_head.weight)
    model.save_pretrained(tmp_path / "other")
    assert base_fingerprint(ModelConfig(str(tmp_path / "other"))) != base_fingerprint(tiny_model_config())


def test_fingerprint_does_not_depend_on_sharding(tmp_path):
    weights = load_file(tiny_folder() / "model/model.safetensors")
    weight_map = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(FINGERPRINT_WEIGHTS)}
    for file in set(weight_map.values()):
        save_file({name: weights[name] for name in weight_map if weight_map[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert folder_fingerprint(tmp_path) == base_fingerprint(tiny_model_config())


@pytest.mark.parametrize("file", [None, "../model.safetensors"])
def test_missing_weight_is_refused(tmp_path, file):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"outside the folder")
    weight_map = {} if file is None else dict.fromkeys(FINGERPRINT_WEIGHTS, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match="folder: no safetensors file with the weight model.norm.weight"):
        folder_fingerprint(folder)
