"""FP8: which layers are replaced, the rounding of their products, and LoRA training on them."""

import pytest
import torch
from torch import nn

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.modeling.fp8 import Float8Linear, supports_float8, use_fp8
from higgs_recipes.unwrap import unwrap_model
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.train_once import make_trainer, trained_weights


CPU = torch.device("cpu")
on_cpu = pytest.mark.skipif(
    not supports_float8(CPU),
    reason="this torch supports row-wise float8 products on GPUs only: see tests/training/test_fp8_curves.py",
)


def trainer_of(folder, **fields):
    defaults = {"method": "lora", "fp8": True, "bf16": True, "dtype": "bfloat16", "optim": "adamw_torch"}
    defaults |= {"learning_rate": 1e-2, "lora_r": 4, "per_device_train_batch_size": 4, "pack_to": 400, "max_steps": 3}
    return make_trainer(folder, model_folder=tiny_folder() / "model", **defaults | fields)


@on_cpu
def test_layer_multiplies_rounded_states_with_rounded_weights_in_both_passes():
    torch.manual_seed(0)
    weight, states, grad = torch.randn(32, 64), torch.randn(3, 5, 64, requires_grad=True), torch.randn(3, 5, 32)
    layer = Float8Linear(weight)
    product = layer(states)
    product.backward(grad.bfloat16())
    assert product.dtype == torch.bfloat16 and product.shape == (3, 5, 32) and states.grad.dtype == torch.float32

    def rounded(rows: torch.Tensor) -> torch.Tensor:
        scales = rows.abs().amax(dim=-1, keepdim=True) / 448
        return (rows / scales).to(torch.float8_e4m3fn).float() * scales

    expected = rounded(states.detach()) @ rounded(weight).t()
    torch.testing.assert_close(product.float(), expected, rtol=2**-7, atol=1e-2)
    expected_grad = rounded(grad.bfloat16().float()) @ rounded(weight.t()).t()
    torch.testing.assert_close(states.grad, expected_grad, rtol=2**-7, atol=1e-2)
    exact = states.detach() @ weight.t()
    assert 0.01 < (product.float() - exact).norm() / exact.norm() < 0.05  # three bits of mantissa


def test_no_positions_give_an_empty_product():
    states = torch.randn(0, 64, requires_grad=True)
    Float8Linear(torch.randn(32, 64))(states).sum().backward()
    assert states.grad.shape == (0, 64)


@on_cpu
@pytest.mark.parametrize("target", ["attention", "audio_mlp"])
def test_frozen_layers_are_replaced_and_adapter_and_heads_are_not(target, tmp_path):
    model = trainer_of(tmp_path, lora_targets=[target, "heads"]).model
    replaced = {name for name, module in unwrap_model(model).named_modules() if isinstance(module, Float8Linear)}
    kept = {name for name, module in unwrap_model(model).named_modules() if type(module) is nn.Linear}
    linear = {name for name, module in load_tiny()[0].named_modules() if isinstance(module, nn.Linear)}
    assert {name.removesuffix(".base_layer") for name in replaced} == linear - {"audio_lm_head", "text_lm_head"}
    assert all(".lora_" in name or "lm_head" in name for name in kept)
    assert all(weight.requires_grad == (".lora_" in name) for name, weight in model.named_parameters())


@on_cpu
@pytest.mark.slow
def test_both_forwards_train_like_bfloat16_up_to_rounding(tmp_path):
    losses = {}
    for name, fields in {"varlen": {}, "original": {"fast_path": False}, "bfloat16": {"fp8": False}}.items():
        trainer = trainer_of(tmp_path / name, max_steps=20, learning_rate=2e-3, **fields)
        trainer.train()
        trainer.save_model()
        losses[name] = torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    for curve in losses.values():
        assert curve[-1] < curve[0] - 0.2
        torch.testing.assert_close(curve, losses["bfloat16"], rtol=0.01, atol=0)
    saved = [{path.name for path in (tmp_path / name).iterdir()} for name in losses]
    assert saved[0] == saved[1] == saved[2]


@on_cpu
def test_resumed_run_is_bit_equal(tmp_path):
    uninterrupted = trainer_of(tmp_path / "uninterrupted", save_strategy="steps", save_steps=2, max_steps=4)
    uninterrupted.train()
    resumed = trainer_of(tmp_path / "resumed", max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "uninterrupted/checkpoint-2"))
    expected = trained_weights(uninterrupted)
    assert all(torch.equal(weight, expected[name]) for name, weight in trained_weights(resumed).items())


def test_deepspeed_is_refused_because_it_casts_every_weight(monkeypatch):
    layer = Float8Linear(torch.randn(32, 64)).bfloat16()  # as its engine does, also below ZeRO-3
    with pytest.raises(ValueError, match="scaling"):
        layer(torch.randn(16, 64))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(InputError, match="fp8 does not support DeepSpeed, .* launch with accelerate_configs/ddp.yaml"):
        SFTConfig(output_dir="unused", datasets=["none"], report_to="none", fp8=True, bf16=True)


def test_cpu_without_float8_products_is_refused_with_its_torch(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("as torch 2.11: this is not implemented for CPUs")

    monkeypatch.setattr("torch._scaled_mm", refuse)
    with pytest.raises(InputError, match=f"fp8 needs a GPU .*, not cpu with torch {torch.__version__[:4]}"):
        use_fp8(load_tiny()[0], CPU)


def test_gpu_without_float8_products_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(InputError, match=r"fp8 needs a GPU with float8 products .* not NVIDIA A100: set fp8: false"):
        use_fp8(load_tiny()[0], torch.device("cuda"))
