"""Pictures with matplotlib: score over steps, score by layer, heat map. No global state."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.drawing.lines import SCALE, TICKS, draw_scores
from neuronxa_callback.show.language_pairs.order import cluster_order
from neuronxa_callback.show.page.data import loss_step
from neuronxa_callback.show.palette import LIGHT
from neuronxa_callback.show.tables import ranking
from neuronxa_callback.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#777777"
MOST_NUMBERS = 30
"""Matrices of more languages have no numbers in their cells."""
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
        left=0.065, right=0.91, bottom=0.1, top=0.93, wspace=0.28, hspace=0.16,
    )  # fmt: skip
    above = figure.add_subplot(grid[0, 0])
    score_over_steps(above, reports, metric)
    loss_over_steps(figure.add_subplot(grid[1, 0], sharex=above), reports, losses)
    curve_by_layer(figure.add_subplot(grid[:, 1]), reports[-1], metric)
    return figure


def write_picture(
    reports: Sequence[AlignmentReport],
    path: str | Path,
    metric: str | None = None,
    language_pairs: bool = False,
    of_layers: bool = False,
) -> None:
    """Write ``picture`` to a file, which is replaced at once.

    Args:
        reports: The reports of one run, sorted by step.
        path: A file that ends in ``.png``, ``.svg`` or ``.pdf``.
        metric: As in ``picture``.
        language_pairs: Write ``language_matrix`` of the last report that has it instead.
        of_layers: Draw the heat map of the last report instead, its languages sorted by score.

    Raises:
        ConfigError: If there is no report or no such metric, or if the file cannot be written.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.show.charts import write_picture

        write_picture(read_reports("runs/mine"), "alignment.png")
    """
    if not reports:
        raise ConfigError("a picture needs at least one report, got none")
    if metric is not None and metric not in reports[-1].metrics:
        raise ConfigError(unknown("metric", metric, reports[-1].metrics))
    if Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"a picture must end in .png, .svg or .pdf, got {str(path)!r}")
    if language_pairs:
        figure = _last_matrix(reports, metric)
    elif of_layers:
        figure = heat_map(reports[-1], metric or next(iter(reports[-1].metrics)), by_score=True)
    else:
        figure = picture(reports, metric=metric)
    with whole_file(path) as beside:
        figure.savefig(beside)


def score_over_steps(axes: "Axes", reports: Sequence[AlignmentReport], metric: str) -> None:
    """Draw the score of each language over steps, with 95 % bands and the chance level."""
    steps = [report.step for report in reports]
    languages = reports[-1].languages
    curves = {name: [report.score(metric, name) for report in reports] for name in languages}
    bands = {name: [each.interval(metric, name) for each in reports] for name in languages}
    draw_scores(axes, steps, curves, bands, {"chance": reports[-1].chance})
    if len(languages) <= len(LIGHT):
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    axes.set_title(f"{metric.upper()} with {reports[-1].pivot} over steps", loc="left", fontsize=11)
    axes.set_ylabel(f"weakly aligned pairs ({SCALE})")
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


def curve_by_layer(
    axes: "Axes", report: AlignmentReport, metric: str, top: float | None = None
) -> None:
    """Draw the alignment curve: score by layer, one line per language.

    Two dotted levels: chance, and the shuffled baseline (``report.shuffled_baseline``). Lines have
    95 % bands if there are at most as many languages as colours; more languages are thin lines
    with their mean and quartiles, and the best and worst three are named.
    """
    layers, places = report.layers(metric), range(len(report.layers(metric)))
    curves = {name: report.curve(metric, name) for name in report.languages}
    levels = {"chance": report.chance, "shuffled baseline": report.shuffled_baseline(metric)}
    draw_scores(axes, places, curves, report.metrics[metric].layer_intervals, levels, top)
    axes.set_title(f"by layer, at step {report.step}", loc="left", fontsize=11)
    axes.set_xlabel("layer")
    step = max(1, len(layers) // 12)
    axes.set_xticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
    _tidy(axes)


def by_layer(report: AlignmentReport, metric: str) -> Figure:
    """The alignment curve of one step as a figure; the y-axis is 0 to 1 at every step."""
    legend = 0.6 + _text_width(report.languages)
    figure, axes = _axes_in((0.7, 0.55, 6.0, 3.6), right=1.2 + legend, above=0.35)
    curve_by_layer(axes, report, metric, top=1)
    axes.set_ylabel(f"weakly aligned pairs ({SCALE})")
    axes.set_title(f"{metric}, step {report.step}", loc="left", fontsize=10)
    if len(report.languages) <= len(LIGHT):
        figure.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def heat_map(report: AlignmentReport, metric: str, by_score: bool = False) -> Figure:
    """Score by language and layer as a figure; the colour scale is 0 to 1 at every step.

    Args:
        report: The report.
        metric: One of its metrics.
        by_score: Sort the languages by their score; else those of a group are neighbours, in the
            order of the groups and of the report, which is the same at every step of a run.
    """
    layers, languages = report.layers(metric), by_group(report)
    if by_score:
        ranked = [name for name, _ in ranking(report, metric)]
        languages = (*ranked, *(name for name in languages if name not in ranked))
    left = 0.3 + _text_width(languages)
    size = 0.22 * max(8, len(layers)), max(1.0, 0.24 * len(languages))
    figure, axes = _axes_in((left, 0.55, *size), right=1.0, above=0.35)
    cells = [list(report.curve(metric, language)) for language in languages]
    image = _draw_cells(axes, cells)
    axes.set_yticks(range(len(languages)), languages, fontsize=8)
    step = max(1, len(layers) // 16)
    axes.set_xticks(
        range(0, len(layers), step), [str(layer) for layer in layers[::step]], fontsize=8
    )
    axes.set_xlabel("layer")
    axes.set_title(f"{metric}, step {report.step}", loc="left", fontsize=10)
    _add_colour_bar(figure, image, (left, 0.55, *size))
    return figure


def _draw_cells(axes: "Axes", cells: Sequence[Sequence[float]]) -> Any:
    """Draw scores as colours from 0 to 1, NaN in grey."""
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    colours = colormaps["viridis"].with_extremes(bad="#DDDDDD")
    return axes.imshow(cells, norm=PowerNorm(0.5, 0, 1), cmap=colours, aspect="auto")


def _add_colour_bar(figure: Figure, image: Any, box: tuple[float, float, float, float]) -> None:
    """A colour bar at the right of axes in a box (left, bottom, width, height), in inches."""
    left, bottom, width, height = box
    total, rise = figure.get_size_inches()
    place = ((left + width + 0.2) / total, bottom / rise, 0.2 / total, height / rise)
    drawn = figure.colorbar(image, cax=figure.add_axes(place), ticks=TICKS, format="{x:g}")
    drawn.ax.tick_params(labelsize=7)
    drawn.ax.set_ylabel(SCALE, fontsize=7)


def language_matrix(report: AlignmentReport, metric: str) -> Figure:
    """Score by language and language, mean over layers, as a figure; similar ones are neighbours.

    The colour scale is 0 to 1 at every step. The diagonal is not measured; NaN is grey. Up to
    ``MOST_NUMBERS`` languages have their scores in percent in the cells.

    Args:
        report: A report with ``language_pairs``.
        metric: One of its metrics.
    """
    table = report.language_pairs[metric]
    order = cluster_order(table)
    names = [table.languages[k] for k in order]
    matrix = table.matrix()
    cells = [[math.nan if i == j else matrix[i][j] for j in order] for i in order]
    margin, side = 0.3 + _text_width(names), max(1.5, 0.26 * len(names))
    figure, axes = _axes_in((margin, margin, side, side), right=1.0, above=0.35)
    image = _draw_cells(axes, cells)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90)
    for (i, row), j in product(enumerate(cells), range(len(names))):
        if len(names) <= MOST_NUMBERS and not math.isnan(row[j]):
            colour = "black" if row[j] > 0.5 else "white"
            axes.text(j, i, f"{100 * row[j]:.0f}", ha="center", va="center", fontsize=7, c=colour)
    axes.set_title(f"{metric} in %, step {report.step}", loc="left", fontsize=10)
    _add_colour_bar(figure, image, (margin, margin, side, side))
    return figure


def _last_matrix(reports: Sequence[AlignmentReport], metric: str | None) -> Figure:
    """The matrix of the last report that has one."""
    with_pairs = [report for report in reports if report.language_pairs]
    if not with_pairs:
        raise ConfigError(
            "a picture of all pairs of languages needs a report that has measured them, these"
            " have not; measure them with `neuronxa score MODEL --pivot all`, or in training with"
            " language_pairs_every"
        )
    return language_matrix(with_pairs[-1], metric or next(iter(with_pairs[-1].language_pairs)))


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


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    axes.set_axisbelow(True)
