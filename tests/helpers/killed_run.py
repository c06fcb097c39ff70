"""A training run that is killed where it hurts; a program, so that the tests survive it, alone or on two processes.

python -m tests.helpers.killed_run OUTPUT_FOLDER '{"rank": 0, "write": 3}' '{...}'
python -m tests.helpers.killed_run OUTPUT_FOLDER '{"rank": 1, "step": 3}' '{...}'
python -m tests.helpers.killed_run OUTPUT_FOLDER '{"rank": 1, "step": 3, "signal": "SIGSTOP"}' '{...}'
"""

import json
import os
import signal
import sys

import torch
from transformers import TrainerCallback

from higgs_recipes.training.checkpoints import checkpoint_to_resume
from tests.helpers.train_once import make_trainer


class DieAtStep(TrainerCallback):
    """In the middle of an optimizer step: its gradients are there, the weights are not changed yet. SIGSTOP hangs."""

    def __init__(self, step: int, *, name: str) -> None:
        self.step, self.signal = step, signal.Signals[name]

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.signal)


def die_at_write(number: int) -> None:
    """In the middle of a save: at the process's `number`-th call of torch.save, half of that file on the disk."""
    count, save = 0, torch.save

    def save_or_die(what, path) -> None:
        nonlocal count
        count += 1
        save(what, path)
        if count == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_or_die


def main() -> None:
    torch.set_num_threads(1)
    folder, how, fields = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    trainer = make_trainer(folder, **fields)
    if how["rank"] == trainer.args.process_index:
        if "write" in how:
            die_at_write(how["write"])
        else:
            trainer.add_callback(DieAtStep(how["step"], name=how.get("signal", "SIGKILL")))
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(trainer.args))
    trainer.save_model()


if __name__ == "__main__":
    main()
