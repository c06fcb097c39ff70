"""The commit, library versions, hardware and recipe of a run, for its records, reports and cards."""

import platform
import shutil
import subprocess
from collections.abc import Set
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments


LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "trl", "deepspeed", "huggingface_hub")


def git_commit() -> str | None:
    """The commit of this package's checkout, with "-dirty" if files were changed; None if it is not in a checkout."""
    here = Path(__file__).resolve()
    if shutil.which("git") is None:
        return None
    # An installed copy may be inside the checkout of another project: then this file is not tracked there.
    for command in ("ls-files --error-unmatch " + here.name, "describe --always --exclude=* --abbrev=40 --dirty"):
        git = subprocess.run(["git", "-C", here.parent, *command.split()], capture_output=True, text=True)
        if git.returncode:
            return None
    return git.stdout.strip()


def describe_hardware() -> str:
    """Number and name of the GPUs in use (one per process), or the CPU and the number of threads that torch uses."""
    state = PartialState()
    return f"{state.num_processes} x {describe_device()}" if state.device.type == "cuda" else describe_device()


def describe_device() -> str:
    """Name of this process's GPU, or the CPU and the number of threads that torch uses."""
    state = PartialState()
    if state.device.type == "cuda":
        return torch.cuda.get_device_name(state.device)
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def library_versions() -> dict[str, str | None]:
    """Versions of the libraries that a result may depend on; None for one that is not installed."""
    return {name: _version(name) for name in LIBRARIES}


def run_environment() -> dict[str, Any]:
    """The commit of this project, the library versions and the hardware."""
    return {"git_commit": git_commit(), "versions": library_versions(), "hardware": describe_hardware()}


def resolved_recipe(config: TrainingArguments, *, given: Set[str]) -> dict[str, Any]:
    """The recipe of a run: all fields of this project, and the given ones of TrainingArguments.

    Args:
        config: the config after parsing.
        given: names of the fields in the recipe or on the command line, from `configs.parser.given_fields`;
            TrainingArguments fills in many others.
    """
    resolved = config.to_dict()  # enums as values, tokens masked
    inherited = {field.name for field in fields(TrainingArguments)}
    return {name: value for name, value in resolved.items() if name not in inherited or name in given}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
