"""Training curves as SVG for the report page. They use the page's colors in light and dark mode."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure


# Matplotlib writes colors as numbers. These placeholders are replaced by the CSS variables of the page.
_INK, _LINE = "#010203", "#040506"
_SERIES = {f"#0708{index:02x}": f"var(--c{index})" for index in range(8)}
_PAGE_COLORS = {_INK: "currentColor", _LINE: "var(--line)", **_SERIES}

_CODEBOOKS = {f"loss_codebook_{index}": f"codebook {index}" for index in range(8)}
# (title, {name in the log: label}, unit)
_PLOTS = [
    ("Loss", {"loss": "training", "loss_text": "text", "eval_loss": "held-out"}, "nats"),
    ("Loss per codebook", _CODEBOOKS, "nats"),
    ("EOS accuracy", {"eos_accuracy": "training", "eval_eos_accuracy": "held-out"}, "share correct"),
    ("EOS loss", {"eos_loss": "training", "eval_eos_loss": "held-out"}, "nats"),
]


def training_plots(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Plot the logged curves, as {"svg", "caption"} each. A plot without logged values is left out.

    Args:
        log_history: entries of `TrainerState.log_history`.
    """
    plots = []
    for title, labels, unit in _PLOTS:
        curves = {label: _curve(log_history, name) for name, label in labels.items()}
        curves = {label: curve for label, curve in curves.items() if curve}
        if curves:
            steps = [step for curve in curves.values() for step, _ in curve]
            changes = ", ".join(f"{label} {curve[0][1]:.3g} to {curve[-1][1]:.3g}" for label, curve in curves.items())
            caption = f"{title}, steps {min(steps)} to {max(steps)}: {changes}."
            plots.append({"svg": Markup(_svg(title, curves, unit=unit, caption=caption)), "caption": caption})
    return plots


def _curve(log_history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """The finite values of one name as (step, value)."""
    return [(entry["step"], entry[name]) for entry in log_history if math.isfinite(entry.get(name, math.nan))]


def _svg(title: str, curves: Mapping[str, Sequence[tuple[int, float]]], *, unit: str, caption: str) -> str:
    style = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "font.size": 10}
    colors = {"text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK}
    with rc_context(style | colors | {"axes.edgecolor": _LINE, "grid.color": _LINE}):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for color, (label, curve) in zip(_SERIES, curves.items(), strict=False):
            steps, values = zip(*curve, strict=True)
            axes.plot(steps, values, color=color, label=label, marker="o" if len(steps) < 30 else None, markersize=3)
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9, ncols=2 if len(curves) > 4 else 1)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    for placeholder, color in _PAGE_COLORS.items():
        svg = svg.replace(placeholder, color)
    # Matplotlib uses the same ids in every figure; on one page they must be unique.
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{Markup.escape(caption)}" ', 1)
