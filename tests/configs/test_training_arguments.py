from importlib.util import find_spec
from math import nan

import pytest

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.configs.training_arguments import OPTIM_PACKAGES
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1, got 0"),
        ({"per_device_eval_batch_size": -1}, "per_device_eval_batch_size must be at least 1, got -1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1, got 0"),
        ({"learning_rate": nan}, "learning_rate must be 0 or positive, and finite, got nan"),
        ({"learning_rate": -1e-4}, "learning_rate must be 0 or positive, and finite, got -0.0001"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor must be 0, got 0.1: the loss does not support it"),
        ({"seed": 2**32}, r"seed must be in 0 .. 2\*\*32 - 1, got 4294967296"),
        ({"report_to": "wandbb"}, "report_to: wandbb is not installed, or unknown to transformers: install it"),
        ({"report_to": ["none", "x"]}, "report_to: x is not installed, or unknown .* or use one of none"),
        ({"hub_strategy": "every_save"}, "hub_strategy must be end, got every_save: the result is pushed once"),
        ({"hub_strategy": "all_checkpoints"}, "hub_strategy must be end, got all_checkpoints"),
        ({"hub_always_push": True}, "hub_always_push must be false: the result is pushed once, when it is complete"),
        ({"torch_compile": True}, "torch_compile does not support fast_path: set compile_layers instead"),
    ],
)
def test_invalid_inherited_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(SFTConfig, **fields)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed is installed")
def test_a_missing_deepspeed_is_an_input_error():
    with pytest.raises(InputError, match="deepspeed needs a package that is not installed: pip install deepspeed"):
        make(SFTConfig, deepspeed="zero2.json")


@pytest.mark.parametrize(
    "optim, package",
    [("adamw_bnb_8bit", "bitsandbytes"), ("paged_adamw_32bit", "bitsandbytes"), ("adamw_torch_8bit", "torchao")],
)
def test_an_optimizer_of_another_package_needs_it(optim, package, monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"optim: {optim} needs a package .* pip install {package}"):
        make(SFTConfig, optim=optim)


def test_the_optimizers_of_torch_need_no_package():
    assert not {"adamw_torch", "adamw_torch_fused", "sgd", "adafactor"} & OPTIM_PACKAGES.keys()


def test_compiled_layers_under_zero3_are_refused(monkeypatch):
    make(SFTConfig, compile_layers=True)
    monkeypatch.setattr("higgs_recipes.configs.training_arguments.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(InputError, match="compile_layers does not support ZeRO-3, .* launch with .*/fsdp2.yaml"):
        make(SFTConfig, compile_layers=True)
