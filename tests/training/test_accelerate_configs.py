"""Each accelerate config on two GPUs: its distributed type, the update of one GPU, and resuming."""

import json
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.checkpoints import tiny_folder
from tests.helpers.killed_run import RESUMABLE, names_in
from tests.helpers.paths import ROOT


LAUNCH = ["accelerate", "launch", "--main_process_port", "0", "--config_file"]  # port 0: any free one
TYPES = {"ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "fsdp2": "FSDP"}
WEIGHTS = {"full": "model.safetensors", "lora": "adapter_model.safetensors"}


def launch_training(config: str, folder, **fields) -> subprocess.CompletedProcess[str]:
    fields = {"model_folder": str(tiny_folder() / "model"), "use_cpu": False} | fields
    launch = [*LAUNCH, f"accelerate_configs/{config}.yaml", "-m", "tests.helpers.train_once"]
    return subprocess.run([*launch, folder, json.dumps(fields)], cwd=ROOT, capture_output=True, text=True, timeout=300)


def train(config: str, method: str, folder, *, batch_size: int, **fields) -> tuple[dict, dict]:
    done = launch_training(config, folder, method=method, per_device_train_batch_size=batch_size, **fields)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "about.json").read_text()), load_file(folder / WEIGHTS[method])


@pytest.fixture(scope="module", params=["lora", "full"])
def alone(request, tmp_path_factory):
    """A run on one GPU with all 8 rows in a step: (method, about, weights)."""
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


# As in language_full.yaml, also with compiled layers; and an adapter under DDP, whose products are fused in bf16.
@pytest.mark.gpu
@pytest.mark.parametrize(
    "config, method, compiled", [("fsdp2", "full", False), ("fsdp2", "full", True), ("ddp", "lora", True)]
)
def test_two_gpus_in_bfloat16_report_float32_sums(config, method, compiled, tmp_path):
    fields = {"dtype": "bfloat16", "bf16": True}
    expected, _ = train("single_gpu", method, tmp_path / "alone", batch_size=8, **fields)
    about, _ = train(config, method, tmp_path / config, batch_size=4, **fields, compile_layers=compiled)
    for name, value in expected["metrics"].items():
        if "loss" in name:  # bfloat16 sums of 200 nats would change the means by some hundredths
            assert about["metrics"][name] == pytest.approx(value, abs=5e-3), name


@pytest.mark.gpu
def test_compiled_layers_are_refused_with_zero3(tmp_path):
    done = launch_training("zero3", tmp_path, compile_layers=True)
    assert done.returncode != 0 and "compile_layers does not support ZeRO-3" in done.stderr


def run_until(folder, config: str, kill: dict, **fields) -> int:
    """The exit code of a run of six steps, killed as in `tests.helpers.killed_run`; rank 2 of two is not killed."""
    fields = {"model_folder": str(tiny_folder() / "model"), "use_cpu": False, "pack_to": 300} | fields
    launch = [*LAUNCH, f"accelerate_configs/{config}.yaml", "-m", "tests.helpers.killed_run"]
    command = [*launch, folder, json.dumps({"step": 3} | kill), json.dumps(RESUMABLE | fields)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300).returncode


def losses(folder) -> list[float]:
    history = json.loads((folder / "run.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.gpu
@pytest.mark.parametrize("method", WEIGHTS)
@pytest.mark.parametrize("config", TYPES)
def test_run_that_lost_a_gpu_resumes_and_ends_like_an_uninterrupted_one(config, method, tmp_path):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    fields = {"method": method, "lora_dropout": 0.1 * (method == "lora")}
    assert run_until(uninterrupted, config, {"rank": 2}, **fields) == 0
    assert run_until(killed, config, {"rank": 1}, **fields) != 0
    assert names_in(killed) == {"checkpoint-2"}
    assert run_until(killed, config, {"rank": 2}, **fields, resume_from_checkpoint="true") == 0
    assert losses(killed) == pytest.approx(losses(uninterrupted), abs=1e-3) and len(losses(killed)) == 6
    expected, found = (load_file(folder / WEIGHTS[method]) for folder in (uninterrupted, killed))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():  # Adam turns rounding errors of gradients near zero into full steps
        torch.testing.assert_close(found[name], weight, atol=5e-3, rtol=0, msg=name)


@pytest.mark.gpu
def test_gpu_that_hangs_ends_the_run_within_the_timeout_and_leaves_a_checkpoint(tmp_path):
    timeout, stopped = 40, {"rank": 1, "signal": "SIGSTOP"}
    assert run_until(tmp_path, "ddp", stopped, ddp_timeout=timeout) != 0
    assert names_in(tmp_path) == {"checkpoint-2"}
    seconds = time.time() - (tmp_path / "checkpoint-2").stat().st_mtime
    # NCCL's watchdog takes a minute to write its report; the launcher waits half a minute for a hanging process.
    assert timeout < seconds < timeout + 120
