"""The tables of a report: their columns, and the cells with value, interval and n."""

from collections.abc import Mapping
from typing import Any

from higgs_recipes.metrics_schema import BENCHMARK_GROUPS, GROUPS, METRICS, SYSTEMS, metrics_of


# System -> metric -> {"value", "low", "high", "n", ...}; in a table of groups the key is (group, system).
Scores = Mapping[str | tuple[str, str], Mapping[str, Any]]


def titles_of(scores: Scores) -> list[str]:
    """The column titles of `metrics_of`."""
    return [METRICS[metric].title for metric in metrics_of(scores)]


def cells(scores: Scores, key: str | tuple[str, str]) -> list[dict[str, Any]]:
    """The cells of one table row: {"text", "interval", "bar"}, or {"text": None, "missing"} without a score.

    The bar of the interval is {"left", "width", "at"} in percent of the column's scale, or None without an interval.
    """
    return [_cell(scores, key, metric) for metric in metrics_of(scores)]


def _cell(scores: Scores, key: str | tuple[str, str], metric: str) -> dict[str, Any]:
    score, factor = scores[key].get(metric), METRICS[metric].factor
    if score is None or score["value"] is None:
        # A dash where a metric does not apply: real recordings have no stop rate.
        return {"text": None, "missing": "–" if score is None else "not measured"}
    unit = "\u00a0%" if METRICS[metric].is_share else ""
    text, low, high = _number(score["value"], factor) + unit, score["low"], score["high"]
    if low is None or high is None:
        return {"text": text, "interval": f"n={score['n']}, no interval: {score['note']}", "bar": None}
    column = (of_system[metric] for of_system in scores.values() if metric in of_system)
    scale = max([1e-9, *(other["high"] for other in column if other["high"] is not None)])
    left, right, at = (100 * min(max(edge / scale, 0), 1) for edge in (low, high, score["value"]))
    return {
        "text": text,
        "interval": f"{_number(low, factor)} to {_number(high, factor)}{unit}, n={score['n']}",
        "bar": {"left": round(left, 1), "width": round(right - left, 1), "at": round(at, 1)},
    }


def grouped_tables(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables by task, by speaker and by language, if metrics.json has several of them.

    Returns:
        {"key", "title", "head" (the title of the group column), "columns", "groups"} of each table; a group is
        {"value", "lines"}, and a line {"key", "title", "cells"} shows one system.
    """
    tables = []
    for field, column in (GROUPS | BENCHMARK_GROUPS).items():
        if field not in metrics or not metrics[field]:
            continue
        scores = {
            (value, system): of_system
            for value, group in metrics[field].items()
            for system, of_system in group.items()
        }
        groups = [
            {
                "value": value,
                "lines": [
                    {"key": system, "title": title, "cells": cells(scores, (value, system))}
                    for system, title in SYSTEMS.items()
                    if system in group
                ],
            }
            for value, group in metrics[field].items()
        ]
        tables.append(
            {"key": field, "title": f"By {column}", "head": column, "columns": titles_of(scores), "groups": groups}
        )
    return tables


def cell_text(cell: Mapping[str, Any]) -> str:
    """A cell as one line of text."""
    return cell["missing"] if cell["text"] is None else f"{cell['text']} ({cell['interval']})"


def _number(value: float, factor: int) -> str:
    return f"{factor * value:.1f}" if factor == 100 else f"{value:.3f}"
