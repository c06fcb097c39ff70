"""8-bit optimizers, for full fine-tuning on one GPU: they train and resume bit-equal."""

from importlib import import_module

import pytest
import torch

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.training import torchao_optimizers as optimizers
from higgs_recipes.training.torchao_optimizers import compiled_once
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.train_once import make_trainer, trained_weights


EIGHT_BIT = [{"optim": "adamw_bnb_8bit"}, {"optim": "paged_adamw_8bit"}]
# torchao compiles a step for each shape, which takes a minute on a CPU.
IN_BFLOAT16 = {"dtype": "bfloat16", "trained_dtype": "bfloat16", "bf16": True}
IN_BFLOAT16 |= {"optim": "adamw_torch_8bit", "optim_args": "bf16_stochastic_round=True"}


def trainer_of(folder, **fields):
    defaults = {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "save_strategy": "steps", "save_steps": 2}
    defaults |= {"max_steps": 4, "per_device_train_batch_size": 4, "pack_to": 400}
    return make_trainer(folder, model_folder=tiny_folder() / "model", **defaults | fields)


def state_bytes(state: dict) -> int:
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(
        tensor.numel() * (1 if "8bit" in type(tensor).__name__ else tensor.element_size()) for tensor in tensors
    )


@pytest.mark.slow  # `make slow_test` installs their packages
@pytest.mark.parametrize("fields", [*EIGHT_BIT, IN_BFLOAT16], ids=lambda fields: fields["optim"])
def test_8_bit_states_train_and_resume_bit_equal(fields, tmp_path):
    uninterrupted = trainer_of(tmp_path / "uninterrupted", **fields)
    uninterrupted.train()
    losses = [entry["loss"] for entry in uninterrupted.state.log_history if "loss" in entry]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.5
    up_proj = uninterrupted.model.model.layers[0].audio_mlp.up_proj.weight
    (state,) = [state for weight, state in uninterrupted.optimizer.state.items() if weight is up_proj]
    assert state_bytes(state) < 2.5 * up_proj.numel()  # two bytes per weight, and the scales of their blocks

    resumed = trainer_of(tmp_path / "resumed", **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "uninterrupted/checkpoint-2"))
    expected = trained_weights(uninterrupted)
    assert all(torch.equal(weight, expected[name]) for name, weight in trained_weights(resumed).items())


def weights_after_steps(optimizer_class: type[torch.optim.Optimizer]) -> list[torch.Tensor]:
    """Three weights of one shape, after three steps."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(16, 256)) for _ in range(3)]
    optimizer = optimizer_class(weights, lr=1e-2)
    for _ in range(3):
        for weight in weights:
            weight.grad = weight.detach().clone()
        optimizer.step()
    return weights


@pytest.mark.slow
def test_torchao_step_is_compiled_once_and_gives_the_same_weights():
    torchao_class, compile_function = import_module("torchao.optim").AdamW8bit, torch.compile
    before = optimizers._compile.cache_info()
    weights = [weights_after_steps(cls) for cls in (compiled_once(torchao_class), torchao_class)]
    after = optimizers._compile.cache_info()
    assert after.misses - before.misses <= 1  # 0 if another test compiled it
    assert after.hits + after.misses - before.hits - before.misses == 3 * 3  # weights, steps
    assert torch.compile is compile_function
    for found, expected in zip(*weights, strict=True):
        assert torch.equal(found, expected)


def test_other_optimizers_are_unchanged():
    assert compiled_once(torch.optim.AdamW) is torch.optim.AdamW


@pytest.mark.slow
def test_stochastic_rounding_changes_bfloat16_weights_where_rounding_to_nearest_does_not(tmp_path):
    num_changed = {}
    for optim, fields in {"adamw_torch": {"optim_args": None}, "adamw_torch_8bit": {}}.items():
        trainer = trainer_of(tmp_path / optim, **IN_BFLOAT16 | {"optim": optim, "learning_rate": 1e-4} | fields)
        norms = [weight for name, weight in trainer.model.named_parameters() if "norm" in name]
        trainer.train()
        # Norms start at 1, whose neighbors in bfloat16 are 2 ** -8 below and 2 ** -7 above.
        num_changed[optim] = sum((weight != 1).sum().item() for weight in norms)
    assert num_changed["adamw_torch"] == 0 < num_changed["adamw_torch_8bit"], num_changed


@pytest.mark.parametrize(
    ("optim", "package"),
    [("paged_adamw_8bit", "bitsandbytes"), ("lion_8bit", "bitsandbytes"), ("adamw_torch_8bit", "torchao")],
)
def test_optimizer_with_a_missing_package_is_refused_by_the_config(optim, package, monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=f"optim: {optim} needs a package that is not installed: pip install {package}"
    ):
        SFTConfig(output_dir="unused", datasets=["none"], report_to="none", optim=optim)
