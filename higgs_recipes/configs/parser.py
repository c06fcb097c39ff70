"""Parse a recipe (YAML) and the command line into one checked config; stricter than the parser of trl."""

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
    """A YAML loader that rejects duplicate keys and reads 1e-4 as a number; PyYAML keeps the last key and a string."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # PyYAML rejects other keys itself
                if key in seen:
                    raise InputError(f"line {key_node.start_mark.line + 1}: duplicate field {key!r}; keep one")
                seen.add(key)
        return super().construct_mapping(node, deep)


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


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


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value has the type of a field; integers are valid floats."""
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
        return isinstance(value, dict) and all(_fits(key, items[0]) and _fits(item, items[1]) for key, item in pairs)
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


def _suggest(name: str, allowed: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, allowed, n=1)
    return f"did you mean {matches[0]!r}?" if matches else f"allowed: {', '.join(sorted(allowed))}"


def read_recipe(path: str | Path, config_class: type) -> dict[str, Any]:
    """Read the fields of a recipe file and check them against the config class.

    Raises:
        InputError: no such file, not a mapping, a duplicate key, an unknown field (with the most similar name), or a
            value of the wrong type or not among the choices. The message names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such recipe")
    try:
        recipe = yaml.load(path.read_text(encoding="utf-8"), Loader=_RecipeLoader)  # a SafeLoader
    except (yaml.YAMLError, InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: a recipe must be a mapping of fields, got {type(recipe).__name__}")

    hints = get_type_hints(config_class, include_extras=True)
    allowed = {field.name for field in fields(config_class) if field.init}
    for name, value in recipe.items():
        if name not in allowed:
            raise InputError(f"{path}: unknown field {name!r}; {_suggest(str(name), allowed)}")
        if not _fits(value, hints[name]):
            raise InputError(f"{path}: field {name!r} is {value!r}; it must be {_describe(hints[name])}")
    return recipe


class _Parser(TrlParser):
    """`TrlParser` without abbreviated flags, which reads `null` and `{mapping}` and reports errors in one line."""

    def __init__(self, config_class: type) -> None:
        super().__init__((config_class,), allow_abbrev=False)
        self.description = "--config RECIPE.yaml sets any of these fields; flags override the recipe."
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
            elif isinstance(value, list) and None in value and _fits([""], self.hints[name]):
                setattr(namespace, name, ["null" if item is None else item for item in value])  # a word among texts
            elif isinstance(value, list) and None in value:
                self.error(f"--{name} takes either null or values, not both")
        return namespace, unknown

    def error(self, message: str) -> None:
        raise InputError(f"{message}; see --help")


def _flag_reader(read_text: Callable[[str], Any], hint: Any) -> Callable[[str], Any]:
    """Extend argparse's conversion of a value by `null` and `{mapping}`, if the field allows them."""

    def read(text: str) -> Any:
        if text == "null" and _fits(None, hint):
            return None
        if text.startswith("{") and (_fits({}, hint) or _fits([{}], hint)):
            try:
                return yaml.load(text, Loader=_RecipeLoader)
            except (yaml.YAMLError, InputError) as error:
                raise argparse.ArgumentTypeError(f"{text!r} is not a mapping: {error}") from error
        return read_text(text)

    read.__name__ = read_text.__name__  # for argparse's message "invalid int value"
    return read


def parse_recipe(config_class: type[Config], args: Sequence[str] | None = None) -> Config:
    """Build a config from `--config recipe.yaml` and the other flags, which override the recipe.

    Args:
        args: the command line; None: that of the process.

    Raises:
        InputError: as `read_recipe`; an unknown flag; a flag with a value of the wrong type or not among the choices;
            or a failed check of the config.
    """
    path, flags = _split(args)
    recipe = {} if path is None else read_recipe(path, config_class)
    where = " and ".join([*([path] if path else []), *(["command line"] if flags else [])])

    parser = _Parser(config_class)
    # argparse would read a default that is a string as a flag: the word null as None.
    texts = {name for name in recipe if isinstance(recipe[name], str) and _fits([""], parser.hints[name])}
    parser.set_defaults_with_config(**recipe | {name: [recipe[name]] for name in texts})
    try:
        (config,) = parser.parse_args_into_dataclasses(flags, look_for_args_file=False)
    except ValueError as error:
        raise InputError(f"{where or 'no --config'}: {error}") from error
    return config


def given_fields(config_class: type, args: Sequence[str] | None = None) -> set[str]:
    """Return the names of the fields that the recipe or the command line sets; the others have defaults.

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
    """Split the command line into the path given by `--config` and the other flags."""
    config_flag = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    config_flag.add_argument("--config")
    try:
        known, flags = config_flag.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise InputError(f"command line: {error}") from error
    return known.config, flags
