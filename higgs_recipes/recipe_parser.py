"""Recipe YAML + command line -> one checked config. Strict where trl's parser is lenient."""

import difflib
import sys
import types
from collections.abc import Hashable, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from trl import TrlParser

from higgs_recipes.errors import InputError


Config = TypeVar("Config")


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; here the second is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise InputError(f"line {key_node.start_mark.line + 1}: field {key!r} stands twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of a field's type; a whole number fits a float, and "1e-4" (a YAML string) too."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is Literal:
        return value in options
    if hint is Any:
        return True
    if origin is list or hint is list:
        # A list of texts may hold mappings: a source with its columns is one.
        item_hint = options[0] if options else Any
        return isinstance(value, list) and all(
            _fits(item, item_hint) or (item_hint is str and isinstance(item, dict)) for item in value
        )
    if origin is dict or hint is dict:
        return isinstance(value, dict)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value in [member.value for member in hint]
    if hint is float:
        return _is_number(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _describe(hint: Any) -> str:
    """The allowed values in words: "one of 'lora', 'full'", "int or null"."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in options)
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in options)
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(repr(member.value) for member in hint)
    return str(hint) if options else hint.__name__


def read_recipe(path: str | Path, config_class: type) -> dict[str, Any]:
    """The fields of a recipe file, each checked against the config class.

    Raises:
        InputError: no such file, no mapping, a duplicate key, an unknown field (with the nearest name), a value of
            another type or outside its set; names file and field.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such recipe")
    try:
        recipe = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # a SafeLoader
    except (yaml.YAMLError, InputError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: a recipe is a mapping of fields, got {type(recipe).__name__}")

    hints = get_type_hints(config_class)
    allowed = {field.name for field in fields(config_class) if field.init}
    for name, value in recipe.items():
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(sorted(allowed))}"
            raise InputError(f"{path}: unknown field {name!r}; {hint}")
        if not _fits(value, hints[name]):
            raise InputError(f"{path}: field {name!r} is {value!r}; it must be {_describe(hints[name])}")
    return recipe


class _Parser(TrlParser):
    """`TrlParser` whose command-line errors are one line too."""

    def error(self, message: str) -> None:
        raise InputError(f"command line: {message}; see --help")


def parse_recipe(config_class: type[Config], args: Sequence[str] | None = None) -> Config:
    """Read `--config recipe.yaml`, let the rest of the command line override its fields, and build the config.

    Raises:
        InputError: what `read_recipe` raises, an unknown flag, or what the config's own checks find.
    """
    args = list(sys.argv[1:] if args is None else args)
    path = next((value for flag, value in zip(args, args[1:], strict=False) if flag == "--config"), None)
    if path is not None:
        read_recipe(path, config_class)
    try:
        (config,) = _Parser((config_class,)).parse_args_and_config(args)
    except ValueError as error:
        raise InputError(f"{path or 'command line'}: {error}") from error
    return config
