"""Pictures with matplotlib: score over steps, score by layer, heat map. No global state."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.page.data import loss_step
from neuronxa_callback.show.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":", "-.")
GREY = "#777777"

Losses = Mapping[int, float]
"""step -> training loss."""


def picture(
    reports: Sequence[AlignmentReport], losses: Losses | None = None, metric: str | None = None
) -> Figure:
    """Three charts: alignment over steps, the loss below it, and the last curve by layer.

    Args:
        reports: The reports of one run, sorted by step.
        losses: step -> loss; default: the losses stored in the reports.
        metric: The metric to draw; default: the first one of the last report.

    Returns:
        A figure of 11 x 5 inches, to be saved with ``figure.savefig``.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.show.charts import picture

        picture(read_reports("runs/mine")).savefig("alignment.png")
    """
    metric = metric or next(iter(reports[-1].metrics))
    figure = _figure(11, 5)
    grid = figure.add_gridspec(
        2, 2, width_ratios=(3, 2), height_ratios=(3, 1),
        left=0.06, right=0.99, bottom=0.1, top=0.93, wspace=0.1, hspace=0.16,
    )  # fmt: skip
    above = figure.add_subplot(grid[0, 0])
    score_over_steps(above, reports, metric)
    loss_over_steps(figure.add_subplot(grid[1, 0], sharex=above), reports, losses)
    curve_by_layer(figure.add_subplot(grid[:, 1]), reports[-1], metric)
    return figure


def score_over_steps(axes: "Axes", reports: Sequence[AlignmentReport], metric: str) -> None:
    """Draw the score of each language over steps, with 95 % bands and the chance level."""
    steps = [report.step for report in reports]
    for k, language in enumerate(reports[-1].languages):
        scores = [report.score(metric, language) for report in reports]
        bands = [report.interval(metric, language) for report in reports]
        style = _line_style(k)
        axes.plot(steps, scores, label=language, linewidth=1.8, **style)
        low, high = zip(*bands, strict=True)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.12, linewidth=0)
    _chance(axes, reports[-1])
    axes.set_title(f"{metric.upper()} with {reports[-1].pivot} over steps", loc="left", fontsize=11)
    axes.set_ylabel("weakly aligned pairs")
    axes.set_ylim(0, max(0.1, _top(axes)))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    _tidy(axes)


def loss_over_steps(
    axes: "Axes", reports: Sequence[AlignmentReport], losses: Losses | None
) -> None:
    """Draw the training loss; each value is at the step at which it was logged."""
    if losses is None:
        known = {loss_step(report): report.run.get("loss") for report in reports}
        losses = {step: loss for step, loss in known.items() if loss is not None}
    axes.plot(list(losses), list(losses.values()), color=GREY, linewidth=1.5)
    axes.set_ylabel("loss")
    axes.set_xlabel("step")
    _tidy(axes)


def curve_by_layer(axes: "Axes", report: AlignmentReport, metric: str) -> None:
    """Draw the alignment curve: score by layer, one line per language.

    Two dotted levels: chance, and the shuffled baseline (``report.shuffled_baseline``). Lines have
    95 % bands if there are at most as many languages as colours.
    """
    layers, cells = report.layers(metric), report.rows()
    for k, language in enumerate(report.languages):
        rows = [row for row in cells if (row["metric"], row["language"]) == (metric, language)]
        low, high = ([row[end] for row in rows] for end in ("low", "high"))
        style = _line_style(k)
        scores = report.curve(metric, language)
        axes.plot(range(len(layers)), scores, marker="o", label=language, **style)
        if len(report.languages) <= len(LIGHT):
            axes.fill_between(range(len(layers)), low, high, color=style["color"], alpha=0.12, lw=0)
    _chance(axes, report)
    _level(axes, "shuffled baseline", report.shuffled_baseline(metric), 0)
    axes.set_title(f"by layer, at step {report.step}", loc="left", fontsize=11)
    axes.set_xlabel("layer")
    step = max(1, len(layers) // 12)
    axes.set_xticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    axes.set_ylim(0, max(0.1, _top(axes)))
    _tidy(axes)


def by_layer(report: AlignmentReport, metric: str) -> Figure:
    """The alignment curve of one step as a figure; the y-axis is 0 to 1 at every step."""
    columns = math.ceil(len(report.languages) / 20)
    legend = columns * (0.6 + _text_width(report.languages))
    figure, axes = _axes_in((0.6, 0.55, 6.0, 3.6), right=0.15 + legend, above=0.35)
    curve_by_layer(axes, report, metric)
    axes.set_ylim(0, 1)
    axes.set_title(f"{metric}, step {report.step}", loc="left", fontsize=10)
    figure.legend(frameon=False, fontsize=8, ncols=columns, loc="upper right")
    return figure


def heat_map(report: AlignmentReport, metric: str) -> Figure:
    """Score by language and layer as a figure; the colour scale is 0 to 1 at every step.

    Languages of a group are neighbours, in the order of the groups.
    """
    layers, languages = report.layers(metric), by_group(report)
    left = 0.3 + _text_width(languages)
    size = 0.22 * max(8, len(layers)), max(1.0, 0.24 * len(languages))
    figure, axes = _axes_in((left, 0.55, *size), right=1.0, above=0.35)
    cells = [list(report.curve(metric, language)) for language in languages]
    image = axes.imshow(cells, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(languages)), languages, fontsize=8)
    step = max(1, len(layers) // 16)
    axes.set_xticks(
        range(0, len(layers), step), [str(layer) for layer in layers[::step]], fontsize=8
    )
    axes.set_xlabel("layer")
    axes.set_title(f"{metric}, step {report.step}", loc="left", fontsize=10)
    width, height = figure.get_size_inches()
    bar = ((left + size[0] + 0.2) / width, 0.55 / height, 0.2 / width, size[1] / height)
    figure.colorbar(image, cax=figure.add_axes(bar))
    return figure


def by_group(report: AlignmentReport) -> tuple[str, ...]:
    """The languages of a report, those of its first group first; the others come last."""
    members = (name for group in report.groups.values() for name in group)
    return tuple(dict.fromkeys((*members, *report.languages)))


def pixels(figure: Figure) -> Any:
    """The figure as an array [height, width, 4] of bytes (RGBA)."""
    import numpy as np

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def _figure(width: float, height: float) -> Figure:
    # Without a layout engine, which draws every text several times to find its size.
    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _axes_in(
    box: tuple[float, float, float, float], right: float, above: float
) -> tuple[Figure, "Axes"]:
    """A figure with axes in a box (left, bottom, width, height), and free room; in inches."""
    left, bottom, width, height = box
    total = left + width + right, bottom + height + above
    figure = _figure(*total)
    place = (left / total[0], bottom / total[1], width / total[0], height / total[1])
    return figure, figure.add_axes(place)


def _text_width(texts: Sequence[str]) -> float:
    """The width of the longest text at font size 8 in inches, rounded up."""
    return 0.075 * max(map(len, texts))


def _line_style(k: int) -> dict[str, Any]:
    """Colour and dashes of language ``k``: 32 combinations, then they repeat."""
    return {
        "color": LIGHT[k % len(LIGHT)],
        "linestyle": STYLES[k // len(LIGHT) % len(STYLES)],
        "markersize": 3.5,
    }


def _chance(axes: "Axes", report: AlignmentReport) -> None:
    _level(axes, "chance", report.chance, 1)


def _level(axes: "Axes", name: str, score: float, side: int) -> None:
    """Draw a dotted level with its name at the left end (side 0) or the right end (side 1)."""
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
