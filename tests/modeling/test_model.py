"""Load the model and its tokenizer, and refuse checkpoints that are not Higgs Audio v2."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HiggsAudioV2ForConditionalGeneration, HiggsAudioV2Processor

from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.modeling.model import load_model
from tests.helpers.checkpoints import build, load_tiny, sft_config, tiny_folder


def copy_model(folder, **config_fields) -> ModelConfig:
    """A copy of the tiny model with other values in its config.json."""
    shutil.copytree(tiny_folder() / "model", folder)
    config = json.loads((folder / "config.json").read_text()) | config_fields
    (folder / "config.json").write_text(json.dumps(config))
    return ModelConfig(model_name_or_path=str(folder), dtype="float32")


def test_text_head_is_loaded_with_its_weights():
    model, _ = load_tiny()
    saved = load_file(tiny_folder() / "model" / "model.safetensors")
    assert torch.equal(model.text_lm_head.weight, saved["text_lm_head.weight"])
    assert not model.training


def test_checkpoint_and_processor_load_with_plain_transformers():
    folder = tiny_folder() / "model"
    model = HiggsAudioV2ForConditionalGeneration.from_pretrained(folder)
    processor = HiggsAudioV2Processor.from_pretrained(folder)
    assert processor.tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>") == model.config.audio_token_id
    assert processor.audio_tokenizer.config.codebook_size == 1024


def test_seed_determines_the_new_adapter(tmp_path):
    adapters = []
    for seed in (1, 1, 2):
        torch.rand(3)  # random numbers used before do not matter
        model, _ = build(sft_config(tmp_path, seed=seed))
        adapters.append(torch.cat([w.flatten() for name, w in model.named_parameters() if "lora_A" in name]).clone())
    assert torch.equal(adapters[0], adapters[1]) and not torch.equal(adapters[0], adapters[2])


def test_old_layout_is_refused_with_the_name_of_the_new_checkpoint(tmp_path):
    config = copy_model(tmp_path / "old", model_type="higgs_audio", architectures=["HiggsAudioModel"])
    with pytest.raises(InputError, match="old boson_multimodal layout.*bosonai/higgs-tts-2-3b-base"):
        load_model(config)


def test_another_model_type_is_refused(tmp_path):
    with pytest.raises(InputError, match="model_type 'llama', not 'higgs_audio_v2'"):
        load_model(copy_model(tmp_path / "llama", model_type="llama"))


@pytest.mark.parametrize("content, message", [("{", "is not JSON: "), ("[]", "has model_type None")])
def test_invalid_config_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=f"config.json {message}"):
        load_model(ModelConfig(model_name_or_path=str(tmp_path)))


def test_default_codebook_size_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"codebook_size 1024 with BOS and EOS codes \(1024, 1025\)"):
        load_model(copy_model(tmp_path / "small", codebook_size=1024))


def test_checkpoint_without_a_text_head_is_refused(tmp_path):
    config = copy_model(tmp_path / "headless")
    weights = load_file(tmp_path / "headless/model.safetensors")
    del weights["text_lm_head.weight"]
    save_file(weights, tmp_path / "headless/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="1 weights are missing.*text_lm_head.weight"):
        load_model(config)


def test_pickled_and_truncated_weights_are_refused(tmp_path):
    config = copy_model(tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_model(config)
    weights.rename(tmp_path / "model/pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_model(config)


@pytest.mark.parametrize(
    "attention, problem",
    [("flash", 'attn_implementation="flash"` is not supported'), ("flash_attention_4", "install")],
)
def test_unknown_attention_is_refused_with_its_field(attention, problem):
    config = ModelConfig(str(tiny_folder() / "model"), attn_implementation=attention)
    with pytest.raises(InputError, match=f"cannot be loaded with attn_implementation '{attention}': .*{problem}"):
        load_model(config)


def test_tokenizer_of_another_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="the tokenizer has .* config.json .* use both from one checkpoint"):
        load_model(copy_model(tmp_path / "model", audio_token_id=300))


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no config.json, so it is not a model checkpoint"):
        load_model(ModelConfig(model_name_or_path=str(tmp_path)))


def test_audio_embeddings_have_the_type_of_text_embeddings():
    model, _ = load_tiny()
    model.model.embed_tokens.bfloat16()
    text = model.model.embed_tokens(torch.tensor([1, 2]))
    audio = model.model.embed_audio_tokens(torch.zeros((3, 8), dtype=torch.long))
    assert text.dtype == audio.dtype == torch.bfloat16
    assert model.model.embed_audio_tokens.embed_audio_tokens.weight.dtype == torch.float32
