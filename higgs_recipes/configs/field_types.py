"""Types of config fields: whether a value fits the annotation of a field, and how the annotation is described."""

import types
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from math import isfinite
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from higgs_recipes.errors import InputError, shown


MAX_SHOWN = 200  # characters of a value in a message


def require_types(values: Mapping[str, Any], config_class: type, *, where: str) -> None:
    """Raise `InputError` unless each value has the type of its field; `where` begins the message."""
    hints = get_type_hints(config_class, include_extras=True)
    for name, value in values.items():
        found = f"{where}{name!r} is {shown(value, limit=MAX_SHOWN)}"
        if not fits(value, hints[name]):
            raise InputError(f"{found}; it must be {_describe(hints[name])}")
        if not are_usable(value):
            raise InputError(f"{found}; numbers must be finite, and integers have 64 bits")


def require_fields(config_class: type, values: Any, *, where: str) -> None:
    """Raise `InputError` unless `values` maps fields of the config class to values; `where` begins the message."""
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a mapping of fields, got {values!r}")
    unknown = sorted(map(str, set(values) - {field.name for field in fields(config_class)}))
    if unknown:
        raise InputError(f"{where}: {', '.join(map(repr, unknown))} is not a field of {config_class.__name__}")
    require_types(values, config_class, where=f"{where}: ")


def are_usable(value: Any) -> bool:
    """Whether the numbers in a value are finite, and integers are in the range of 64 bits."""
    if isinstance(value, dict):
        return all(are_usable(inner) for pair in value.items() for inner in pair)
    if isinstance(value, (list, tuple, set)):
        return all(map(are_usable, value))
    return -(2**63) <= value < 2**63 if isinstance(value, int) else not isinstance(value, float) or isfinite(value)


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a hint: one, or the members of a union.

    `Annotated[str, dict]` is read as a union; the command-line parser sees it as a str.
    """
    if get_origin(hint) not in (Union, types.UnionType, Annotated):
        return (hint,)
    options = [option for member in get_args(hint) for option in _options(member)]
    # transformers annotates the value of an Enum member as `Enum | str`.
    has_enum = any(_is_enum(option) for option in options)
    return tuple(option for option in options if not (has_enum and option is str))


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value has the type of a field; integers are valid floats."""
    return any(_fits_one(value, option) for option in _options(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    origin, items = get_origin(hint) or hint, get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == item and type(value) is type(item) for item in items)
    if origin is list:
        return isinstance(value, list) and all(fits(item, items[0]) for item in value if items)
    if origin is dict:
        pairs = value.items() if isinstance(value, dict) and items else ()
        return isinstance(value, dict) and all(fits(key, items[0]) and fits(item, items[1]) for key, item in pairs)
    if _is_enum(hint):
        return value in [member.value for member in hint]
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _describe(hint: Any) -> str:
    """Describe the allowed values of a field.

    >>> _describe(Literal["lora", "full"]), _describe(int | None), _describe(list[str] | dict)
    ("one of 'lora', 'full'", 'int or null', 'list of str or mapping')
    """
    return " or ".join(_describe_one(option) for option in _options(hint))


def _describe_one(hint: Any) -> str:
    origin, items = get_origin(hint) or hint, get_args(hint)
    if origin is Literal or _is_enum(hint):
        return "one of " + ", ".join(repr(item) for item in items or [member.value for member in hint])
    if hint is type(None):
        return "null"
    if origin is list:
        return "list" + (f" of {_describe(items[0])}" if items else "")
    return "mapping" if origin is dict else str(hint.__name__)
