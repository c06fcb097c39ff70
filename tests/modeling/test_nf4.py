"""QLoRA: which weights are quantized, training by both forwards, and an adapter like any other."""

import json
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file

from higgs_recipes.configs.inference import MergeConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.synthesis import speak_greedily
from higgs_recipes.modeling.lora import merge_adapter
from higgs_recipes.modeling.merge import merge
from higgs_recipes.modeling.model import load_model
from higgs_recipes.modeling.nf4 import NF4Linear, dequantize_nf4, is_four_bit
from higgs_recipes.training.trainer import HiggsTrainer
from tests.helpers.checkpoints import base_fingerprint, build, first_row_logits, tiny_folder, tiny_model_config
from tests.helpers.train_once import make_trainer, trained_weights


pytestmark = pytest.mark.slow  # `make slow_test` installs bitsandbytes


def four_bit_base() -> ModelConfig:
    return ModelConfig(str(tiny_folder() / "model"), dtype="float32", load_in_4bit=True)


def qlora(folder, **fields) -> HiggsTrainer:
    defaults = {"method": "lora", "load_in_4bit": True, "optim": "adamw_torch", "learning_rate": 1e-2, "lora_r": 4}
    defaults |= {"per_device_train_batch_size": 4, "pack_to": 400, "max_steps": 3}
    return make_trainer(folder, model_folder=tiny_folder() / "model", **defaults | fields)


def test_attention_and_feed_forward_are_quantized_and_the_rest_is_unchanged():
    model, before = load_model(four_bit_base())[0], load_file(tiny_folder() / "model" / "model.safetensors")
    packed = {name for name, weight in model.named_parameters() if weight.dtype == torch.uint8}
    assert packed == {name for name in before if "_proj.weight" in name} and len(packed) == 2 * (4 + 3 + 3)
    for name, weight in model.named_parameters():
        assert name in packed or torch.equal(weight, before[name]), name
        assert name not in packed or weight.numel() == before[name].numel() // 2, name
    states = [module.weight.quant_state for module in model.modules() if type(module).__name__ == "Linear4bit"]
    assert {(state.quant_type, state.nested) for state in states} == {("nf4", True)}
    assert is_four_bit(model) and not is_four_bit(load_model(tiny_model_config())[0])


