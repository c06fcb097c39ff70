import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HiggsAudioV2ForConditionalGeneration, HiggsAudioV2Processor

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.loss import dual_ffn_losses
from higgs_recipes.modeling.lora import add_lora
from higgs_recipes.modeling.model import load_model
from higgs_recipes.samples import build_sample
from tests.helpers.checkpoints import base_fingerprint, build, load_tiny, random_rows, tiny_folder, tiny_model_config


def sft_config(tmp_path, **fields) -> SFTConfig:
    plain = {"output_dir": str(tmp_path / "out"), "datasets": ["none"], "use_cpu": True, "report_to": "none"}
    model = {"model_name_or_path": str(tiny_folder() / "model"), "dtype": "float32"}
    return SFTConfig(**(plain | model | fields))


def copy_model(folder, **config_fields):
    shutil.copytree(tiny_folder() / "model", folder)
    config = json.loads((folder / "config.json").read_text()) | config_fields
    (folder / "config.json").write_text(json.dumps(config))
    return ModelConfig(model_name_or_path=str(folder), dtype="float32")


def save_adapter(tmp_path, run_info: dict | None):
    torch.manual_seed(0)
    model, _ = build(sft_config(tmp_path))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    if run_info is not None:
        (folder / "run.json").write_text(json.dumps(run_info))
    return folder, model


def logits(model) -> torch.Tensor:
    sample = build_sample(random_rows(1)[0], load_tiny()[1])
    batch = HiggsCollator(load_tiny()[0].config)([sample])
    with torch.inference_mode():
        return model(**{name: batch[name] for name in ("input_ids", "audio_input_ids", "audio_input_ids_mask")}).logits


def test_the_text_head_is_loaded_with_its_weights():
    model, _ = load_tiny()
    saved = load_file(tiny_folder() / "model" / "model.safetensors")
    assert torch.equal(model.text_lm_head.weight, saved["text_lm_head.weight"])
    assert not model.training


def test_the_checkpoint_and_its_processor_load_with_plain_transformers():
    folder = tiny_folder() / "model"
    model = HiggsAudioV2ForConditionalGeneration.from_pretrained(folder)
    processor = HiggsAudioV2Processor.from_pretrained(folder)
    assert processor.tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>") == model.config.audio_token_id
    assert processor.audio_tokenizer.config.codebook_size == 1024


@pytest.mark.parametrize(
    ("target", "adapted"),
    [
        ("attention", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}),
        ("audio_mlp", {"audio_mlp.gate_proj", "audio_mlp.up_proj", "audio_mlp.down_proj"}),
        ("mlp", {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}),
        ("heads", {"audio_lm_head", "text_lm_head"}),
        ("model.layers.1.mlp.up_proj", {"mlp.up_proj"}),
    ],
)
def test_a_target_adapts_its_modules_and_no_others(tmp_path, target, adapted):
    model = add_lora(load_tiny()[0], sft_config(tmp_path, lora_targets=[target]))
    names = [name.removesuffix(".lora_A.default.weight") for name, _ in model.named_parameters() if "lora_A" in name]
    assert {".".join(name.removeprefix("base_model.model.").split(".")[-2:]) for name in names} == adapted
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_a_seed_draws_its_adapter_whatever_was_drawn_before(tmp_path):
    drawn = []
    for seed in (1, 1, 2):
        torch.rand(3)  # as much else may draw before
        model, _ = build(sft_config(tmp_path, seed=seed))
        drawn.append(torch.cat([w.flatten() for name, w in model.named_parameters() if "lora_A" in name]).clone())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_target_that_names_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="lora_targets: 'attn' matches no linear module.*attention, audio_mlp"):
        add_lora(load_tiny()[0], sft_config(tmp_path, lora_targets=["attention", "attn"]))
    with pytest.raises(InputError, match=r"lora_targets: 'attn\(' matches no linear module"):
        add_lora(load_tiny()[0], sft_config(tmp_path, lora_targets=["attn("]))


def test_the_loss_is_the_same_through_a_fresh_adapter(tmp_path):
    model, tokenizer = load_tiny()
    batch = HiggsCollator(model.config)([build_sample(row, tokenizer) for row in random_rows(3)])
    with torch.inference_mode():
        plain = dual_ffn_losses(model, batch)
        adapted = dual_ffn_losses(add_lora(model, sft_config(tmp_path)), batch)
    assert torch.equal(plain.codebook_sums, adapted.codebook_sums)


