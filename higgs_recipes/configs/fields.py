"""How a knob is declared, with its reason, and checked: what every config class is made of."""

from dataclasses import field
from importlib.util import find_spec
from typing import Any, Literal

from higgs_recipes.errors import InputError


def option(default: Any, help: str) -> Any:
    """A dataclass field with its reason; lists and dicts are copied for each instance."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless the condition holds."""
    if not condition:
        raise InputError(message)


def require_package(name: str, needed_by: str) -> None:
    """Raise `InputError` unless a package is installed, by its name on the index, that a knob's value needs."""
    require(find_spec(name) is not None, f"{needed_by} needs a package that is not installed: pip install {name}")


def require_seed(seed: int) -> None:
    """Raise `InputError` unless torch's generators take the seed and a row's number added to it."""
    require(0 <= seed < 2**63, f"seed must be in 0 .. 2**63 - 1, got {seed}")


Dtype = Literal["float32", "bfloat16"]
