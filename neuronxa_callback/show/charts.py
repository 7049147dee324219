"""Pictures with matplotlib: emergence over steps, curve over layers, heat map. No global state."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.page.data import loss_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A6FB0", "#666666")
"""Okabe and Ito's palette, which the colour-blind can tell apart, and two more."""
STYLES = ("-", "--", ":", "-.")
GREY = "#777777"

Losses = Mapping[int, float]


def picture(
    reports: Sequence[AlignmentReport], losses: Losses | None = None, metric: str | None = None
) -> Figure:
    """Alignment over steps above the loss, beside the last curve over layers.

    Args:
        reports: Of one run, by step.
        losses: step -> loss; None for what the reports have noted.
        metric: Which metric; None for the first one.
    """
    metric = metric or next(iter(reports[-1].metrics))
    figure = _figure(11, 5)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(3, 1))
    above = figure.add_subplot(grid[0, 0])
    emergence(above, reports, metric)
    loss_over_steps(figure.add_subplot(grid[1, 0], sharex=above), reports, losses)
    curve_by_layer(figure.add_subplot(grid[:, 1]), reports[-1], metric)
    return figure


def emergence(axes: "Axes", reports: Sequence[AlignmentReport], metric: str) -> None:
    """Score per language over steps, with 95 % bands and the chance line."""
    steps = [report.step for report in reports]
    for k, language in enumerate(reports[-1].languages):
        scores = [report.score(metric, language) for report in reports]
        bands = [report.interval(metric, language) for report in reports]
        look = _look(k)
        axes.plot(steps, scores, label=language, linewidth=1.8, **look)
        low, high = zip(*bands, strict=True)
        axes.fill_between(steps, low, high, color=look["color"], alpha=0.12, linewidth=0)
    _chance(axes, reports[-1])
    axes.set_title(f"{metric.upper()} with {reports[-1].pivot} emerges", loc="left", fontsize=11)
    axes.set_ylabel("weakly aligned pairs")
    axes.set_ylim(0, max(0.1, _top(axes)))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    _tidy(axes)


def loss_over_steps(
    axes: "Axes", reports: Sequence[AlignmentReport], losses: Losses | None
) -> None:
    """The training loss, each at the step at which it was logged."""
    if losses is None:
        known = {loss_step(report): report.run.get("loss") for report in reports}
        losses = {step: loss for step, loss in known.items() if loss is not None}
    axes.plot(list(losses), list(losses.values()), color=GREY, linewidth=1.5)
    axes.set_ylabel("loss")
    axes.set_xlabel("step")
    _tidy(axes)


def curve_by_layer(axes: "Axes", report: AlignmentReport, metric: str) -> None:
    """The alignment curve: score by layer, one line per language, with its 95 % band where few.

    Two levels beside it: chance, and the shuffled baseline (``report.shuffled_baseline``).
    """
    layers, cells = report.layers(metric), report.rows()
    for k, language in enumerate(report.languages):
        mine = [each for each in cells if (each["metric"], each["language"]) == (metric, language)]
        low, high = ([each[side] for each in mine] for side in ("low", "high"))
        look = _look(k)
        scores = report.curve(metric, language)
        axes.plot(range(len(layers)), scores, marker="o", label=language, **look)
        if len(report.languages) <= len(COLOURS):
            axes.fill_between(range(len(layers)), low, high, color=look["color"], alpha=0.12, lw=0)
    _chance(axes, report)
    _level(axes, "shuffled baseline", report.shuffled_baseline(metric), 0)
    axes.set_title(f"by layer, at step {report.step}", loc="left", fontsize=11)
    axes.set_xlabel("layer")
    step = max(1, len(layers) // 12)
    axes.set_xticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    axes.set_ylim(0, max(0.1, _top(axes)))
    _tidy(axes)


def by_layer(report: AlignmentReport, metric: str) -> Figure:
    """The alignment curve of one step by itself, on one scale at every step."""
    figure = _figure(8.5, 4.5)
    axes = figure.add_subplot()
    curve_by_layer(axes, report, metric)
    axes.set_ylim(0, 1)
    axes.set_title(f"{metric}, step {report.step}", loc="left", fontsize=10)
    columns = math.ceil(len(report.languages) / 20)
    figure.legend(frameon=False, fontsize=8, ncols=columns, loc="outside right upper")
    return figure


def heat_map(report: AlignmentReport, metric: str) -> Figure:
    """Score by language and layer, on one colour scale from 0 to 1."""
    layers, languages = report.layers(metric), report.languages
    figure = _figure(2.2 + 0.22 * max(8, len(layers)), 1.2 + 0.24 * len(languages))
    axes = figure.add_subplot()
    cells = [list(report.curve(metric, language)) for language in languages]
    image = axes.imshow(cells, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(languages)), languages, fontsize=8)
    step = max(1, len(layers) // 16)
    axes.set_xticks(range(0, len(layers), step), [str(each) for each in layers[::step]], fontsize=8)
    axes.set_xlabel("layer")
    axes.set_title(f"{metric}, step {report.step}", loc="left", fontsize=10)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    return figure


def pixels(figure: Figure) -> Any:
    """A figure as an array [height, width, 4] of bytes."""
    import numpy as np

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _look(k: int) -> dict[str, Any]:
    """Colour and stroke: enough of both for as many languages as there may be."""
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": STYLES[k // len(COLOURS) % len(STYLES)],
        "markersize": 3.5,
    }


def _chance(axes: "Axes", report: AlignmentReport) -> None:
    _level(axes, "chance", report.chance, 1)


def _level(axes: "Axes", name: str, score: float, side: int) -> None:
    """A dotted line over the whole width, named at its left end (side 0) or right end (1)."""
    if math.isnan(score):
        return
    axes.axhline(score, color=GREY, linewidth=1, linestyle=(0, (1, 2 + 3 * (1 - side))))
    axes.annotate(
        name, (side, score), xycoords=("axes fraction", "data"), ha=("left", "right")[side],
        va="bottom", fontsize=7, color=GREY,
    )  # fmt: skip


def _top(axes: "Axes") -> float:
    tops = [value for line in axes.get_lines() for value in map(float, line.get_ydata())]  # type: ignore[arg-type]
    return min(1.0, 1.1 * max((value for value in tops if not math.isnan(value)), default=1.0))


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    axes.set_axisbelow(True)
