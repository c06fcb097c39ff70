"""Recipe YAML + command line -> one checked config. Strict where trl's parser is lenient."""

import argparse
import difflib
import re
import types
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from trl import TrlParser

from higgs_recipes.errors import InputError


Config = TypeVar("Config")


class _RecipeLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence and reads 1e-4 as a text: here an error and a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # of one that is not, PyYAML says so itself
                if key in seen:
                    raise InputError(f"line {key_node.start_mark.line + 1}: field {key!r} stands twice; keep one")
                seen.add(key)
        return super().construct_mapping(node, deep)


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that a field may have: one, or those of a union. `Annotated[str, dict]` is a union that the parser of
    flags takes for a str."""
    if get_origin(hint) not in (Union, types.UnionType, Annotated):
        return (hint,)
    options = [each for option in get_args(hint) for each in _options(option)]
    # transformers spells "a member of this Enum, by its value" as `Enum | str`.
    has_enum = any(_is_enum(option) for option in options)
    return tuple(option for option in options if not (has_enum and option is str))


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of a field's type; a whole number fits a float."""
    return any(_fits_one(value, option) for option in _options(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    origin, items = get_origin(hint) or hint, get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == item and type(value) is type(item) for item in items)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, items[0]) for item in value if items)
    if origin is dict:
        pairs = value.items() if isinstance(value, dict) and items else ()
        return isinstance(value, dict) and all(_fits(key, items[0]) and _fits(each, items[1]) for key, each in pairs)
    if _is_enum(hint):
        return value in [member.value for member in hint]
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _describe(hint: Any) -> str:
    """The allowed values in words: "one of 'lora', 'full'", "int or null", "list of str or mapping"."""
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


def _suggest(name: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1)
    return f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(sorted(allowed))}"


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
        recipe = yaml.load(path.read_text(encoding="utf-8"), Loader=_RecipeLoader)  # a SafeLoader
    except (yaml.YAMLError, InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: a recipe is a mapping of fields, got {type(recipe).__name__}")

    hints = get_type_hints(config_class, include_extras=True)
    allowed = {field.name for field in fields(config_class) if field.init}
    for name, value in recipe.items():
        if name not in allowed:
            raise InputError(f"{path}: unknown field {name!r}; {_suggest(str(name), allowed)}")
        if not _fits(value, hints[name]):
            raise InputError(f"{path}: field {name!r} is {value!r}; it must be {_describe(hints[name])}")
    return recipe


class _Parser(TrlParser):
    """`TrlParser` that takes whole flags only, reads `null` and `{mapping}`, and whose errors are one line."""

    def __init__(self, config_class: type) -> None:
        super().__init__((config_class,), allow_abbrev=False)
        self.description = "--config RECIPE.yaml gives any of these fields; the flags override it."
        self.hints = get_type_hints(config_class, include_extras=True)
        for action in self._actions:
            if action.dest in self.hints and action.type is not None:
                action.type = _flag_reader(action.type, self.hints[action.dest])

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            allowed = [flag for action in self._actions for flag in action.option_strings]
            raise InputError(f"unknown flag {unknown[0]!r}; {_suggest(unknown[0], allowed)}")
        for name, value in vars(namespace).items():
            if value == [None]:  # `--codebook_weights null`
                setattr(namespace, name, None)
            elif isinstance(value, list) and None in value:
                self.error(f"--{name} takes null alone or values, not both")
        return namespace, unknown

    def error(self, message: str) -> None:
        raise InputError(f"{message}; see --help")


def _flag_reader(read_text: Callable[[str], Any], hint: Any) -> Callable[[str], Any]:
    """argparse's reader of one value, taught `null` and `{mapping}` where the field may hold them."""

    def read(text: str) -> Any:
        if text == "null" and _fits(None, hint):
            return None
        if text.startswith("{") and (_fits({}, hint) or _fits([{}], hint)):
            try:
                return yaml.load(text, Loader=_RecipeLoader)
            except (yaml.YAMLError, InputError) as error:
                raise argparse.ArgumentTypeError(f"{text!r} is no mapping: {error}") from error
        return read_text(text)

    read.__name__ = read_text.__name__  # argparse says "invalid int value"
    return read


def parse_recipe(config_class: type[Config], args: Sequence[str] | None = None) -> Config:
    """Read `--config recipe.yaml`, let the rest of the command line override its fields, and build the config.

    Raises:
        InputError: what `read_recipe` raises, an unknown flag, a flag's value of another type or outside its set, or
            what the config's own checks find.
    """
    path, flags = _split(args)
    recipe = {} if path is None else read_recipe(path, config_class)
    where = " and ".join([*([path] if path else []), *(["command line"] if flags else [])])

    parser = _Parser(config_class)
    parser.set_defaults_with_config(**recipe)
    try:
        (config,) = parser.parse_args_into_dataclasses(flags, look_for_args_file=False)
    except ValueError as error:
        raise InputError(f"{where or 'no --config'}: {error}") from error
    return config


def given_fields(config_class: type, args: Sequence[str] | None = None) -> set[str]:
    """The names of the fields that the recipe or the command line sets; the rest of the config are defaults.

    Raises:
        InputError: as `parse_recipe`.
    """
    path, flags = _split(args)
    parser = _Parser(config_class)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    from_flags, _ = parser.parse_known_args(flags)
    return set(vars(from_flags)) | set({} if path is None else read_recipe(path, config_class))


def _split(args: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The recipe that `--config` names, and the rest of the command line."""
    config_flag = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    config_flag.add_argument("--config")
    try:
        known, flags = config_flag.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise InputError(f"command line: {error}") from error
    return known.config, flags
