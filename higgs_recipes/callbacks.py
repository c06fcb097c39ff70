"""What the trainer does at the events of training: begin, a step with a broken loss, SIGTERM."""

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback


logger = logging.getLogger(__name__)


class AtStart(TrainerCallback):
    """Call `train()` before the first step, and `epoch(number)` before the first batch of each epoch is made."""

    def __init__(self, *, train: Callable[[], None], epoch: Callable[[int], None]) -> None:
        self.train, self.epoch = train, epoch

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.train()

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.epoch(int(state.epoch))  # of a resumed run it has a fraction


class RefuseNaN(TrainerCallback):
    """Raise FloatingPointError with the step and the rows that `nan_rows()` names, before the weights are touched."""

    def __init__(self, nan_rows: Callable[[], list[str]]) -> None:
        self.nan_rows = nan_rows

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        rows = self.nan_rows()
        if rows:
            raise FloatingPointError(
                f"step {state.global_step + 1}: the loss is not finite; rows of the batch: {', '.join(rows)}. "
                f"Look at these rows, or lower learning_rate; the last checkpoint in {args.output_dir} is from before"
            )


class StopCleanly(TrainerCallback):
    """On SIGTERM: finish the step, save a checkpoint, end. transformers' own callback would save within a step."""

    def __init__(self) -> None:
        self.asked = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.previous = signal.signal(signal.SIGTERM, self._ask)
        # `accelerate launch` of one process (only then it sets this) dies of a SIGTERM and does not pass it on.
        self.launcher = os.getppid() if "ACCELERATE_USE_CPU" in os.environ else None

    def _ask(self, signum: int, frame: Any) -> None:
        self.asked = True

    def on_step_end(self, args, state, control, **kwargs) -> None:
        # The signal reaches the processes at different steps; all must stop at the same one.
        is_orphan = self.launcher is not None and os.getppid() != self.launcher
        asked = torch.tensor([self.asked or is_orphan], dtype=torch.int, device=args.device)
        if args.world_size > 1:
            torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
        if bool(asked):
            logger.warning("SIGTERM: saving a checkpoint at step %d and stopping", state.global_step)
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs) -> None:
        signal.signal(signal.SIGTERM, self.previous)
