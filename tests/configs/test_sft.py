import pytest
import yaml

from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.configs.sft import SFTConfig, resolve_epochs
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


FULL = {"method": "full"}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"datasets": []}, "datasets is empty: name at least one encoded corpus"),
        (
            {"remove_unused_columns": True},
            "remove_unused_columns must be false, got true: the collator needs the codes",
        ),
        ({"lora_r": 0}, "lora_r must be at least 1, got 0"),
        ({"text_loss_weight": -1.0}, "text_loss_weight must be 0 or positive, got -1.0"),
        ({"audio_loss_weight": -1.0}, "audio_loss_weight must be 0 or positive, got -1.0"),
        ({"codebook_weights": [1.0] * 7}, "codebook_weights needs 8, got 7"),
        ({"codebook_weights": [0.0] * 8}, "codebook_weights must be 0 or positive"),
        ({"fill_rows": True, "per_device_train_batch_size": 1}, "one packed row: set pack_to and per_device"),
        ({"fill_rows": True, "pack_to": 100}, "packed row: set pack_to and per_device_train_batch_size: 1"),
        ({"code_dropout": 1.0}, r"code_dropout must be in \[0, 1\), got 1.0"),
        ({"pack_to": 0}, "pack_to must be positive, got 0"),
        (FULL | {"adapter": "me/voice"}, "adapter requires method: lora"),
        ({"early_stopping_patience": 0}, "early_stopping_patience must be at least 1, got 0"),
        ({"early_stopping_patience": 3}, "early_stopping_patience requires load_best_model_at_end: true, and eval_"),
        ({"attn_implementation": "eager"}, "fast_path requires attn_implementation sdpa, not eager: set fast_path: f"),
        ({"compile_layers": True, "fast_path": False}, "compile_layers requires fast_path: set both"),
        ({"fp8": True}, "fp8 needs bfloat16 activations: set bf16: true"),
        (FULL | {"fp8": True}, "fp8 requires method: lora"),
        (FULL | {"dtype": "bfloat16"}, r"dtype \(bfloat16\) and trained_dtype \(float32\) differ: set bf16: true"),
    ],
)
def test_invalid_values_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(SFTConfig, **fields)


def test_a_quantized_base_is_trained_by_an_adapter_and_without_fp8(monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: name)  # as if bitsandbytes is installed
    with pytest.raises(InputError, match="load_in_4bit requires method: lora, as 4-bit weights cannot be trained"):
        make(SFTConfig, method="full", dtype="float32", load_in_4bit=True)
    with pytest.raises(InputError, match="fp8 and load_in_4bit each set the format of the base: keep one"):
        make(SFTConfig, bf16=True, load_in_4bit=True, fp8=True)


def test_full_fine_tuning_needs_no_adapter_targets():
    assert make(SFTConfig, method="full", dtype="float32", lora_targets=[]).method == "full"


def test_lists_are_not_shared_between_configs():
    make(SFTConfig).lora_targets.append("heads")
    assert make(SFTConfig).lora_targets == ["attention"]


def test_batches_are_copied_asynchronously_unless_the_recipe_says_otherwise():
    assert make(SFTConfig).accelerator_config.non_blocking
    assert not make(SFTConfig, dataloader_pin_memory=False).accelerator_config.non_blocking
    assert not make(SFTConfig, accelerator_config={"non_blocking": False}).accelerator_config.non_blocking


def test_compiled_layers_recompute_activations_with_gradient_checkpointing():
    assert make(SFTConfig, compile_layers=True, gradient_checkpointing=True).layers_recompute
    assert not make(SFTConfig, gradient_checkpointing=True).layers_recompute
    assert not make(SFTConfig, compile_layers=True).layers_recompute


def test_a_recipe_sets_its_length_in_one_way():
    assert make(SFTConfig).num_train_epochs == 3.0 and make(SFTConfig, num_train_epochs=5).num_train_epochs == 5
    assert make(SFTConfig, hours_seen=7.5).num_train_epochs is None
    both = r"hours_seen 7.5 and max_steps 10 each set the length of the run: keep one; --hours_seen null"
    with pytest.raises(InputError, match=both):
        make(SFTConfig, hours_seen=7.5, max_steps=10)
    with pytest.raises(InputError, match="hours_seen 2 and num_train_epochs 3.0 each set"):
        make(SFTConfig, hours_seen=2, num_train_epochs=3.0)
    with pytest.raises(InputError, match="hours_seen must be positive and finite, got 0"):
        make(SFTConfig, hours_seen=0)
    with pytest.raises(InputError, match="num_train_epochs must be positive and finite, got 0"):
        make(SFTConfig, num_train_epochs=0)  # transformers would take no step and save an untrained adapter


def test_steps_take_precedence_over_epochs():
    assert resolve_epochs(hours_seen=None, num_train_epochs=None, max_steps=10) == 3.0
    assert resolve_epochs(hours_seen=1.0, num_train_epochs=None, max_steps=-1) is None


def test_the_command_line_removes_the_hours_of_a_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"datasets": ["none"], "hours_seen": 2, "use_cpu": True, "report_to": "none"}))
    with pytest.raises(InputError, match="hours_seen 2 and max_steps 10 each set"):
        parse_recipe(SFTConfig, ["--config", str(path), "--max_steps", "10"])
    flags = ["--config", str(path), "--max_steps", "10", "--hours_seen", "null"]
    assert parse_recipe(SFTConfig, flags).max_steps == 10
