"""The device of a process: synchronization, peak memory, and the device of single-process scripts."""

import resource

import torch
from accelerate import PartialState

from higgs_recipes.errors import InputError


def synchronize(device: torch.device) -> None:
    """Wait until all work submitted to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_gib() -> float:
    """Peak memory allocated on the GPU, or of the process if there is no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_gib` count from here; the peak of a process without a GPU cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def single_device() -> torch.device:
    """The device of a script that generates in one process.

    Raises:
        InputError: several processes were launched; each would generate everything and write to the same folder.
    """
    state = PartialState()
    if state.num_processes > 1:
        raise InputError(f"generation runs in one process, {state.num_processes} were launched: use --num_processes 1")
    return state.device
