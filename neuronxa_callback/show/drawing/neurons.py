"""The neuron statistics of one report by layer: overlap, sharing, language neurons."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#777777"
QUANTILE = 1.96
KINDS = ("specific", "related", "agnostic")
"""Of language neurons; the rest is silent."""
Row = Sequence[float | None]


def neuron_curves(report: AlignmentReport) -> Figure:
    """One chart per statistic of the report, by layer.

    Overlap with the pivot: mean and range over languages, ceiling and chance. Sharing: neurons that
    fire in all languages minus the null, with 95 % bands. Language neurons: share of each kind.

    Args:
        report: A report with at least one of overlap, sharing and language neurons.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.show.drawing.neurons import neuron_curves

        neuron_curves(read_reports("runs/mine")[-1]).savefig("neurons.png")
    """
    drawn = [name for name in DRAWINGS if report.diagnostics.get(name)]
    figure = Figure(figsize=(3.7 * len(drawn), 3.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        DRAWINGS[name](axes, report.diagnostics[name])
        _name_layers(axes, report)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=7)
        axes.tick_params(labelsize=8)
    return figure


def _name_layers(axes: "Axes", report: AlignmentReport) -> None:
    """Label the axis with the numbers of the blocks; those without a neuron metric count from 0."""
    known = [report.layers(name) for name in ("nasca", "navca") if name in report.metrics]
    axes.set_xlabel("layer")
    for labels in known[:1]:
        step = max(1, len(labels) // 9)
        axes.set_xticks(range(0, len(labels), step), [str(label) for label in labels[::step]])


def _overlap(axes: "Axes", found: Mapping[str, Any]) -> None:
    with_pivot = _rows(found["with_pivot"].values())
    places = range(len(found["chance"]))
    low, high = ([end(column) for column in zip(*with_pivot, strict=True)] for end in (min, max))
    axes.fill_between(places, low, high, color=LIGHT[0], alpha=0.15, linewidth=0)
    axes.plot(places, _column_means(with_pivot), color=LIGHT[0], label="with the pivot")
    ceiling = _column_means(_rows(found["ceiling"].values()))
    axes.plot(places, ceiling, color=GREY, linestyle="--", label="ceiling: with itself")
    axes.plot(places, _numbers(found["chance"]), color=GREY, linestyle=":", label="chance")
    axes.set_ylim(0, 1)
    axes.set_title("overlap of the most active neurons", loc="left", fontsize=9)


def _sharing(axes: "Axes", found: Mapping[str, Any]) -> None:
    for colour, (rule, parts) in zip(LIGHT, found.items(), strict=False):
        shares, null, errors = (
            _numbers(parts[name]["all"]) for name in ("shares", "null", "errors")
        )
        excess = [share - expected for share, expected in zip(shares, null, strict=True)]
        low, high = [
            [value + sign * QUANTILE * error for value, error in zip(excess, errors, strict=True)]
            for sign in (-1, 1)
        ]
        axes.fill_between(range(len(excess)), low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(excess, color=colour, label=f"{rule} token")
    axes.axhline(0, color=GREY, linestyle=":", linewidth=1)
    axes.set_title("neurons that all languages share, over the null", loc="left", fontsize=9)


def _language_neurons(axes: "Axes", found: Mapping[str, Any]) -> None:
    neurons = [sum(column) for column in zip(*found["neurons"].values(), strict=True)]
    for colour, kind in zip(LIGHT[2:], KINDS, strict=False):
        counts = found["neurons"][kind]
        shares = [count / whole for count, whole in zip(counts, neurons, strict=True)]
        axes.plot(shares, color=colour, label=kind)
    axes.set_ylim(bottom=0)
    axes.set_title("neurons above the bar, by languages", loc="left", fontsize=9)


DRAWINGS = {"overlap": _overlap, "sharing": _sharing, "language_neurons": _language_neurons}


def _numbers(row: Row) -> list[float]:
    return [float("nan") if number is None else number for number in row]


def _rows(rows: Any) -> list[list[float]]:
    return [_numbers(row) for row in rows]


def _column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]
