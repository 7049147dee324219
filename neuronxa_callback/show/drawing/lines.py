"""Lines of a chart: few with bands, or many with their mean; names at their right ends."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronxa_callback.show.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":", "-.")
GREY = "#777777"
NAMED = 3
"""The best and the worst so many languages are named if there are many."""
TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1)
SCALE = "square-root scale"
LABEL_HEIGHT = 0.045
"""The least distance between two names, as a share of the height of the axes."""

Ends = Mapping[str, tuple[float, str]]
"""name -> the score at the right end of its line, and its colour."""
Bands = Sequence[tuple[float, float]]


def draw_scores(
    axes: "Axes",
    places: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    bands: Mapping[str, Bands],
    levels: Mapping[str, float],
    top: float | None = None,
) -> None:
    """Draw the curves of languages on a square-root scale, and levels, with names at the right.

    Args:
        axes: Where to draw.
        places: Steps, or the numbers of layers.
        curves: language -> a score per place.
        bands: language -> an interval per place, for at most as many languages as colours.
        levels: name -> the score of a dotted level; NaN is not drawn.
        top: The end of the axis; None for the highest score.
    """
    scores = [score for curve in (*curves.values(), levels.values()) for score in curve]
    highest = max((score for score in scores if not math.isnan(score)), default=1.0)
    _scale_by_root(axes, max(0.1, min(1.0, 1.1 * highest)) if top is None else top)
    ends: dict[str, tuple[float, str]] = {}
    if len(curves) > len(LIGHT):
        ends |= _many_lines(axes, places, curves)
    else:
        for k, language in enumerate(curves):
            _line_with_band(axes, places, curves[language], bands[language], language, k)
    for k, (name, score) in enumerate(levels.items()):
        if not math.isnan(score):
            axes.axhline(score, color=GREY, linewidth=1, linestyle=(0, (1, 2 + 3 * k)))
            ends[name] = score, GREY
    _label_ends(axes, ends)


def _line_with_band(
    axes: "Axes",
    places: Sequence[float],
    scores: Sequence[float],
    bands: Sequence[tuple[float, float]],
    label: str,
    k: int,
) -> None:
    style = _line_style(k)
    axes.plot(places, scores, marker="o", label=label, linewidth=1.8, **style)
    low, high = zip(*bands, strict=True)
    axes.fill_between(places, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _many_lines(
    axes: "Axes", places: Sequence[float], curves: Mapping[str, Sequence[float]]
) -> "Ends":
    """Thin grey lines, a bold mean, a band of quartiles; names of the best and worst at the end.

    The best and worst ``NAMED`` languages are those at the last place.

    Returns:
        The named lines, for ``label_ends``.
    """
    cells = np.array(list(curves.values()), dtype=float)
    last = dict(zip(curves, cells[:, -1], strict=True))
    known = sorted((name for name in last if not math.isnan(last[name])), key=lambda n: -last[n])
    named = [*known[:NAMED], *known[-NAMED:]]
    for name, scores in curves.items():
        is_named = name in named
        color = LIGHT[named.index(name) % len(LIGHT)] if is_named else "#C8C8C8"
        axes.plot(places, scores, color=color, linewidth=1.3 if is_named else 0.7, label=name)
    low, high = np.percentile(cells, (25, 75), axis=0)
    axes.fill_between(places, low, high, color=GREY, alpha=0.25, linewidth=0, label="quartiles")
    mean = cells.mean(axis=0)
    axes.plot(places, mean, color="black", linewidth=2.8, label="mean")
    colors = {name: LIGHT[k % len(LIGHT)] for k, name in enumerate(named)} | {"mean": "black"}
    ends = {name: float(last[name]) for name in named} | {"mean": float(mean[-1])}
    return {name: (score, colors[name]) for name, score in ends.items()}


def _label_ends(axes: "Axes", ends: Ends) -> None:
    """Write names right of the axes, near the ends of their lines, without overlap."""
    known = {name: end for name, end in ends.items() if not math.isnan(end[0])}
    top, free = axes.get_ylim()[1], math.inf
    lowest = LABEL_HEIGHT * len(known)
    for name in sorted(known, key=lambda name: -known[name][0]):
        score, color = known[name]
        lowest -= LABEL_HEIGHT
        free = max(lowest, min(math.sqrt(max(0.0, score) / top), free - LABEL_HEIGHT))
        axes.annotate(
            name, (1, score), xycoords=("axes fraction", "data"), xytext=(1.03, free),
            textcoords="axes fraction", color=color, fontsize=7.5, va="center",
            fontweight="bold" if name == "mean" else "normal",
            arrowprops={"arrowstyle": "-", "color": "#C8C8C8", "linewidth": 0.6},
            annotation_clip=False,
        )  # fmt: skip


def _scale_by_root(axes: "Axes", top: float) -> None:
    """Show the square root of scores, so that those near .01 can be told apart."""
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.set_ylim(0, top)
    axes.set_yticks([tick for tick in TICKS if tick <= top])
    axes.yaxis.set_major_formatter("{x:g}")


def _line_style(k: int) -> dict[str, Any]:
    """Colour and dashes of language ``k``: 32 combinations, then they repeat."""
    return {
        "color": LIGHT[k % len(LIGHT)],
        "linestyle": STYLES[k // len(LIGHT) % len(STYLES)],
        "markersize": 3.5,
    }