def test_an_adapter_comes_back_and_can_be_left_out(tmp_path):
    folder, model = save_adapter(tmp_path, {"base_fingerprint": base_fingerprint(tiny_model_config())})
    loaded, _ = load_model(tiny_model_config(), adapter=folder, device="cpu")
    assert torch.equal(logits(loaded), logits(model.eval()))
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(load_tiny()[0]))
    assert not torch.equal(logits(loaded), logits(load_tiny()[0]))
    assert str(tiny_folder()) not in (folder / "adapter_config.json").read_text()


def test_an_adapter_for_another_base_is_refused(tmp_path):
    folder, _ = save_adapter(tmp_path, {"base_fingerprint": "0123456789abcdef", "base_model": "someone/other"})
    with pytest.raises(InputError, match="trained on someone/other with fingerprint 0123456789abcdef; this base"):
        load_model(tiny_model_config(), adapter=folder)


def test_an_adapter_of_another_shape_is_refused_where_it_has_no_record(tmp_path):
    folder, _ = save_adapter(tmp_path, None)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: weight[..., :-1].contiguous() for name, weight in weights.items()}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(InputError, match="adapter: does not fit the base"):
        load_model(tiny_model_config(), adapter=folder)


def test_an_adapter_that_lacks_weights_or_has_a_broken_record_is_refused(tmp_path):
    folder, _ = save_adapter(tmp_path, None)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="adapter_model.safetensors lacks 1 weights, e.g. base_model"):
        load_model(tiny_model_config(), adapter=folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is not JSON"):
        load_model(tiny_model_config(), adapter=folder)


def test_a_pickled_adapter_is_refused(tmp_path):
    folder, _ = save_adapter(tmp_path, None)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match="no adapter_model.safetensors"):
        load_model(tiny_model_config(), adapter=folder)


def test_the_old_layout_is_refused_with_the_new_name(tmp_path):
    config = copy_model(tmp_path / "old", model_type="higgs_audio", architectures=["HiggsAudioModel"])
    with pytest.raises(InputError, match="old boson_multimodal layout.*bosonai/higgs-tts-2-3b-base"):
        load_model(config)


def test_another_kind_of_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="model_type 'llama', not 'higgs_audio_v2'"):
        load_model(copy_model(tmp_path / "llama", model_type="llama"))


@pytest.mark.parametrize("content, message", [("{", "is not JSON: "), ("[]", "has model_type None")])
def test_a_broken_config_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=f"config.json {message}"):
        load_model(ModelConfig(model_name_or_path=str(tmp_path)))


def test_the_default_codebook_size_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"codebook_size 1024 with BOS and EOS codes \(1024, 1025\)"):
        load_model(copy_model(tmp_path / "small", codebook_size=1024))


def test_a_checkpoint_without_its_text_head_is_refused(tmp_path):
    config = copy_model(tmp_path / "headless")
    weights = load_file(tmp_path / "headless/model.safetensors")
    del weights["text_lm_head.weight"]
    save_file(weights, tmp_path / "headless/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="1 weights are missing.*text_lm_head.weight"):
        load_model(config)


def test_pickled_and_broken_weights_are_refused(tmp_path):
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
def test_an_attention_that_is_not_there_is_refused_by_its_field(attention, problem):
    config = ModelConfig(str(tiny_folder() / "model"), attn_implementation=attention)
    with pytest.raises(InputError, match=f"cannot be loaded with attn_implementation '{attention}': .*{problem}"):
        load_model(config)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="the tokenizer has .* config.json .* use both from one checkpoint"):
        load_model(copy_model(tmp_path / "model", audio_token_id=300))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no config.json, so it is not a model checkpoint"):
        load_model(ModelConfig(model_name_or_path=str(tmp_path)))


def test_the_fingerprint_tells_bases_apart_and_not_their_types(tmp_path):
    model = load_tiny()[0]
    model.to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    assert base_fingerprint(ModelConfig(str(tmp_path / "bf16"))) == base_fingerprint(tiny_model_config())
    torch.nn.init.normal_(model.audio_lm_head.weight)
    model.save_pretrained(tmp_path / "other")
    assert base_fingerprint(ModelConfig(str(tmp_path / "other"))) != base_fingerprint(tiny_model_config())
