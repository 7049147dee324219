"""A picture of alignment against downstream scores, one dot per language."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuronxa_callback.corpus.languages import script
from neuronxa_callback.history.agreement import Agreement
from neuronxa_callback.show.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def scatter(agreements: Sequence[Agreement]) -> Figure:
    """One panel per model, task and metric: alignment (x), downstream score (y), named dots.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.history.agreement import correlate
        from neuronxa_callback.history.downstream import read_scores
        from neuronxa_callback.show.scatter import scatter

        found = correlate({"mine": read_reports("runs/mine")}, read_scores("belebele.csv").scores)
        scatter(found.over_languages).savefig("belebele.png")
    """
    columns = min(COLUMNS, len(agreements))
    rows = math.ceil(len(agreements) / columns)
    figure = Figure(figsize=(4.6 * columns, 4.2 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for k, each in enumerate(agreements):
        _panel(figure.add_subplot(rows, columns, k + 1), each)
    return figure


def _panel(axes: "Axes", each: Agreement) -> None:
    latin = [script(name) == "Latn" for name in each.languages]
    for is_latin, label in ((True, "Latin script"), (False, "other script")):
        kept = [k for k, flag in enumerate(latin) if flag is is_latin]
        across, up = ([side[k] for k in kept] for side in (each.alignment, each.downstream))
        axes.scatter(across, up, s=18, color=LIGHT[0 if is_latin else 1], label=label)
    for name, x, y in zip(each.languages, each.alignment, each.downstream, strict=True):
        axes.annotate(
            name.partition("_")[0], (x, y), (3, 3), textcoords="offset points", fontsize=6.5
        )
    found = each.pearson
    axes.set_title(
        f"{each.model}: r = {found.r:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}",
        loc="left",
        fontsize=9,
    )
    axes.set_xlabel(each.metric)
    axes.set_ylabel(each.task)
    axes.legend(frameon=False, fontsize=7, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
