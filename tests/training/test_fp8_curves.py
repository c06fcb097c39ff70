"""FP8 over 200 steps of LoRA: no further from bfloat16 than other noise, on a CPU and on a GPU."""

import pytest
import torch

from tests.helpers.checkpoints import tiny_folder
from tests.helpers.train_once import make_trainer


NUM_STEPS, WINDOW = 200, 20


def loss_curve(folder, **fields) -> torch.Tensor:
    """Means over each `WINDOW` of 200 steps' losses on eight rows, which are learned by heart."""
    plain = {"method": "lora", "bf16": True, "dtype": "bfloat16", "optim": "adamw_torch", "learning_rate": 2e-3}
    plain |= {"lora_targets": ["attention", "audio_mlp", "mlp", "heads"], "lora_r": 16, "max_steps": NUM_STEPS}
    plain |= {"per_device_train_batch_size": 4, "pack_to": 400}
    trainer = make_trainer(folder, model_folder=tiny_folder() / "model", **plain | fields)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return torch.tensor(losses).view(-1, WINDOW).mean(dim=1)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"use_cpu": True}, marks=pytest.mark.slow),
        pytest.param({"use_cpu": False}, marks=pytest.mark.gpu),
        pytest.param({"use_cpu": False, "compile_layers": True}, marks=pytest.mark.gpu),
    ],
    ids=["cpu", "gpu", "compiled"],
)
def test_the_loss_curve_is_within_the_noise_of_bfloat16(fields, tmp_path):
    exact = loss_curve(tmp_path / "bfloat16", **fields)
    other = loss_curve(tmp_path / "other", seed=1, **fields)  # rows in another order
    rounded = loss_curve(tmp_path / "fp8", fp8=True, **fields)
    assert exact[-1] < 0.1 * exact[0]
    noise = (other - exact).abs().mean()
    assert (rounded - exact).abs().mean() < noise + 0.01 * exact.mean(), (rounded, exact, other)
