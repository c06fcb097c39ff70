"""Adapters are folded for as long as an engine is open, bit for bit as a merge does, and the base is restored."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from higgs_recipes.errors import InputError
from higgs_recipes.generation.decode_weights import Int8Weight, decode_weights, project
from higgs_recipes.modeling.lora import merge_adapter
from higgs_recipes.unwrap import unwrap_model
from tests.generation.test_engine import assert_same, make_prompts, run
from tests.helpers.checkpoints import load_tiny


def adapted_model(**fields):
    """A tiny model with an adapter on all linear layers that changes what the model generates."""
    torch.manual_seed(0)
    targets = r".*(_proj|_lm_head)"
    model = get_peft_model(load_tiny()[0], LoraConfig(r=4, target_modules=targets, **fields)).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return model


def storages(model) -> dict[str, int]:
    return {name: weight.data_ptr() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folded_adapter_generates_what_the_merged_model_does(dtype):
    model = adapted_model().to(dtype)
    prompts = make_prompts(unwrap_model(model).config)
    folded = run(unwrap_model(model), prompts, max_seconds=0.8)
    with model.disable_adapter():
        base = run(unwrap_model(model), prompts, max_seconds=0.8)
    assert_same(run(unwrap_model(model), prompts, max_seconds=0.8), folded)
    assert_same(run(load_tiny()[0].to(dtype), prompts, max_seconds=0.8), base)
    assert_same(run(merge_adapter(model), prompts, max_seconds=0.8), folded)
    assert not any(torch.equal(one.codes, two.codes) for one, two in zip(folded, base, strict=True))


def test_the_weights_are_folded_bit_for_bit_and_the_base_is_restored():
    model = adapted_model()
    merged = merge_adapter(copy.deepcopy(model))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with decode_weights(unwrap_model(model)) as weights:
        first, own = weights.layers[0], merged.model.layers[0]
        attention = own.self_attn
        parts = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        assert torch.equal(first.query_key_value, torch.cat(parts))
        assert torch.equal(first.gate_up, torch.cat([own.audio_mlp.gate_proj.weight, own.audio_mlp.up_proj.weight]))
        assert torch.equal(first.down, own.audio_mlp.down_proj.weight)
        assert torch.equal(weights.head, merged.audio_lm_head.weight)
        assert not weights.has_modules
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_outside_of_float32_on_a_cpu_the_modules_share_the_memory_until_the_end():
    model = adapted_model().to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with decode_weights(unwrap_model(model)) as weights:
        layer, first = unwrap_model(model).model.layers[0], weights.layers[0]
        assert layer.self_attn.q_proj.base_layer.weight.data_ptr() == first.query_key_value.data_ptr()
        up = layer.audio_mlp.up_proj.base_layer.weight
        assert up.untyped_storage().data_ptr() == first.gate_up.data_ptr() != up.data_ptr()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    pointers = list(storages(model).values())
    assert len(set(pointers)) == len(pointers)
    assert all(weight.untyped_storage().size() == weight.nbytes for weight in model.parameters())


def test_a_disabled_adapter_changes_nothing_and_folded_layers_keep_their_base():
    model = adapted_model()
    before = storages(model)
    with model.disable_adapter(), decode_weights(unwrap_model(model)) as weights:
        assert torch.equal(weights.head, load_tiny()[0].audio_lm_head.weight)
        assert torch.equal(weights.layers[1].output, load_tiny()[0].model.layers[1].self_attn.o_proj.weight)
    with decode_weights(unwrap_model(model)):
        pass
    after = storages(model)
    assert (
        after["base_model.model.audio_lm_head.base_layer.weight"]
        == before["base_model.model.audio_lm_head.base_layer.weight"]
    )


def test_the_base_is_restored_after_an_error():
    model = adapted_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="stopped"), decode_weights(unwrap_model(model)):
        raise RuntimeError("stopped")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_broken_adapter_is_refused_by_name():
    model = adapted_model()
    layer = unwrap_model(model).model.layers[1].self_attn.v_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"layers.1.self_attn.v_proj: the adapter cannot be added .* NaNs detected"):
        with decode_weights(unwrap_model(model)):
            pass
    assert not layer.merged


class Rounded(nn.Linear):
    """Stands for a quantized layer: no plain linear layer, so its adapter stays beside it."""


def test_adapters_of_quantized_layers_stay_beside_them():
    model = load_tiny()[0]
    for layer in model.model.layers:
        for parent, name in ((layer.self_attn, "q_proj"), (layer.audio_mlp, "down_proj")):
            parent.get_submodule(name).__class__ = Rounded
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=r".*_proj")).eval()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    with decode_weights(unwrap_model(adapted)) as weights:
        first = weights.layers[0]
        assert weights.has_modules and isinstance(first.query_key_value, tuple) and isinstance(first.down, tuple)
        assert isinstance(first.gate_up, torch.Tensor)
    with pytest.raises(InputError, match="int8 requires weights that are not quantized"):
        decode_weights(unwrap_model(adapted), int8=True).__enter__()
    prompts = make_prompts(model.config)
    beside = run(unwrap_model(adapted), prompts, max_seconds=0.8)
    assert_same(run(merge_adapter(adapted), prompts, max_seconds=0.8), beside)


def test_int8_rounds_each_row_to_255_levels():
    weight = torch.tensor([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0], [127.0, 1.4, -1.6]])
    quantized = Int8Weight.quantize(weight)
    assert quantized.codes.dtype == torch.int8 and quantized.codes.tolist() == [
        [127, -64, 32],
        [0, 0, 0],
        [127, 1, -2],
    ]
    assert (quantized.dequantize() - weight).abs().amax(dim=1).le(quantized.scales / 2 + 1e-7).all()
    states = torch.randn(2, 3)
    torch.testing.assert_close(project(states, quantized), states @ quantized.dequantize().t())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_rounds_the_layers_with_their_adapters_and_not_the_head(dtype):
    model = adapted_model().to(dtype)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with decode_weights(unwrap_model(model)) as weights:
        expected = {
            name: Int8Weight.quantize(getattr(weights.layers[1], name))
            for name in ("query_key_value", "output", "gate_up", "down")
        }
        head = weights.head.clone()
    with decode_weights(unwrap_model(model), int8=True) as weights:
        for name, quantized in expected.items():
            weight = getattr(weights.layers[1], name)
            if dtype == torch.float32:  # on a CPU: numbers that float32 products read
                assert torch.equal(weight, quantized.dequantize())
            else:
                assert torch.equal(weight.codes, quantized.codes) and torch.equal(weight.scales, quantized.scales)
        assert torch.equal(weights.head, head) and not weights.has_modules
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_int8_generates_what_a_model_with_these_weights_does():
    model, _ = load_tiny()
    prompts = make_prompts(model.config)
    rounded = run(model, prompts, max_seconds=0.8, generation_weights="int8")
    assert not all(
        torch.equal(a.codes, b.codes) for a, b in zip(rounded, run(model, prompts, max_seconds=0.8), strict=True)
    )
    assert_same(run(model, prompts, max_seconds=0.8, generation_weights="int8", batch_size=3), rounded)
