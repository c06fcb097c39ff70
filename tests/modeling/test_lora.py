"""LoRA adapters: targets, loading on the right base only, and merging."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.errors import InputError
from higgs_recipes.loss import dual_ffn_losses
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import add_lora, fetch_adapter, merge_adapter
from higgs_recipes.modeling.model import build_model, load_model
from higgs_recipes.samples import build_sample
from tests.helpers.checkpoints import (
    base_fingerprint,
    build,
    first_row_logits,
    load_tiny,
    random_rows,
    sft_config,
    tiny_folder,
    tiny_model_config,
)


def save_adapter(tmp_path, run_info: dict | None):
    """Save a randomly initialized adapter, with run.json unless None: (folder, model)."""
    torch.manual_seed(0)
    model, _ = build(sft_config(tmp_path / "out"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    if run_info is not None:
        (folder / "run.json").write_text(json.dumps(run_info))
    return folder, model


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
def test_target_adapts_its_modules_and_no_others(tmp_path, target, adapted):
    model = add_lora(load_tiny()[0], sft_config(tmp_path / "out", lora_targets=[target]))
    names = [name.removesuffix(".lora_A.default.weight") for name, _ in model.named_parameters() if "lora_A" in name]
    assert {".".join(name.removeprefix("base_model.model.").split(".")[-2:]) for name in names} == adapted
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_target_without_modules_is_refused(tmp_path):
    with pytest.raises(InputError, match="lora_targets: 'attn' matches no linear module.*attention, audio_mlp"):
        add_lora(load_tiny()[0], sft_config(tmp_path / "out", lora_targets=["attention", "attn"]))
    with pytest.raises(InputError, match=r"lora_targets: 'attn\(' matches no linear module"):
        add_lora(load_tiny()[0], sft_config(tmp_path / "out", lora_targets=["attn("]))


def test_new_adapter_does_not_change_the_loss(tmp_path):
    model, tokenizer = load_tiny()
    batch = HiggsCollator(model.config)([build_sample(row, tokenizer) for row in random_rows(3)])
    with torch.inference_mode():
        base = dual_ffn_losses(model, batch)
        adapted = dual_ffn_losses(add_lora(model, sft_config(tmp_path / "out")), batch)
    assert torch.equal(base.codebook_sums, adapted.codebook_sums)


def test_adapter_is_loaded_and_can_be_disabled(tmp_path):
    folder, model = save_adapter(tmp_path, {"base_fingerprint": base_fingerprint(tiny_model_config())})
    loaded, _ = load_model(tiny_model_config(), adapter=folder, device="cpu")
    assert torch.equal(first_row_logits(loaded), first_row_logits(model.eval()))
    with loaded.disable_adapter():
        assert torch.equal(first_row_logits(loaded), first_row_logits(load_tiny()[0]))
    assert not torch.equal(first_row_logits(loaded), first_row_logits(load_tiny()[0]))
    assert str(tiny_folder()) not in (folder / "adapter_config.json").read_text()


def test_adapter_of_another_base_is_refused(tmp_path):
    folder, _ = save_adapter(tmp_path, {"base_fingerprint": "0123456789abcdef", "base_model": "someone/other"})
    with pytest.raises(InputError, match="trained on someone/other with fingerprint 0123456789abcdef; this base"):
        load_model(tiny_model_config(), adapter=folder)


def test_adapter_of_another_shape_is_refused_without_a_record(tmp_path):
    folder, _ = save_adapter(tmp_path, None)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name: weight[..., :-1].contiguous() for name, weight in weights.items()}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(InputError, match="adapter: does not fit the base"):
        load_model(tiny_model_config(), adapter=folder)


def test_adapter_that_lacks_weights_or_has_an_invalid_record_is_refused(tmp_path):
    folder, _ = save_adapter(tmp_path, None)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[1:]), folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="adapter_model.safetensors lacks 1 weights, e.g. base_model"):
        load_model(tiny_model_config(), adapter=folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is not JSON"):
        load_model(tiny_model_config(), adapter=folder)


def test_pickled_adapter_is_refused(tmp_path):
    folder, _ = save_adapter(tmp_path, None)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match="no adapter_model.safetensors"):
        load_model(tiny_model_config(), adapter=folder)


def test_merged_adapter_gives_the_logits_of_the_adapter(tmp_path):
    _, model = save_adapter(tmp_path, None)
    expected = first_row_logits(model.eval())
    merged = merge_adapter(model)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(first_row_logits(merged), expected, atol=1e-4, rtol=1e-4)


def test_adapter_with_nan_is_not_merged(tmp_path):
    _, model = save_adapter(tmp_path, None)
    nn.init.constant_(next(w for name, w in model.named_parameters() if "lora_B" in name), float("nan"))
    with pytest.raises(ValueError, match="NaNs detected"):
        merge_adapter(model)


def test_saving_an_adapter_writes_no_card_of_peft(tmp_path):
    folder, _ = save_adapter(tmp_path, {"base_fingerprint": base_fingerprint(tiny_model_config())})
    loaded, _ = load_model(tiny_model_config(), adapter=folder)
    loaded.save_pretrained(tmp_path / "again")
    for written in (folder, tmp_path / "again"):
        assert not (written / "README.md").exists()  # it would name the folder of the base
        assert str(tiny_folder()) not in (written / "adapter_config.json").read_text()


def test_adapter_is_trained_further_from_its_weights(tmp_path):
    folder, model = save_adapter(tmp_path, {"base_fingerprint": base_fingerprint(tiny_model_config())})
    config = sft_config(tmp_path / "out", lora_dropout=0.1)
    base, files = fetch_base(config), fetch_adapter(folder, revision=None)
    continued = build_model(config, base, adapter=files)
    torch.testing.assert_close(first_row_logits(continued.eval()), first_row_logits(model.eval()))
    trained = [name for name, weight in continued.named_parameters() if weight.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert {weight.dtype for name, weight in continued.named_parameters() if name in trained} == {torch.float32}
    continued.save_pretrained(tmp_path / "continued")
    written = json.loads((tmp_path / "continued" / "adapter_config.json").read_text())
    assert (written["lora_dropout"], written["base_model_name_or_path"]) == (0.1, None)
    assert not (tmp_path / "continued" / "README.md").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lora_r": 8}, "lora_r is 8, the adapter .* has 16: set 16"),
        ({"lora_alpha": 16}, "lora_alpha is 16, the adapter .* has 32: set 32"),
        (
            {"lora_targets": ["attention", "mlp"]},
            "lora_targets do not name the modules .* only the recipe names model",
        ),
        ({"lora_targets": ["model.layers.0.self_attn.q_proj"]}, "only the adapter adapts model.layers.0.self_attn.k_"),
    ],
)
def test_recipe_must_have_the_rank_and_targets_of_the_adapter(tmp_path, fields, message):
    folder, _ = save_adapter(tmp_path, None)
    config = sft_config(tmp_path / "other", **fields)
    with pytest.raises(InputError, match=message):
        build_model(config, fetch_base(config), adapter=fetch_adapter(folder, revision=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "adapter_config.json is of a .*IA3 adapter, not of a LoRA"),
        ({"peft_type": "NOTHING"}, "adapter_config.json cannot be read"),
        (
            {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
            "has a megatron_config, which is not supported",
        ),
    ],
)
def test_config_of_another_kind_of_adapter_is_refused(tmp_path, changes, message):
    folder, _ = save_adapter(tmp_path, None)
    config = json.loads((folder / "adapter_config.json").read_text()) | changes
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_model(tiny_model_config(), adapter=folder)
