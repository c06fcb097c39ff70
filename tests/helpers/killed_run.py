"""A training run that kills itself in a step or in a save; a program, to run it on one or on two processes.

python -m tests.helpers.killed_run OUTPUT_FOLDER '{"rank": 0, "write": 3}' '{...}'
python -m tests.helpers.killed_run OUTPUT_FOLDER '{"rank": 1, "step": 3}' '{...}'
python -m tests.helpers.killed_run OUTPUT_FOLDER '{"rank": 1, "step": 3, "signal": "SIGSTOP"}' '{...}'
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback

from higgs_recipes.training.checkpoints import checkpoint_to_resume
from tests.helpers.train_once import make_trainer


# Fields of a run that has to restore everything: shuffled rows, random codes, dropout, moments, a schedule.
RESUMABLE = {"pack_to": 400, "fill_rows": True, "per_device_train_batch_size": 1, "code_dropout": 0.2}
RESUMABLE |= {"method": "lora", "lora_dropout": 0.1, "optim": "adamw_torch", "learning_rate": 1e-3}
RESUMABLE |= {"lr_scheduler_type": "linear", "save_strategy": "steps", "save_steps": 2, "max_steps": 6}


def names_in(folder: Path) -> set[str]:
    """The names of the files and folders in a folder."""
    return {path.name for path in folder.iterdir()}


class KillAtStep(TrainerCallback):
    """Send a signal to this process within an optimizer step, before the weights change. SIGSTOP makes it hang."""

    def __init__(self, step: int, *, name: str) -> None:
        self.step, self.signal = step, signal.Signals[name]

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.signal)


def kill_at_write(number: int) -> None:
    """Kill this process at its `number`-th call of torch.save, with half of the file written."""
    count, save = 0, torch.save

    def save_or_kill(value, path) -> None:
        nonlocal count
        count += 1
        save(value, path)
        if count == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_or_kill


def main() -> None:
    torch.set_num_threads(1)
    folder, kill, fields = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    trainer = make_trainer(folder, **fields)
    if kill["rank"] == trainer.args.process_index:
        if "write" in kill:
            kill_at_write(kill["write"])
        else:
            trainer.add_callback(KillAtStep(kill["step"], name=kill.get("signal", "SIGKILL")))
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(trainer.args))
    trainer.save_model()


if __name__ == "__main__":
    main()
