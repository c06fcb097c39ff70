"""Records as Markdown: tables, lists of facts, numbers; text from outside cannot break out of its cell."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table with one line for each row.

    >>> print(table(["split", "hours"], [["train", 1.25]]), end="")
    | split | hours |
    | --- | --- |
    | train | 1.25 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell(line_cell) for line_cell in line) + " |\n" for line in lines)


def facts(record: Mapping[str, Any]) -> str:
    """A list with one line for each field; None is "not recorded".

    >>> print(facts({"codec": None, "versions": {"torch": "2.11", "peft": "0.21"}}), end="")
    - codec: not recorded
    - versions: torch 2.11, peft 0.21
    """
    return "".join(f"- {name}: {inline(value)}\n" for name, value in record.items())


def inline(value: Any) -> str:
    """A value on one line, mappings and lists with commas."""
    if value is None:
        return "not recorded"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inline(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(inline(each) for each in value)
    return cell(value)


def cell(value: Any) -> str:
    """A value as a table's cell: one line, floats with four digits, bars and HTML escaped."""
    text = f"{value:.4g}" if isinstance(value, float) else html.escape(str(value), quote=False)
    return " ".join(text.replace("|", "\\|").split())


def escape_marks(text: str) -> str:
    """Escape the marks of Markdown except bars and HTML, which `cell` and `inline` escape.

    >>> cell(escape_marks("*a* | <b>"))
    '\\\\*a\\\\* \\\\| &lt;b&gt;'
    """
    return re.sub(r"([\\`*_\[\]#~])", r"\\\1", text)
