"""Callbacks: non-finite losses name their rows, and all processes stop at the same step after SIGTERM."""

import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import HashStore, destroy_process_group, init_process_group
from transformers import TrainerControl, TrainerState

from higgs_recipes.training.callbacks import (
    AsyncHostCopy,
    GracefulStopCallback,
    NonFiniteLossCallback,
    TrainBeginCallback,
)


def test_host_copy_has_the_values_of_the_tensor():
    copy = AsyncHostCopy(torch.tensor([1.0, 2.0], requires_grad=True))
    assert copy.get().tolist() == [1.0, 2.0] and not copy.get().requires_grad


def test_functions_are_called_at_the_start_of_training_and_of_epochs():
    calls = []
    callback = TrainBeginCallback(on_train=lambda: calls.append("train"), on_epoch=calls.append)
    callback.on_train_begin(None, TrainerState(), TrainerControl())
    callback.on_epoch_begin(None, TrainerState(epoch=2.5), TrainerControl())  # as in a resumed run
    assert calls == ["train", 2]


def test_rows_of_non_finite_losses_are_named_once():
    callback = NonFiniteLossCallback("row{}".format)
    for loss, rows in ((1.0, [0, 1]), (math.nan, [2, 3]), (math.inf, [5])):
        callback.add(torch.tensor(loss), torch.tensor(rows))
    args = SimpleNamespace(output_dir="outputs/voice")
    message = (
        "step 8: the loss is not finite; rows of the batch: row2, row3, row5. .* in outputs/voice is not affected"
    )
    with pytest.raises(FloatingPointError, match=message):
        callback.on_pre_optimizer_step(args, TrainerState(global_step=7), TrainerControl())
    callback.add(torch.tensor(1.0), torch.tensor([4]))
    callback.on_pre_optimizer_step(args, TrainerState(global_step=8), TrainerControl())


@pytest.fixture
def stop_callback(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    callback, before = GracefulStopCallback(), signal.getsignal(signal.SIGTERM)
    callback.on_train_begin(None, TrainerState(), TrainerControl())
    yield callback
    callback.on_train_end(None, TrainerState(), TrainerControl())
    assert signal.getsignal(signal.SIGTERM) is before


def end_of_step(callback: GracefulStopCallback, *, world_size: int) -> bool:
    """Whether the callback stops training at the end of a step, with a checkpoint."""
    control, args = TrainerControl(), SimpleNamespace(world_size=world_size, device=torch.device("cpu"))
    callback.on_step_end(args, TrainerState(), control)
    assert control.should_save is control.should_training_stop
    return control.should_training_stop


def test_sigterm_stops_a_single_process_at_the_end_of_its_step(stop_callback):
    assert not end_of_step(stop_callback, world_size=1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert end_of_step(stop_callback, world_size=1)


def test_sigterm_stops_several_processes_one_step_later(stop_callback):
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        assert not end_of_step(stop_callback, world_size=2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not end_of_step(stop_callback, world_size=2)  # the processes exchange their requests
        assert end_of_step(stop_callback, world_size=2)
    finally:
        destroy_process_group()


def test_process_whose_launcher_has_ended_stops(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    callback = GracefulStopCallback()
    callback.on_train_begin(None, TrainerState(), TrainerControl())
    try:
        assert not end_of_step(callback, world_size=1)
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert end_of_step(callback, world_size=1)
    finally:
        callback.on_train_end(None, TrainerState(), TrainerControl())
