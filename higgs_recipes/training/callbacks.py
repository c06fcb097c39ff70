"""Callbacks of the trainer: start of training and of epochs, a non-finite loss, SIGTERM."""

import logging
import math
import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerCallback

from higgs_recipes.configs.sft import SFTConfig


logger = logging.getLogger(__name__)


class AsyncHostCopy:
    """An asynchronous copy of a tensor to the host. `get` waits for the copy only, not for later work of the GPU."""

    def __init__(self, tensor: Tensor) -> None:
        # Only CUDA has events here that tell when an asynchronous copy is complete; other devices copy synchronously.
        self._copy = tensor.detach().to("cpu", non_blocking=tensor.is_cuda)
        self._done = torch.cuda.Event() if tensor.is_cuda else None
        if self._done is not None:
            self._done.record()

    def get(self) -> Tensor:
        if self._done is not None:
            self._done.synchronize()
        return self._copy


def early_stopping(config: SFTConfig) -> EarlyStoppingCallback | None:
    """The callback that ends training by `early_stopping_patience`; None without it."""
    patience = config.early_stopping_patience
    return None if patience is None else EarlyStoppingCallback(patience, config.early_stopping_threshold)


class TrainBeginCallback(TrainerCallback):
    """Call `on_train()` before the first step and `on_epoch(number)` before the first batch of an epoch is made."""

    def __init__(self, *, on_train: Callable[[], None], on_epoch: Callable[[int], None]) -> None:
        self.on_train, self.on_epoch = on_train, on_epoch

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.on_train()

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.on_epoch(int(state.epoch))  # in a resumed run it has a fraction


class NonFiniteLossCallback(TrainerCallback):
    """Raise FloatingPointError with the step and its rows if a loss is not finite, before the weights are updated.

    Args:
        row_id: returns the id of a row by its index.
    """

    def __init__(self, row_id: Callable[[int], str]) -> None:
        self.row_id = row_id
        self.micro_batches: list[tuple[AsyncHostCopy, Tensor]] = []  # (loss, row_index) of the current step

    def add(self, loss: Tensor, row_index: Tensor) -> None:
        """Add a micro-batch: its loss () and the indexes of its rows (samples,)."""
        self.micro_batches.append((AsyncHostCopy(loss), row_index))

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        failed = [row_index for loss, row_index in self.micro_batches if not math.isfinite(loss.get())]
        self.micro_batches.clear()
        rows = [self.row_id(int(row)) for row_index in failed for row in row_index]
        if rows:
            raise FloatingPointError(
                f"step {state.global_step + 1}: the loss is not finite; rows of the batch: {', '.join(rows)}. "
                f"Check these rows, or lower learning_rate; the last checkpoint in {args.output_dir} is not affected"
            )


class GracefulStopCallback(TrainerCallback):
    """On SIGTERM: finish the step, save a checkpoint and stop. transformers' own callback would save within a step.

    Several processes finish one more step: each step starts a reduction of their requests and reads the result of the
    previous step's, which has arrived by then, so that no process waits for its GPU.
    """

    def __init__(self) -> None:
        self.is_requested = self.has_stopped = False
        self.pending: AsyncHostCopy | None = None  # whether any process had a request in the previous step

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.previous_handler = signal.signal(signal.SIGTERM, self._request)
        # `accelerate launch` of one process (only then it sets this variable) dies of a SIGTERM without forwarding it.
        self.launcher = os.getppid() if "ACCELERATE_USE_CPU" in os.environ else None

    def _request(self, signum: int, frame: Any) -> None:
        self.is_requested = True

    def on_step_end(self, args, state, control, **kwargs) -> None:
        # The signal reaches the processes at different steps; all must stop at the same one.
        is_orphan = self.launcher is not None and os.getppid() != self.launcher
        should_stop = self.is_requested or is_orphan
        if args.world_size > 1:
            previous, self.pending = self.pending, self._any_process(should_stop, args.device)
            should_stop = previous is not None and bool(previous.get())
        if should_stop:
            logger.warning("SIGTERM: saving a checkpoint at step %d and stopping", state.global_step)
            control.should_save = control.should_training_stop = self.has_stopped = True

    def _any_process(self, flag: bool, device: torch.device) -> AsyncHostCopy:
        """Whether the flag is set in any process."""
        flags = torch.full((1,), int(flag), dtype=torch.int, device=device)  # filled on the device: no copy to it
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        return AsyncHostCopy(flags)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        signal.signal(signal.SIGTERM, self.previous_handler)
