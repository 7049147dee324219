"""The table of all pairs of languages for the terminal."""

import math

from rich.table import Table
from rich.text import Text

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.language_pairs.order import cluster_order
from neuronxa_callback.show.tables import numeric_table


def matrix_table(report: AlignmentReport, metric: str) -> Table:
    """Score by language and language in percent, mean over layers; similar ones are neighbours.

    The columns have the numbers of the rows. A report without a table of the metric is a KeyError.
    """
    table = report.language_pairs[metric]
    order, scores = cluster_order(table), table.matrix()
    shown = numeric_table(
        f"{metric} between languages in %, step {report.step}",
        f"mean over layers, ordered by clustering; chance is {100 * report.chance:.1f}",
        ("", "language"),
        [str(k) for k in range(1, len(order))],
    )
    for row, i in enumerate(order, start=1):
        cells = [_percent(scores[i][j]) for j in order[: row - 1]]
        shown.add_row(str(row), Text(table.languages[i]), *cells)
    return shown


def _percent(score: float) -> str:
    return "nan" if math.isnan(score) else f"{100 * score:.0f}"
