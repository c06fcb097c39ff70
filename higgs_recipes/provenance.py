"""What a run ran on and with: the facts that its records, reports and cards carry."""

import platform
from collections.abc import Set
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from higgs_recipes.configs import SFTConfig
from higgs_recipes.files import git_commit


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


def surroundings() -> dict[str, Any]:
    """The commit of this project, the library versions and the hardware."""
    return {"git_commit": git_commit(), "versions": library_versions(), "hardware": describe_hardware()}


def resolved_recipe(config: SFTConfig, *, given: Set[str]) -> dict[str, Any]:
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
