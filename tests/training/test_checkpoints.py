"""Checkpoints are complete or absent after any kill, and a resumed run ends like an uninterrupted one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerState

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.training.checkpoints import (
    STAGING,
    checkpoint_to_resume,
    delete_old_checkpoints,
    staged_checkpoint,
)
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.killed_run import RESUMABLE, names_in
from tests.helpers.paths import ROOT
from tests.helpers.train_once import make_trainer


WRITES = 4  # calls of torch.save per checkpoint of process 0: arguments, optimizer, schedule, random state
ONE, TWO = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launch(python, folder, kill: dict, **fields) -> tuple[int, str, float]:
    """Exit code, the end of stderr, and the duration in seconds of a run that is killed."""
    fields = {"model_folder": str(tiny_folder() / "model")} | RESUMABLE | fields
    began = time.monotonic()
    done = subprocess.run(
        [*python, "-m", "tests.helpers.killed_run", folder, json.dumps({"rank": 0} | kill), json.dumps(fields)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.returncode, done.stderr[-3000:], time.monotonic() - began


def assert_same_adapter(expected_folder, folder) -> None:
    expected, found = (load_file(path / "adapter_model.safetensors") for path in (expected_folder, folder))
    assert expected.keys() == found.keys()
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


def train(folder, **fields):
    trainer = make_trainer(folder, model_folder=tiny_folder() / "model", **RESUMABLE | fields)
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(trainer.args))
    trainer.save_model()
    return trainer


@pytest.mark.slow
def test_kill_during_a_save_keeps_the_last_checkpoint_and_the_run_resumes_bit_equal(tmp_path):
    killed, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    code, output, _ = launch(ONE, killed, {"write": WRITES + 2}, save_total_limit=1)
    assert code == -signal.SIGKILL, output
    assert names_in(killed) == {"checkpoint-2", STAGING}  # kept in spite of save_total_limit
    assert names_in(killed / STAGING) == {"checkpoint-4"}

    resumed = train(killed, resume_from_checkpoint="true", save_total_limit=1)
    assert resumed.state.log_history[0]["step"] == 1 and names_in(killed) >= {"checkpoint-6", "run.json"}
    assert not [name for name in names_in(killed) if name in (STAGING, "checkpoint-2", "checkpoint-4")]
    trainer = train(uninterrupted)
    assert 2 <= len(trainer.packed_sampler) < 6  # an epoch has several steps, the run several epochs
    assert_same_adapter(uninterrupted, killed)


@pytest.mark.slow
def test_lost_process_ends_the_run_and_leaves_a_complete_checkpoint(tmp_path):
    """Killed within a step and, after resuming, when only one process has written its part of a checkpoint."""
    killed, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    fields = {"pack_to": 300}  # more rows per epoch, for both processes
    code, output, _ = launch(TWO, uninterrupted, {"rank": 2, "step": 0}, **fields)
    assert code == 0, output

    code, output, seconds = launch(TWO, killed, {"rank": 1, "step": 3}, **fields)
    assert code == 1 and "Signal 9 (SIGKILL)" in output, output
    assert seconds < 60  # torchrun ends the other process before ddp_timeout
    assert names_in(killed) == {"checkpoint-2"}

    resume = fields | {"resume_from_checkpoint": "true"}
    code, output, _ = launch(TWO, killed, {"rank": 1, "write": 1}, **resume)
    assert code == 1 and "Signal 9 (SIGKILL)" in output, output
    assert "checkpoint-2" in names_in(killed) <= {"checkpoint-2", STAGING}

    code, output, _ = launch(TWO, killed, {"rank": 2, "step": 0}, **resume)
    assert code == 0, output
    assert_same_adapter(uninterrupted, killed)
    assert {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"} <= names_in(killed / "checkpoint-6")


@pytest.mark.gpu
def test_process_that_hangs_ends_the_run_after_ddp_timeout(tmp_path):
    fields = {"pack_to": 300, "use_cpu": False, "ddp_timeout": 30}
    code, output, seconds = launch(TWO, tmp_path, {"rank": 1, "step": 3, "signal": "SIGSTOP"}, **fields)
    assert code == 1, output
    assert 30 < seconds < 150  # startup, the timeout, and half a minute that torchrun waits for a hanging process
    assert names_in(tmp_path) == {"checkpoint-2"}
    code, output, _ = launch(TWO, tmp_path, {"rank": 2, "step": 0}, **fields, resume_from_checkpoint="true")
    assert code == 0, output


@pytest.mark.slow
def test_run_resumed_from_any_step_ends_bit_equal(tmp_path):
    uninterrupted = train(tmp_path / "uninterrupted", save_steps=1)
    assert uninterrupted.args.fast_path
    assert 2 <= len(uninterrupted.packed_sampler) < 6  # an epoch has several steps, the run several epochs
    for step in range(1, 6):
        checkpoint, folder = f"checkpoint-{step}", tmp_path / f"from {step}"
        shutil.copytree(tmp_path / "uninterrupted" / checkpoint, folder / checkpoint)
        resumed = train(folder, resume_from_checkpoint="true", save_strategy="no")
        assert_same_adapter(tmp_path / "uninterrupted", folder)
        assert resumed.state.log_history[-2]["loss"] == uninterrupted.state.log_history[-2]["loss"]


def test_checkpoint_written_again_replaces_the_first(tmp_path):
    for content in ("first", "second"):
        with staged_checkpoint(tmp_path, publishes=True, wait=lambda: None) as staging:
            (staging / "checkpoint-3").mkdir(parents=True)
            (staging / "checkpoint-3" / "weights").write_text(content)
    assert names_in(tmp_path) == {"checkpoint-3"}
    assert (tmp_path / "checkpoint-3/weights").read_text() == "second"


def test_next_save_removes_the_rest_of_a_killed_one_and_a_failed_save_leaves_nothing(tmp_path):
    (tmp_path / STAGING / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "checkpoint-1").mkdir()
    with (
        pytest.raises(OSError, match="no space"),
        staged_checkpoint(tmp_path, publishes=True, wait=lambda: None) as staging,
    ):
        assert not staging.exists()
        (staging / "checkpoint-2").mkdir(parents=True)
        raise OSError("no space")
    assert names_in(tmp_path) == {"checkpoint-1"}


def test_old_checkpoints_are_deleted_by_step(tmp_path):
    args, state = resume_config(tmp_path, None, save_total_limit=2), TrainerState(global_step=10)
    for age, name in enumerate(
        ("checkpoint-9", "checkpoint-10", "checkpoint-8", "checkpoint-12", "checkpoint-7-mine")
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").touch()
        os.utime(tmp_path / name, (10_000 - 100 * age,) * 2)  # the clock goes back
    (tmp_path / "checkpoint-6").mkdir()  # incomplete
    others = {"checkpoint-12", "checkpoint-7-mine", "checkpoint-6"}  # written again, a copy of the user, not complete
    delete_old_checkpoints(args, state, is_complete=False)
    assert names_in(tmp_path) == others | {"checkpoint-9", "checkpoint-10"}
    args.save_total_limit, state.best_global_step = 1, 9
    delete_old_checkpoints(args, state, is_complete=False)
    assert names_in(tmp_path) == others | {"checkpoint-9", "checkpoint-10"}
    delete_old_checkpoints(args, state, is_complete=True)
    assert names_in(tmp_path) == others | {"checkpoint-9"}


def test_last_checkpoint_of_a_stopped_run_is_kept(tmp_path):
    fields = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    fields |= {"save_total_limit": 1, "metric_for_best_model": "eos_accuracy"}  # 0 at every step: the first is best
    trainer = make_trainer(tmp_path, model_folder=tiny_folder() / "model", **RESUMABLE | fields)
    trainer.add_callback(Stop())
    trainer.train()
    assert trainer.stopped_early and names_in(tmp_path) >= {"checkpoint-1", "checkpoint-3"}


class Stop(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_best_checkpoint_is_recorded_by_its_final_path(tmp_path):
    fields = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps"}
    trainer = train(tmp_path, **fields, eval_steps=2, save_total_limit=1, max_steps=4)
    best = tmp_path / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)


def resume_config(folder, checkpoint: str | None, **fields) -> SFTConfig:
    fields |= {"output_dir": str(folder), "datasets": ["none"], "report_to": "none"}
    return SFTConfig(resume_from_checkpoint=checkpoint, **fields)


def test_unfinished_run_is_neither_overwritten_nor_resumed_by_default(tmp_path):
    assert checkpoint_to_resume(resume_config(tmp_path, None)) is None
    with pytest.raises(InputError, match="no complete checkpoint to resume from"):
        checkpoint_to_resume(resume_config(tmp_path, "true"))
    with pytest.raises(InputError, match="resume_from_checkpoint: no complete checkpoint .*nowhere"):
        checkpoint_to_resume(resume_config(tmp_path, str(tmp_path / "nowhere")))
    for step in (3, 12, "12-best"):  # the last is a copy made by the user
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").touch()
    (tmp_path / "checkpoint-15").mkdir()  # incomplete: without trainer_state.json
    with pytest.raises(InputError, match="checkpoint-12 belongs to an unfinished run: pass --resume_from_checkpoint"):
        checkpoint_to_resume(resume_config(tmp_path, None))
    assert checkpoint_to_resume(resume_config(tmp_path, "true")) == str(tmp_path / "checkpoint-12")
    chosen = str(tmp_path / "checkpoint-3")
    assert checkpoint_to_resume(resume_config(tmp_path, chosen)) == chosen
