"""The loss of 200 LoRA steps in FP8 is as close to bfloat16 as that of another seed, on a CPU and on a GPU."""

import pytest
import torch

from tests.helpers.checkpoints import tiny_folder
from tests.helpers.train_once import make_trainer


NUM_STEPS, WINDOW = 200, 20


def loss_curve(folder, **fields) -> torch.Tensor:
    """Losses of 200 steps on eight rows, which the model memorizes; means over each `WINDOW`."""
    defaults = {"method": "lora", "bf16": True, "dtype": "bfloat16", "optim": "adamw_torch", "learning_rate": 2e-3}
    defaults |= {"lora_targets": ["attention", "audio_mlp", "mlp", "heads"], "lora_r": 16, "max_steps": NUM_STEPS}
    defaults |= {"per_device_train_batch_size": 4, "pack_to": 400}
    trainer = make_trainer(folder, model_folder=tiny_folder() / "model", **defaults | fields)
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
def test_loss_curve_is_within_the_noise_of_bfloat16(fields, tmp_path):
    bfloat16 = loss_curve(tmp_path / "bfloat16", **fields)
    other_seed = loss_curve(tmp_path / "other", seed=1, **fields)  # rows in another order
    fp8 = loss_curve(tmp_path / "fp8", fp8=True, **fields)
    assert bfloat16[-1] < 0.1 * bfloat16[0]
    noise = (other_seed - bfloat16).abs().mean()
    assert (fp8 - bfloat16).abs().mean() < noise + 0.01 * bfloat16.mean(), (fp8, bfloat16, other_seed)
