"""What a run ran on and with: the facts that its records, reports and cards carry."""

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


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, "-dirty" when edited; None where it is no checkout."""
    here = Path(__file__).resolve()
    if shutil.which("git") is None:
        return None
    # An installed copy may lie inside some other project's checkout: only a tracked file tells of this one.
    for command in ("ls-files --error-unmatch " + here.name, "describe --always --exclude=* --abbrev=40 --dirty"):
        git = subprocess.run(["git", "-C", here.parent, *command.split()], capture_output=True, text=True)
        if git.returncode:
            return None
    return git.stdout.strip()


LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "trl", "deepspeed", "huggingface_hub")


def describe_hardware() -> str:
    """The GPUs in use, one a process, by name; or the processor and how many threads torch uses of it."""
    state = PartialState()
    if state.device.type == "cuda":
        return f"{state.num_processes} x {torch.cuda.get_device_name(state.device)}"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def library_versions() -> dict[str, str | None]:
    """Version of each library that a result may depend on; None where it is not installed."""
    return {name: _version(name) for name in LIBRARIES}


def run_environment() -> dict[str, Any]:
    """The commit of this project, the library versions and the hardware."""
    return {"git_commit": git_commit(), "versions": library_versions(), "hardware": describe_hardware()}


def resolved_recipe(config: TrainingArguments, *, given: Set[str]) -> dict[str, Any]:
    """The recipe as it ran: all fields of ours, and those of TrainingArguments that were given.

    Args:
        given: the fields that `recipe_parser.given_fields` found; TrainingArguments fills in many of the rest.
    """
    resolved = config.to_dict()  # enums by value, tokens masked
    inherited = {field.name for field in fields(TrainingArguments)}
    return {name: value for name, value in resolved.items() if name not in inherited or name in given}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
