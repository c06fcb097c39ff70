"""Checkpoints are whole or not there, whatever kills a run, and a resumed run ends as one left alone."""

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

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.training.checkpoints import STAGING, checkpoint_to_resume, staged_checkpoint
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT
from tests.helpers.train_once import make_trainer


# All that a resumed run has to find again: rows drawn anew each epoch, drawn codes, dropout, moments, a schedule.
EVERYTHING = {"pack_to": 400, "fill_rows": True, "per_device_train_batch_size": 1, "code_dropout": 0.2}
EVERYTHING |= {"method": "lora", "lora_dropout": 0.1, "optim": "adamw_torch", "learning_rate": 1e-3}
EVERYTHING |= {"lr_scheduler_type": "linear", "save_strategy": "steps", "save_steps": 2, "max_steps": 6}
WRITES = 4  # calls of torch.save for a checkpoint of process 0: arguments, optimizer, schedule, random state
ONE, TWO = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launch(python, folder, how: dict, **fields) -> tuple[int, str, float]:
    """Exit code, what was said, and the seconds that it took."""
    fields = {"model_folder": str(tiny_folder() / "model")} | EVERYTHING | fields
    began = time.monotonic()
    done = subprocess.run(
        [*python, "-m", "tests.helpers.killed_run", folder, json.dumps({"rank": 0} | how), json.dumps(fields)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.returncode, done.stderr[-3000:], time.monotonic() - began


def left_in(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_same_adapter(one, two) -> None:
    weights, others = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())


def train(folder, **fields):
    trainer = make_trainer(folder, model_folder=tiny_folder() / "model", **EVERYTHING | fields)
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(trainer.args))
    trainer.save_model()
    return trainer


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_save_leaves_the_last_checkpoint_and_a_run_that_resumes_bit_equal(tmp_path):
    cut, alone = tmp_path / "cut", tmp_path / "alone"
    code, said, _ = launch(ONE, cut, {"write": WRITES + 2}, save_total_limit=1)
    assert code == -signal.SIGKILL, said
    assert left_in(cut) == {"checkpoint-2", STAGING}  # with its limit of one, the old one is still there
    assert left_in(cut / STAGING) == {"checkpoint-4"}

    resumed = train(cut, resume_from_checkpoint="true", save_total_limit=1)
    assert resumed.state.log_history[0]["step"] == 1 and left_in(cut) >= {"checkpoint-6", "run.json"}
    assert not [name for name in left_in(cut) if name in (STAGING, "checkpoint-2", "checkpoint-4")]
    whole = train(alone)
    assert 2 <= len(whole.packed_sampler) < 6  # more steps than an epoch, which is more than one
    assert_same_adapter(alone, cut)


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_leaves_a_whole_checkpoint(tmp_path):
    """Killed within a step and, resumed, while one process has written its part of a checkpoint and the other not."""
    cut, alone = tmp_path / "cut", tmp_path / "alone"
    fields = {"pack_to": 300}  # an epoch of more rows: some for both
    code, said, _ = launch(TWO, alone, {"rank": 2, "step": 0}, **fields)
    assert code == 0, said

    code, said, seconds = launch(TWO, cut, {"rank": 1, "step": 3}, **fields)
    assert code == 1 and "Signal 9 (SIGKILL)" in said, said
    assert seconds < 60  # torchrun ends the rest: nobody waits for ddp_timeout
    assert left_in(cut) == {"checkpoint-2"}

    resume = fields | {"resume_from_checkpoint": "true"}
    code, said, _ = launch(TWO, cut, {"rank": 1, "write": 1}, **resume)
    assert code == 1 and "Signal 9 (SIGKILL)" in said, said
    assert "checkpoint-2" in left_in(cut) <= {"checkpoint-2", STAGING}

    code, said, _ = launch(TWO, cut, {"rank": 2, "step": 0}, **resume)
    assert code == 0, said
    assert_same_adapter(alone, cut)
    assert {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"} <= left_in(cut / "checkpoint-6")


@pytest.mark.gpu
def test_a_process_that_hangs_ends_the_run_after_ddp_timeout(tmp_path):
    fields = {"pack_to": 300, "use_cpu": False, "ddp_timeout": 30}
    code, said, seconds = launch(TWO, tmp_path, {"rank": 1, "step": 3, "signal": "SIGSTOP"}, **fields)
    assert code == 1, said
    assert 30 < seconds < 150  # the start, the timeout, and half a minute that torchrun gives what does not answer
    assert left_in(tmp_path) == {"checkpoint-2"}
    code, said, _ = launch(TWO, tmp_path, {"rank": 2, "step": 0}, **fields, resume_from_checkpoint="true")
    assert code == 0, said


@pytest.mark.slow
def test_a_run_resumed_from_any_of_its_steps_ends_bit_equal(tmp_path):
    whole = train(tmp_path / "whole", save_steps=1)
    assert whole.args.fast_path and 2 <= len(whole.packed_sampler) < 6  # more steps than an epoch, and than one
    for step in range(1, 6):
        checkpoint, folder = f"checkpoint-{step}", tmp_path / f"from {step}"
        shutil.copytree(tmp_path / "whole" / checkpoint, folder / checkpoint)
        resumed = train(folder, resume_from_checkpoint="true", save_strategy="no")
        assert_same_adapter(tmp_path / "whole", folder)
        assert resumed.state.log_history[-2]["loss"] == whole.state.log_history[-2]["loss"]


def test_a_checkpoint_made_again_takes_the_place_of_the_first(tmp_path):
    for content in ("first", "second"):
        with staged_checkpoint(tmp_path, publishes=True, wait=lambda: None) as staging:
            (staging / "checkpoint-3").mkdir(parents=True)
            (staging / "checkpoint-3" / "weights").write_text(content)
    assert left_in(tmp_path) == {"checkpoint-3"}
    assert (tmp_path / "checkpoint-3/weights").read_text() == "second"


def test_what_a_killed_save_left_goes_with_the_next_and_a_failed_one_leaves_nothing(tmp_path):
    (tmp_path / STAGING / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "checkpoint-1").mkdir()
    with (
        pytest.raises(OSError, match="no space"),
        staged_checkpoint(tmp_path, publishes=True, wait=lambda: None) as staging,
    ):
        assert not staging.exists()
        (staging / "checkpoint-2").mkdir(parents=True)
        raise OSError("no space")
    assert left_in(tmp_path) == {"checkpoint-1"}


def test_a_checkpoint_is_known_as_the_best_by_its_name_to_be(tmp_path):
    fields = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps"}
    trainer = train(tmp_path, **fields, eval_steps=2, save_total_limit=1, max_steps=4)
    best = tmp_path / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)


def resume_config(folder, asked: str | None) -> SFTConfig:
    return SFTConfig(output_dir=str(folder), datasets=["none"], resume_from_checkpoint=asked, report_to="none")


def test_an_unfinished_run_is_neither_overwritten_nor_resumed_unasked(tmp_path):
    assert checkpoint_to_resume(resume_config(tmp_path, None)) is None
    with pytest.raises(InputError, match="no complete checkpoint to resume from"):
        checkpoint_to_resume(resume_config(tmp_path, "true"))
    with pytest.raises(InputError, match="resume_from_checkpoint: no complete checkpoint .*nowhere"):
        checkpoint_to_resume(resume_config(tmp_path, str(tmp_path / "nowhere")))
    for step in (3, 12, "12-best"):  # the last is somebody's copy
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").touch()
    (tmp_path / "checkpoint-15").mkdir()  # of a run that was killed while it saved: not to be resumed
    with pytest.raises(InputError, match="checkpoint-12 belongs to an unfinished run: pass --resume_from_checkpoint"):
        checkpoint_to_resume(resume_config(tmp_path, None))
    assert checkpoint_to_resume(resume_config(tmp_path, "true")) == str(tmp_path / "checkpoint-12")
    chosen = str(tmp_path / "checkpoint-3")
    assert checkpoint_to_resume(resume_config(tmp_path, chosen)) == chosen
