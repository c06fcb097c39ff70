"""Each accelerate config on two real GPUs: it engages what it names, and gives the update of one GPU."""

import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from tests.checkpoints import ROOT, tiny_folder


TYPES = {"ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "fsdp2": "FSDP"}
WEIGHTS = {"full": "model.safetensors", "lora": "adapter_model.safetensors"}


def train(config: str, method: str, folder, *, batch_size: int) -> tuple[dict, dict]:
    fields = {"model_folder": str(tiny_folder() / "model"), "method": method, "use_cpu": False}
    fields |= {"per_device_train_batch_size": batch_size}
    launch = ["accelerate", "launch", "--config_file", f"accelerate_configs/{config}.yaml", "-m", "tests.train_once"]
    done = subprocess.run([*launch, folder, json.dumps(fields)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "about.json").read_text()), load_file(folder / WEIGHTS[method])


@pytest.fixture(scope="module", params=["lora", "full"])
def alone(request, tmp_path_factory):
    """The run on one GPU, all 8 rows a step: (method, about, weights)."""
    about, weights = train("single_gpu", request.param, tmp_path_factory.mktemp("alone"), batch_size=8)
    assert about["processes"] == 1 and about["distributed_type"] == "NO"
    return request.param, about, weights


@pytest.mark.gpu
@pytest.mark.parametrize("config", TYPES)
def test_two_gpus_give_the_update_of_one(alone, config, tmp_path):
    method, expected, expected_weights = alone
    about, weights = train(config, method, tmp_path, batch_size=4)
    assert about["processes"] == 2 and about["distributed_type"] == TYPES[config]
    for entry, other in zip(expected["log"][:2], about["log"][:2], strict=True):
        assert other["loss"] == pytest.approx(entry["loss"], abs=1e-3)
    for name, value in expected["metrics"].items():
        assert about["metrics"][name] == pytest.approx(value, abs=1e-3), name
    assert weights.keys() == expected_weights.keys()
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name].float(), weight, atol=1e-4, rtol=1e-4, msg=name)
