"""Merge an adapter: a native checkpoint with the logits of base and adapter."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, HiggsAudioV2ForConditionalGeneration, HiggsAudioV2Processor

from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.synthesis import speak_greedily
from higgs_recipes.modeling.merge import merge
from tests.helpers.checkpoints import base_fingerprint, build, sft_config, tiny_folder, tiny_model_config


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter with random weights on every target."""
    folder = tmp_path_factory.mktemp("adapter")
    config = sft_config(folder / "out", lora_targets=["attention", "audio_mlp", "mlp", "heads"])
    torch.manual_seed(0)
    model, _ = build(config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    run = {"base_model": str(folder), "base_fingerprint": base_fingerprint(tiny_model_config())}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def config(adapter, output_dir, **fields) -> MergeConfig:
    defaults = {"model_name_or_path": str(tiny_folder() / "model"), "dtype": "float32", "adapter": str(adapter)}
    return MergeConfig(output_dir=str(output_dir), **(defaults | fields))


def test_merged_checkpoint_has_the_logits_of_the_adapter(adapter, tmp_path):
    record = merge(config(adapter, tmp_path / "merged", check=True), speak=speak_greedily)
    assert 0 < record["max_logit_difference"] < 1e-4
    assert record["mean_logit_difference"] <= record["max_logit_difference"]
    assert record["likeliest_codes_equal"] == 1.0
    assert json.loads((tmp_path / "merged/merge.json").read_text()) == record
    assert (record["base_model"], record["adapter"]) == ("model", adapter.name)
    assert json.loads((tmp_path / "merged/run.json").read_text())["base_model"] == adapter.name


def test_merged_checkpoint_is_a_complete_native_checkpoint(adapter, tmp_path):
    merge(config(adapter, tmp_path / "merged"), speak=speak_greedily)
    weights = load_file(tmp_path / "merged/model.safetensors")
    base = load_file(tiny_folder() / "model/model.safetensors")
    assert weights.keys() == base.keys()
    assert not torch.equal(weights["text_lm_head.weight"], base["text_lm_head.weight"])
    assert torch.equal(weights["model.norm.weight"], base["model.norm.weight"])

    model = HiggsAudioV2ForConditionalGeneration.from_pretrained(tmp_path / "merged")
    assert torch.equal(model.audio_lm_head.weight, weights["audio_lm_head.weight"])
    assert model.generation_config.ras_win_len == 7
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(
        HiggsAudioV2Processor.from_pretrained(tmp_path / "merged").tokenizer
    )


def test_without_check_no_difference_is_recorded(adapter, tmp_path):
    assert merge(config(adapter, tmp_path / "merged"), speak=speak_greedily)["max_logit_difference"] is None


def test_folder_that_is_not_empty_is_kept(adapter, tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/notes.txt").write_text("notes")
    with pytest.raises(InputError, match="exists and is not empty"):
        merge(config(adapter, tmp_path / "merged"), speak=speak_greedily)
    assert [path.name for path in tmp_path.rglob("*")] == ["merged", "notes.txt"]


def test_adapter_with_nan_is_not_merged(adapter, tmp_path):
    weights = load_file(adapter / "adapter_model.safetensors")
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("adapter_config.json", "run.json"):
        (broken / name).write_text((adapter / name).read_text())
    save_file({name: weight * float("nan") for name, weight in weights.items()}, broken / "adapter_model.safetensors")
    with pytest.raises(InputError, match="broken: NaNs detected"):
        merge(config(broken, tmp_path / "merged"), speak=speak_greedily)
    assert not (tmp_path / "merged").exists()
