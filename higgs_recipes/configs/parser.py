"""Parse a recipe (YAML) and the command line into one checked config; stricter than the parser of trl."""

import argparse
import difflib
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from trl import TrlParser

from higgs_recipes.configs.field_types import MAX_SHOWN, are_usable, fits, require_types
from higgs_recipes.errors import InputError, shown
from higgs_recipes.safe_yaml import LimitedLoader, load_yaml


Config = TypeVar("Config")


class _RecipeLoader(LimitedLoader):
    """A YAML loader that rejects duplicate keys and reads 1e-4 as a number; PyYAML keeps the last key and a string.

    Dates are strings: no field is a date, and 2024-01-31 may be the name of a revision.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in LimitedLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # PyYAML rejects other keys itself
                if key in seen:
                    raise InputError(f"line {key_node.start_mark.line + 1}: duplicate field {key!r}; keep one")
                seen.add(key)
        return super().construct_mapping(node, deep)


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), list("-+0123456789")
)


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
        recipe = load_yaml(path.read_text(encoding="utf-8"), _RecipeLoader)
    except (InputError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: a recipe must be a mapping of fields, got {type(recipe).__name__}")

    allowed = {field.name for field in fields(config_class) if field.init}
    for name in recipe:
        if name not in allowed:
            suggestion = _suggest(str(name)[:MAX_SHOWN], allowed)
            raise InputError(f"{path}: unknown field {shown(name, limit=MAX_SHOWN)}; {suggestion}")
    require_types(recipe, config_class, where=f"{path}: field ")
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
            elif isinstance(value, list) and None in value and fits([""], self.hints[name]):
                setattr(namespace, name, ["null" if item is None else item for item in value])  # a word among texts
            elif isinstance(value, list) and None in value:
                self.error(f"--{name} takes either null or values, not both")
        return namespace, unknown

    def error(self, message: str) -> None:
        raise InputError(f"{message}; see --help")


def _flag_reader(read_text: Callable[[str], Any], hint: Any) -> Callable[[str], Any]:
    """Extend argparse's conversion of a value by `null` and `{mapping}`, if the field allows them."""

    def read(text: str) -> Any:
        if text == "null" and fits(None, hint):
            return None
        if text.startswith("{") and (fits({}, hint) or fits([{}], hint)):
            try:
                value = load_yaml(text, _RecipeLoader)
            except InputError as error:
                raise argparse.ArgumentTypeError(f"{text!r} is not a mapping: {error}") from error
        else:
            value = read_text(text)
        if not are_usable(value):
            raise argparse.ArgumentTypeError(f"{text!r}: numbers must be finite, and integers have 64 bits")
        return value

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
    texts = {name for name in recipe if isinstance(recipe[name], str) and fits([""], parser.hints[name])}
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
