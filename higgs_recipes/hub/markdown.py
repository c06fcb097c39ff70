"""Markdown for cards and reports: tables, lists of facts, and escaping of text from outside."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a table with one line per row; each value is formatted by `cell`.

    >>> print(table(["split", "hours"], [["train", 1.25]]), end="")
    | split | hours |
    | --- | --- |
    | train | 1.25 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell(value) for value in line) + " |\n" for line in lines)


def facts(record: Mapping[str, Any]) -> str:
    """Format a record as a list with one line per field; each value is formatted by `inline`.

    >>> print(facts({"codec": None, "versions": {"torch": "2.11", "peft": "0.21"}}), end="")
    - codec: not recorded
    - versions: torch 2.11, peft 0.21
    """
    return "".join(f"- {name}: {inline(value)}\n" for name, value in record.items())


def inline(value: Any) -> str:
    """Format a value on one line: mappings and lists with commas, None as "not recorded"."""
    if value is None:
        return "not recorded"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inline(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(inline(item) for item in value)
    return cell(value)


def cell(value: Any) -> str:
    """Format a value for a table cell: on one line, floats with four digits; vertical bars and HTML are escaped.

    >>> cell("a | <b>"), cell(1 / 3)
    ('a \\\\| &lt;b&gt;', '0.3333')
    """
    text = f"{value:.4g}" if isinstance(value, float) else html.escape(str(value), quote=False)
    return " ".join(text.replace("|", "\\|").split())


def escape_marks(text: str) -> str:
    """Escape the marks of Markdown except bars and HTML, which `cell` and `inline` escape.

    >>> cell(escape_marks("*a* | <b>"))
    '\\\\*a\\\\* \\\\| &lt;b&gt;'
    """
    return re.sub(r"([\\`*_\[\]#~])", r"\\\1", text)
