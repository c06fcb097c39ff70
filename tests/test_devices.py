"""Devices: peak memory, synchronization, and the single process of generation."""

import pytest
import torch
from accelerate import PartialState

from higgs_recipes.devices import peak_memory_gib, single_device, synchronize
from higgs_recipes.errors import InputError


def test_peak_memory_does_not_shrink_and_has_the_unit_gib():
    before = peak_memory_gib()
    block = torch.ones(2**26)  # 256 MiB
    after = peak_memory_gib()
    assert 0.01 < before <= after < 64 and block.sum() == 2**26
    if not torch.cuda.is_available():
        assert after > 0.25


def test_a_cpu_needs_no_synchronization():
    assert synchronize(torch.device("cpu")) is None


def test_one_process_gets_its_device():
    assert single_device() == PartialState().device


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setitem(vars(PartialState()), "num_processes", 2)
    with pytest.raises(InputError, match="generation runs in one process, 2 were launched: use --num_processes 1"):
        single_device()
