"""The terminal: a line per probe, a table at the end. All that is printed goes through here."""

import math

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from neuronxa_callback.history.history import REFERENCES, History
from neuronxa_callback.history.points import Point
from neuronxa_callback.report import AlignmentReport

BAR = "▏▎▍▌▋▊▉█"
CELLS = 12
WIDE = 160


def say(text: str) -> None:
    """Print a line without breaking a progress bar that is running."""
    tqdm.write(text)


def show(table: Table) -> None:
    """Print a table; where nobody's screen sets a width, as wide as it likes."""
    console = Console()
    console.print(table, width=None if console.is_terminal else WIDE)


def line(report: AlignmentReport, history: History | None = None) -> str:
    """One compact line: mean, change, best and worst language, seconds."""
    metric = next(iter(report.metrics))
    low, high = report.interval(metric)
    said = [
        f"NeuronXA step {report.step}: {metric} {number(report.score(metric))}",
        f"[{number(low)}, {number(high)}]",
    ]
    if history is not None and (words := changes(history, metric)):
        said.append(f"({words})")
    scores = {name: report.score(metric, name) for name in report.languages}
    known = {name: score for name, score in scores.items() if not math.isnan(score)}
    if len({*known.values()}) > 1:
        best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
        said.append(f"best {best} {known[best]:.3f}, worst {worst} {known[worst]:.3f}")
    others = [name for name in report.metrics if name != metric]
    said += [f"{name} {number(report.score(name))}" for name in others]
    if "seconds" in report.run:
        said.append(f"{report.run['seconds']:.1f} s")
    return " · ".join((" ".join(said[:2]), *said[2:])).replace(" · (", " (")


def changes(history: History, metric: str) -> str:
    """How the latest probe differs, such as ``significant: +0.031 since the last``."""
    found: dict[bool, list[str]] = {True: [], False: []}
    seen: list[Point] = []
    for reference in REFERENCES:
        earlier = history.earlier(metric, reference)
        change = history.change(metric, reference=reference)
        if earlier is None or change is None or earlier in seen:
            continue
        seen.append(earlier)
        if math.isnan(change.difference):
            return "change unknown"
        found[change.significant].append(f"{change.difference:+.3f} since the {reference}")
    names = {True: "significant: ", False: "not significant: "}
    return "; ".join(names[each] + ", ".join(words) for each, words in found.items() if words)


def table(report: AlignmentReport) -> Table:
    """Languages by the first metric, with its interval, best layer and retrieval both ways."""
    first, *others = report.metrics
    made = Table(
        title=f"Alignment with {report.pivot} at step {report.step}",
        caption=f"{report.n_pairs} pairs per language; chance is {report.chance:.3f}",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    made.add_column("language", no_wrap=True)
    made.add_column(first, justify="right", no_wrap=True)
    made.add_column("95 %", style="dim", no_wrap=True)
    made.add_column("", no_wrap=True)
    made.add_column("best layer", justify="right", no_wrap=True)
    made.add_column("to/from", justify="right", no_wrap=True)
    for metric in others:
        made.add_column(metric, justify="right", no_wrap=True)
    order = sorted(report.languages, key=lambda name: -_or_zero(report.score(first, name)))
    for language in (*order, None):
        made.add_row(*_cells(report, language), end_section=language == order[-1])
    return made


def _cells(report: AlignmentReport, language: str | None) -> list[Text | str]:
    first, *others = report.metrics
    score = report.score(first, language)
    low, high = report.interval(first, language)
    layer, peak = report.peak(first, language)
    there, back = report.retrieval(first, language)
    return [
        Text(language or "mean"),
        number(score),
        f"{number(low)} - {number(high)}",
        bar(score),
        f"{layer} ({number(peak)})",
        f"{there:.2f}/{back:.2f}",
        *(number(report.score(metric, language)) for metric in others),
    ]


def bar(score: float) -> str:
    """A bar of a score in [0, 1]."""
    eighths = round(_or_zero(score) * CELLS * 8)
    whole, rest = divmod(eighths, 8)
    return (BAR[-1] * whole + (BAR[rest - 1] if rest else "")).ljust(CELLS)


def number(score: float) -> str:
    """A score as people read it."""
    return "nan" if math.isnan(score) else f"{score:.3f}"


def _or_zero(score: float) -> float:
    return 0.0 if math.isnan(score) else score
