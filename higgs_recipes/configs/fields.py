"""Helpers for config classes: declare an option with its help text, and check values."""

from dataclasses import field
from importlib.util import find_spec
from typing import Any, Literal

from higgs_recipes.errors import InputError


Dtype = Literal["float32", "bfloat16"]


def option(default: Any, help: str) -> Any:
    """Declare a dataclass field with a help text; each instance gets its own copy of a list or dict."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless the condition holds."""
    if not condition:
        raise InputError(message)


def require_package(name: str, needed_by: str) -> None:
    """Raise `InputError` unless a package that an option needs is installed.

    Args:
        name: name of the package on PyPI, equal to that of its module.
        needed_by: the option, and its value where only that needs the package.
    """
    require(find_spec(name) is not None, f"{needed_by} needs a package that is not installed: pip install {name}")


def require_seed(seed: int) -> None:
    """Raise `InputError` unless torch's generators accept the seed, also after a row index is added."""
    require(isinstance(seed, int) and 0 <= seed < 2**63, f"seed must be an integer in 0 .. 2**63 - 1, got {seed}")
