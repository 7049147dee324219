"""Output at the terminal: one line per probe, and tables."""

import math

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from neuronxa_callback.history.history import REFERENCES, History
from neuronxa_callback.history.points import Point
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.tables import number, ranking

WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""


def say(text: str) -> None:
    """Print a line without breaking a progress bar of tqdm."""
    tqdm.write(text)


def show(table: Table) -> None:
    """Print a table, as wide as the terminal, or ``WIDTH`` columns wide without a terminal."""
    console = Console()
    console.print(table, width=None if console.is_terminal else WIDTH)


def line(report: AlignmentReport, history: History | None = None) -> str:
    """One line about a probe: mean, interval, changes, best and worst language, seconds.

    Args:
        report: The report of the probe.
        history: The run so far, whose last point is the report; None leaves the changes out.
    """
    metric, *others = report.metrics
    low, high = report.interval(metric)
    mean = (
        f"NeuronXA step {report.step}: {metric} {number(report.score(metric))}"
        f" [{number(low)}, {number(high)}]"
    )
    if history is not None and (change := changes(history, metric)):
        mean += f" ({change})"
    parts = [mean]
    ranked = ranking(report, metric)
    if ranked and ranked[0][1] > ranked[-1][1]:
        (best, top), (worst, bottom) = ranked[0], ranked[-1]
        parts.append(f"best {best} {top:.3f}, worst {worst} {bottom:.3f}")
    parts += [f"{name} {number(report.score(name))}" for name in others]
    if "seconds" in report.run:
        parts.append(f"{report.run['seconds']:.1f} s")
    return " · ".join(parts)


def changes(history: History, metric: str) -> str:
    """The changes of the last probe, such as ``significant: +0.031 since the first``.

    Returns:
        The differences from the last, first and best probe before it, significant ones first;
        each earlier probe once. Empty if there is none, ``"change unknown"`` if a score is NaN.
    """
    differences: dict[bool, list[str]] = {True: [], False: []}
    seen: list[Point] = []
    for reference in REFERENCES:
        earlier = history.earlier(metric, reference)
        change = history.change(metric, reference=reference)
        if earlier is None or change is None or earlier in seen:
            continue
        seen.append(earlier)
        if math.isnan(change.difference):
            return "change unknown"
        differences[change.significant].append(f"{change.difference:+.3f} since the {reference}")
    labels = {True: "significant: ", False: "not significant: "}
    return "; ".join(labels[key] + ", ".join(texts) for key, texts in differences.items() if texts)