def test_all_forwards_train_the_same_adapter_and_write_the_same_files(tmp_path):
    weights, files = [], []
    for fields in (
        {"fast_path": False},
        {"fast_path": True},
        {"compile_layers": True},
        {"compile_layers": True, "gradient_checkpointing": True},
    ):
        folder = tmp_path / str(len(files))
        trainer = qlora(folder, optim="sgd", learning_rate=0.05, **fields)
        has_nf4_linear = any(isinstance(module, NF4Linear) for module in trainer.model.modules())
        assert has_nf4_linear is fields.get("gradient_checkpointing", False) and is_four_bit(trainer.model)
        trainer.train()
        trainer.save_model()
        weights.append(trained_weights(trainer))
        files.append(sorted(path.relative_to(folder) for path in folder.rglob("*")))
    for index in (1, 2, 3):
        assert files[index] == files[0] and weights[index].keys() == weights[0].keys()
        for name, weight in weights[index].items():
            torch.testing.assert_close(weight, weights[0][name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dequantized_weights_equal_those_of_bitsandbytes(dtype):
    bitsandbytes = import_module("bitsandbytes")
    torch.manual_seed(0)
    for shape in ((96, 64), (1024, 192)):  # with fewer scales than a second-level block, and with more
        weight = torch.randn(shape).to(dtype)
        linear = bitsandbytes.nn.Linear4bit(shape[1], shape[0], bias=False, compute_dtype=dtype, quant_type="nf4")
        linear.load_state_dict({"weight": weight})
        linear = linear.to("cpu")
        layer = NF4Linear(linear)
        quantized = (layer.packed, layer.values, layer.scales, layer.scale_values, layer.scale_scales, layer.offset)
        expected = bitsandbytes.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state).to(dtype)
        assert torch.equal(dequantize_nf4(*quantized, dtype=dtype), expected) and expected.shape == shape
        states = torch.randn(5, shape[1], dtype=dtype, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(states).float().square().sum(), states)
        (other,) = torch.autograd.grad(linear.train()(states).float().square().sum(), states)
        assert torch.equal(layer(states), states @ expected.t())
        torch.testing.assert_close(gradient, other, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)


def test_training_continues_after_an_evaluation(tmp_path):
    targets = ["attention", "audio_mlp", "heads"]
    trainer = qlora(tmp_path, max_steps=30, lora_targets=targets, logging_steps=1, learning_rate=2e-3)
    trainer.evaluate()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 1


def test_resumed_run_is_bit_equal(tmp_path):
    uninterrupted = qlora(
        tmp_path / "uninterrupted", save_strategy="steps", save_steps=2, max_steps=4, lora_dropout=0.1
    )
    uninterrupted.train()
    resumed = qlora(tmp_path / "resumed", max_steps=4, lora_dropout=0.1)
    resumed.train(resume_from_checkpoint=str(tmp_path / "uninterrupted/checkpoint-2"))
    expected, found = trained_weights(uninterrupted), trained_weights(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


def test_adapter_has_the_usual_files_and_loads_on_either_base(tmp_path):
    saved = {}
    for four_bit in (True, False):
        trainer = qlora(tmp_path / str(four_bit), load_in_4bit=four_bit)
        trainer.train()
        trainer.run_info["base_fingerprint"] = base_fingerprint(trainer.args)
        trainer.save_model()
        weights = load_file(tmp_path / str(four_bit) / "adapter_model.safetensors")
        config = json.loads((tmp_path / str(four_bit) / "adapter_config.json").read_text())
        config["target_modules"].sort()
        saved[four_bit] = {name: (weight.shape, weight.dtype) for name, weight in weights.items()}, config
        if four_bit:
            trained = first_row_logits(trainer.model.eval())
    assert saved[True] == saved[False]
    assert base_fingerprint(four_bit_base()) == base_fingerprint(tiny_model_config())
    quantized, original = (
        load_model(base, adapter=tmp_path / "True")[0] for base in (four_bit_base(), tiny_model_config())
    )
    torch.testing.assert_close(first_row_logits(quantized), trained, atol=1e-5, rtol=0)
    assert 0 < (first_row_logits(original) - trained).abs().max() < 1  # the quantization of the base


def test_adapter_is_merged_into_the_original_base_only(tmp_path):
    trainer = qlora(tmp_path / "adapter")
    trainer.train()
    trainer.run_info["base_fingerprint"] = base_fingerprint(trainer.args)
    trainer.save_model()
    expected = first_row_logits(load_model(tiny_model_config(), adapter=tmp_path / "adapter")[0])
    base = {"model_name_or_path": str(tiny_folder() / "model"), "dtype": "float32"}
    merge(
        MergeConfig(adapter=str(tmp_path / "adapter"), output_dir=str(tmp_path / "merged"), **base),
        speak=speak_greedily,
    )
    merged, _ = load_model(ModelConfig(str(tmp_path / "merged"), dtype="float32"))
    torch.testing.assert_close(first_row_logits(merged), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="the base is quantized to 4 bits: load it without load_in_4bit to merge"):
        merge_adapter(trainer.model)
    with pytest.raises(InputError, match="load_in_4bit must be false: adapters, also those of QLoRA, are merged"):
        MergeConfig(adapter="mine", load_in_4bit=True)


@pytest.mark.parametrize("field", ["load_in_4bit", "fp8"])
def test_sharding_of_quantized_weights_is_refused(field, monkeypatch):
    fields = {"output_dir": "unused", "datasets": ["none"], "report_to": "none", "use_cpu": True, "bf16": True}
    config = SFTConfig(model_name_or_path=str(tiny_folder() / "model"), **fields, **{field: True})
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(
        InputError, match=f"{field} needs all weights of the base on each GPU, but FSDP would shard them: launch"
    ):
        build(config)
