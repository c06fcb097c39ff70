"""The device a process runs on: which it is, waiting for it, and its peak memory."""

import resource

import torch
from accelerate import PartialState

from higgs_recipes.errors import InputError


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_gib() -> float:
    """Of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def single_device() -> torch.device:
    """The device of a script that speaks; it does so in one process.

    Raises:
        InputError: several were launched; each would generate everything and write the same folder.
    """
    state = PartialState()
    if state.num_processes > 1:
        raise InputError(f"generation runs in one process, {state.num_processes} were launched: use --num_processes 1")
    return state.device
