"""What the trainer does at the events of training: begin, a step with a broken loss, SIGTERM."""

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback


logger = logging.getLogger(__name__)


class AsyncHostCopy:
    """A tensor on its way to the host. Asking for it waits for what made it, not for what the GPU was given since."""

    def __init__(self, tensor: Tensor) -> None:
        # On other devices nothing here would tell when a copy that nobody waits for is there.
        self._copy = tensor.detach().to("cpu", non_blocking=tensor.is_cuda)
        self._arrived = torch.cuda.Event() if tensor.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def get(self) -> Tensor:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy


class TrainBeginCallback(TrainerCallback):
    """Call `train()` before the first step, and `epoch(number)` before the first batch of each epoch is made."""

    def __init__(self, *, train: Callable[[], None], epoch: Callable[[int], None]) -> None:
        self.train, self.epoch = train, epoch

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.train()

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.epoch(int(state.epoch))  # of a resumed run it has a fraction


class NonFiniteLossCallback(TrainerCallback):
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


class GracefulStopCallback(TrainerCallback):
    """On SIGTERM: finish the step, save a checkpoint, end. transformers' own callback would save within a step.

    Several processes finish one step more: what they agree on in a step is looked at in the next, when it has arrived
    without any of them waiting for its GPU.
    """

    def __init__(self) -> None:
        self.asked = False
        self.agreed: AsyncHostCopy | None = None  # whether any process had been asked, a step ago

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.previous = signal.signal(signal.SIGTERM, self._ask)
        # `accelerate launch` of one process (only then it sets this) dies of a SIGTERM and does not pass it on.
        self.launcher = os.getppid() if "ACCELERATE_USE_CPU" in os.environ else None

    def _ask(self, signum: int, frame: Any) -> None:
        self.asked = True

    def on_step_end(self, args, state, control, **kwargs) -> None:
        # The signal reaches the processes at different steps; all must stop at the same one.
        is_orphan = self.launcher is not None and os.getppid() != self.launcher
        asked = self.asked or is_orphan
        if args.world_size > 1:
            before, self.agreed = self.agreed, self._agree(asked, args.device)
            asked = before is not None and bool(before.get())
        if asked:
            logger.warning("SIGTERM: saving a checkpoint at step %d and stopping", state.global_step)
            control.should_save = control.should_training_stop = True

    def _agree(self, asked: bool, device: torch.device) -> AsyncHostCopy:
        """Whether any process was asked."""
        flag = torch.full((1,), int(asked), dtype=torch.int, device=device)  # filled there: nothing is copied
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return AsyncHostCopy(flag)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        signal.signal(signal.SIGTERM, self.previous)
