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
    """Format a record as a list with one line per field; each value is shown literally.

    >>> print(facts({"codec": None, "versions": {"torch": "2.11", "peft": "0.21"}}), end="")
    - codec: not recorded
    - versions: torch 2.11, peft 0.21
    """
    return "".join(f"- {name}: {literal(value)}\n" for name, value in record.items())


def inline(value: Any) -> str:
    """Format a value on one line: mappings and lists with commas, None as "not recorded"."""
    if value is None:
        return "not recorded"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inline(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(inline(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def literal(value: Any) -> str:
    """Format a value that Markdown shows unchanged, on one line, also in a table cell.

    >>> print(literal("**a** | <b> https://hub"))
    \\*\\*a\\*\\* \\| &lt;b&gt; https\\://hub
    """
    return cell(escape_marks(inline(value)))


def cell(value: Any) -> str:
    """Format a value for a table cell: on one line, floats with four digits; vertical bars and HTML are escaped.

    >>> cell("a | <b>"), cell(1 / 3)
    ('a \\\\| &lt;b&gt;', '0.3333')
    """
    text = f"{value:.4g}" if isinstance(value, float) else html.escape(str(value), quote=False)
    return " ".join(text.replace("|", "\\|").split())


def escape_marks(text: str) -> str:
    """Escape what Markdown formats or links, except bars and HTML, which `cell` escapes.

    An underscore inside a word has no effect.

    >>> cell(escape_marks("*a* | <b> a_name"))
    '\\\\*a\\\\* \\\\| &lt;b&gt; a_name'
    """
    marks = r"[\\`*\[\]#~]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.|:(?=//)"
    return re.sub(marks, lambda mark: f"\\{mark[0]}", text, flags=re.IGNORECASE)


def code(text: Any) -> str:
    """Format a value as code in a line.

    >>> print(code("a"), code("a ` b"))
    `a` `` a ` b ``
    """
    text = " ".join(str(text).split())
    fence = "`" * (_longest_run(text) + 1)
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def code_block(text: str, language: str) -> str:
    """Format lines of code as a block, which no line of it can close."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
