"""The tables of a report: which scores there are, and the cells that show them."""

from collections.abc import Mapping
from typing import Any

from higgs_recipes.metrics_schema import METRICS, SYSTEMS


GROUPS = {"by_task": ("By task", "task"), "by_speaker": ("By speaker", "speaker")}

# Row of the report -> score -> {"value", "low", "high", "n", ...}; in a table of groups a row is (group, row).
Rows = Mapping[str | tuple[str, str], Mapping[str, Any]]


def metrics_of(rows: Rows) -> list[str]:
    """The scores that any of the rows has, in the order of their columns."""
    return [metric for metric in METRICS if any(metric in scores for scores in rows.values())]


def titles_of(rows: Rows) -> list[str]:
    return [METRICS[metric].title for metric in metrics_of(rows)]


def cells(rows: Rows, name: str | tuple[str, str]) -> list[dict[str, Any]]:
    """The cells of one row; left, width and at place its interval on the column's scale, in percent."""
    return [_cell(rows, name, metric) for metric in metrics_of(rows)]


def _cell(rows: Rows, name: str | tuple[str, str], metric: str) -> dict[str, Any]:
    score, factor = rows[name].get(metric), METRICS[metric].factor
    if score is None or score["value"] is None:
        # Recordings were not generated, so they neither stop nor run on.
        return {"text": None, "missing": "–" if score is None else "not measured"}
    unit = "\u00a0%" if factor == 100 else ""
    low, high = score["low"], score["high"]
    others = (row[metric] for row in rows.values() if metric in row)
    top = max([1e-9, *(other["high"] for other in others if other["high"] is not None)])
    left, right = (100 * min(max(edge / top, 0), 1) for edge in (low, high))
    return {
        "text": _number(score["value"], factor) + unit,
        "interval": f"{_number(low, factor)} to {_number(high, factor)}{unit}, n={score['n']}",
        "left": round(left, 1),
        "width": round(right - left, 1),
        "at": round(100 * min(max(score["value"] / top, 0), 1), 1),
    }


def grouped_tables(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables by task and by speaker that the record has: {"key", "title", "head" (what a group is), "columns",
    "groups": [{"value", "lines": as those of the first table}]}."""
    tables = []
    for field, (title, head) in GROUPS.items():
        if not metrics[field]:
            continue
        rows = {(value, name): scores for value, group in metrics[field].items() for name, scores in group.items()}
        groups = [
            {
                "value": value,
                "lines": [
                    {"key": name, "title": system, "cells": cells(rows, (value, name))}
                    for name, system in SYSTEMS.items()
                    if name in group
                ],
            }
            for value, group in metrics[field].items()
        ]
        tables.append({"key": field, "title": title, "head": head, "columns": titles_of(rows), "groups": groups})
    return tables


def cell_text(cell: Mapping[str, Any]) -> str:
    """A cell in a line of Markdown."""
    return cell["missing"] if cell["text"] is None else f"{cell['text']} ({cell['interval']})"


def _number(value: float, factor: int) -> str:
    return f"{factor * value:.1f}" if factor == 100 else f"{value:.3f}"
