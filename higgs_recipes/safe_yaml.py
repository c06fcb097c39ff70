"""Load YAML of unknown origin: plain values only, in bounded time and memory, and with one type of error."""

from typing import Any

import yaml

from higgs_recipes.errors import InputError


MAX_DEPTH = 50  # levels of lists and mappings
MAX_NODES = 100_000  # values, where an alias counts as all values that it refers to
MAX_DIGITS = 100  # of an integer
_TAG = "tag:yaml.org,2002:"


class LimitedLoader(yaml.SafeLoader):
    """A SafeLoader that refuses documents that expand, nest too deep, or have an invalid value for an explicit tag."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}  # number of values of each complete node, with its aliases expanded

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        line = self.peek_event().start_mark.line + 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InputError(f"line {line}: nested deeper than {MAX_DEPTH} levels")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and node not in self._sizes:
            raise InputError(f"line {line}: an alias inside the value that it refers to")
        if not is_alias:
            self._sizes[node] = 1 + sum(self._sizes[child] for child in _children(node))
        if self._sizes[node] > MAX_NODES:
            raise InputError(f"line {line}: more than {MAX_NODES:,} values once its aliases are expanded")
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        shown = repr(node.value if len(node.value) <= 60 else f"{node.value[:60]}...")
        where, kind = f"line {node.start_mark.line + 1}", node.tag.removeprefix(_TAG)
        if kind == "int" and len(node.value) > MAX_DIGITS:
            raise InputError(f"{where}: {shown} has more than {MAX_DIGITS} digits")
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # The constructors of PyYAML expect texts that its resolver has matched; an explicit tag gives them any.
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            raise InputError(f"{where}: {shown} is not a valid {kind}") from error
        if isinstance(value, str):
            _check_text(value, where, shown)
        return value


def load_yaml(text: str, loader: type[LimitedLoader] = LimitedLoader) -> Any:
    """Load one YAML document.

    >>> load_yaml("a: &x [1, 2]\\nb: *x")
    {'a': [1, 2], 'b': [1, 2]}

    Raises:
        InputError: not YAML, an unknown tag or a value that is not valid for its tag, nested deeper than `MAX_DEPTH`,
            more than `MAX_NODES` values, or a text with NUL characters or half of a surrogate pair.
    """
    try:
        return yaml.load(text, Loader=loader)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an escape beyond Unicode, such as "\U00110000"
        raise InputError(f"not YAML: {error}") from error


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_text(text: str, where: str, shown: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{where}: {shown} has a NUL character or half of a surrogate pair: remove it")
