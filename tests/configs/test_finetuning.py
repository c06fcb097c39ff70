import pytest

from higgs_recipes.configs.finetuning import ForwardConfig, MethodConfig
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"lora_r": 0}, "lora_r must be at least 1, got 0"),
        ({"lora_alpha": 0}, "lora_alpha must be at least 1, got 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout must be in \[0, 1\), got 1.0"),
        ({"lora_targets": []}, "lora_targets is empty: name the modules to adapt"),
        ({"method": "full", "train_modules": ["audio_mlp"]}, "'audio_mlp' is not one of attention, text_expert"),
        (
            {"method": "full", "train_modules": []},
            "train_modules is empty: name some of attention, .*, or null for all",
        ),
        ({"train_modules": ["audio_head"]}, "train_modules requires method: full; lora uses lora_targets"),
        ({"trained_dtype": "bfloat16"}, "trained_dtype requires method: full, as an adapter is always float32"),
        ({"method": "full", "fp8": True}, "fp8 requires method: lora, as it is for frozen weights only"),
    ],
)
def test_invalid_methods_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(MethodConfig, **fields)


def test_full_fine_tuning_needs_no_adapter_targets():
    assert make(MethodConfig, method="full", lora_targets=[]).method == "full"


def test_fp8_under_deepspeed_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(InputError, match="fp8 does not support DeepSpeed, .* launch with accelerate_configs/ddp.yaml"):
        make(MethodConfig, fp8=True)


def test_only_layers_of_the_fast_path_are_compiled():
    with pytest.raises(InputError, match="compile_layers requires fast_path: set both"):
        make(ForwardConfig, compile_layers=True, fast_path=False)
