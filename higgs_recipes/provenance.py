"""What a run ran on: the facts that its reports and cards carry."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch


LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "trl", "deepspeed", "huggingface_hub")


def describe_hardware() -> str:
    """The accelerators by name, or the processor and how many threads torch uses of it."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def library_versions() -> dict[str, str | None]:
    """Version of each library that a result may depend on; None where it is not installed."""
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
