"""Tables for the terminal: one report, a run, two reports, the neurons of a model, languages."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neuronxa_callback.corpus.languages import script_name
from neuronxa_callback.history.run_groups import RunDifference
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import GROUP

if TYPE_CHECKING:
    from neuronxa_callback.taps.plan import FFNPart, TapPlan

EIGHTHS = "▏▎▍▌▋▊▉█"
BAR_CELLS = 12


def one_report(report: AlignmentReport) -> Table:
    """One row per language: score, interval, best layer, retrieval both ways, other metrics.

    Languages are sorted by score, those with NaN last; then come groups of languages and the mean.
    """
    first, *others = report.metrics
    caption = f"{report.n_pairs} pairs per language; chance is {report.chance:.3f}\nto/from: "
    caption += f"the nearest sentence is the translation, from {report.pivot} and back"
    table = _table(f"Alignment with {report.pivot} at step {report.step}", caption)
    table.add_column("language", no_wrap=True)
    table.add_column(escape(first), justify="right", no_wrap=True)
    table.add_column("95 %", style="dim", no_wrap=True)
    table.add_column("", no_wrap=True)
    beyond = report.diagnostics.get("beyond_surface", {}).get(first)
    extra = ["beyond spelling"] if beyond else []
    for name in ("best layer", "to/from", *map(escape, others), *extra):
        table.add_column(name, justify="right", no_wrap=True)
    ranked = [name for name, _ in ranking(report, first)]
    order = (*ranked, *(name for name in report.languages if name not in ranked))
    groups = [f"{GROUP}{name}" for name in report.groups]
    ends = (order[-1], *groups[-1:])
    for language in (*order, *groups, None):
        cells = _report_row(report, language)
        if beyond and language is not None:
            cells.append(_subset_score(**beyond[language]) if language in beyond else "")
        table.add_row(*cells, end_section=language in ends)
    return table


def over_steps(reports: Sequence[AlignmentReport]) -> Table:
    """One row per report: mean of the first metric, interval, best and worst language, others."""
    first, *others = reports[0].metrics
    table = _table(f"Alignment with {reports[0].pivot}")
    for name in ("step", first, "95 %", "", "best", "worst", *others):
        table.add_column(escape(name), justify="right" if name else "left", no_wrap=True)
    scores = [report.score(first) for report in reports]
    top = max((score for score in scores if not math.isnan(score)), default=math.nan)
    for report, score in zip(reports, scores, strict=True):
        ranked = ranking(report, first) or [("", math.nan)]
        table.add_row(
            str(report.step),
            Text(number(score), style="bold" if score == top else ""),
            interval(report, first),
            bar(score),
            *(Text(f"{name} {number(end)}".strip()) for name, end in (ranked[0], ranked[-1])),
            *(number(report.score(metric)) for metric in others),
        )
    return table


def differences(
    before: AlignmentReport,
    after: AlignmentReport,
    metric: str,
    changes: Mapping[str, Change],
    at_n: int | None = None,
) -> Table:
    """One row per language: both scores, their paired difference, p, and whether it is significant.

    Languages are sorted by their difference; those with NaN come last.
    """
    title = f"{metric} at step {after.step} against step {before.step}"
    if at_n is not None:
        title += f", among {at_n} pairs"
    table = _table(title, "p-values adjusted by Holm over languages")
    table.add_column("language", no_wrap=True)
    for name in ("before", "after", "difference", "95 %", "p", ""):
        table.add_column(name, justify="right", no_wrap=True)
    by_difference = sorted(
        changes.items(), key=lambda item: (math.isnan(item[1].difference), item[1].difference)
    )
    for language, change in by_difference:
        table.add_row(
            Text(language),
            *(
                number(
                    report.score(metric, language)
                    if at_n is None
                    else report.score_at(at_n, metric, language)
                )
                for report in (before, after)
            ),
            *_change_cells(change),
        )
    return table


def group_differences(metric: str, changes: Mapping[str, Change]) -> Table:
    """One row per group of languages: its difference, p, and whether it is significant."""
    title = f"{metric} of groups of languages"
    numbers = ("difference", "95 %", "p", "")
    table = numeric_table(title, "p-values adjusted by Holm over groups", ("group",), numbers)
    for name, change in changes.items():
        table.add_row(Text(name), *_change_cells(change))
    return table


def run_differences(
    metric: str, names: Sequence[str], differences: Mapping[str, RunDifference]
) -> Table:
    """One row per language, group of languages and the mean: both groups of runs, and the change.

    Each group of runs has its mean, the standard deviation between its runs, and the interval over
    sentence pairs.
    """
    sides = [
        f"{escape(name)}{column}" for name in names for column in ("", " runs +-", " pairs 95 %")
    ]
    table = numeric_table(
        f"{metric} of {names[1]} against {names[0]}, runs as the unit",
        "the difference counts runs and pairs; p-values adjusted by Holm over languages and groups",
        ("language",),
        (*sides, "difference", "95 %", "p", ""),
    )
    for name, each in differences.items():
        cells = [
            cell
            for side in (each.first, each.second)
            for cell in (
                number(side.mean), number(side.spread), f"{number(side.low)} - {number(side.high)}",
            )
        ]  # fmt: skip
        table.add_row(Text(name), *cells, *_change_cells(each.change))
    return table


def _change_cells(change: Change) -> tuple[str | Text, ...]:
    return (
        signed(change.difference),
        f"{signed(change.low)} - {signed(change.high)}",
        p_value(change.p),
        Text("significant", style="bold") if change.significant else "",
    )


def neurons(plan: "TapPlan") -> Table:
    """The FFNs of a model; of neighbours that differ in their numbers only, the first and last."""
    total = sum(part.width for part in plan.parts)
    megabytes = 100 * total * 4 / 1e6
    size = f"{megabytes:.1f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
    table = _table(
        "Feed-forward neurons",
        f"{len(plan.layers)} layers, {total:,} neurons: vectors of 100 pivot sentences take {size}"
        " for each metric",
    )
    for name in ("layer", "path", "kind", "width", "experts", "how it is read"):
        is_number, wraps = name in ("width", "experts"), name == "how it is read"
        table.add_column(name, justify="right" if is_number else "left", no_wrap=not wraps)
    for _, group in groupby(plan.parts, key=_without_numbers):
        parts = list(group)
        table.add_row(*_part_row(parts[0]))
        if len(parts) > 2:
            table.add_row("...", f"{len(parts) - 2} more like these", *[""] * 4)
        if len(parts) > 1:
            table.add_row(*_part_row(parts[-1]))
    return table


def languages(rows: Sequence[tuple[str, str, Sequence[str]]]) -> Table:
    """One row per language: code, name, script, and the built-in splits that contain it.

    Args:
        rows: (code, name, splits).
    """
    table = _table("Languages")
    for column in ("code", "name", "script", "built in"):
        table.add_column(column, no_wrap=True)
    for code, name, splits in rows:
        table.add_row(Text(code), Text(name), script_name(code) or "", ", ".join(splits) or "no")
    return table


def ranking(report: AlignmentReport, metric: str) -> list[tuple[str, float]]:
    """(language, score) from the highest to the lowest score, without those whose score is NaN."""
    scores = [(name, report.score(metric, name)) for name in report.languages]
    known = [(name, score) for name, score in scores if not math.isnan(score)]
    return sorted(known, key=lambda item: -item[1])


def bar(score: float) -> str:
    """A bar for a score in [0, 1], 12 characters wide; empty for NaN.

    Example:
        >>> bar(0.5)
        '██████      '
    """
    eighths = 0 if math.isnan(score) else round(score * BAR_CELLS * 8)
    whole, rest = divmod(eighths, 8)
    return (EIGHTHS[-1] * whole + (EIGHTHS[rest - 1] if rest else "")).ljust(BAR_CELLS)


def number(score: float) -> str:
    """A score with three decimals, or ``nan``."""
    return "nan" if math.isnan(score) else f"{score:.3f}"


def p_value(p: float) -> str:
    """A p-value with four decimals, ``< 0.0001`` or ``nan``.

    >>> p_value(0.03125), p_value(3e-7)
    ('0.0312', '< 0.0001')
    """
    return "nan" if math.isnan(p) else f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def interval(
    report: AlignmentReport, metric: str, language: str | None = None, separator: str = " - "
) -> str:
    """The interval of a score, or in words that a hub leaves none; the warnings name the hub."""
    if report.is_hub_limited(metric, language):
        return "unknown: a hub decides"
    return separator.join(map(number, report.interval(metric, language)))


def signed(value: float) -> str:
    """A difference with its sign and three decimals, or ``nan``."""
    return "nan" if math.isnan(value) else f"{value:+.3f}"


def numeric_table(title: str, caption: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table with columns of texts on the left and of numbers on the right."""
    table = _table(title, caption)
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _table(title: str, caption: str | None = None) -> Table:
    return Table(
        title=escape(title),
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def _report_row(report: AlignmentReport, language: str | None) -> list[Text | str]:
    first, *others = report.metrics
    score = report.score(first, language)
    layer, peak = report.peak(first, language)
    from_pivot, to_pivot = report.retrieval(first, language)
    return [
        Text(language or "mean"),
        number(score),
        interval(report, first, language),
        bar(score),
        Text(f"{layer} ({number(peak)})"),
        f"{from_pivot:.2f}/{to_pivot:.2f}",
        *(number(report.score(metric, language)) for metric in others),
    ]


def _subset_score(score: float | None, pairs: int, low: float | None, high: float | None) -> str:
    """The score of some pairs, its interval and their number; ``n/a`` if there are too few."""
    if score is None or low is None or high is None:
        return f"n/a ({pairs} pairs)"
    return f"{number(score)} ({number(low)} - {number(high)}, {pairs} pairs)"


def _part_row(part: "FFNPart") -> tuple[Text | str, ...]:
    experts = str(part.experts) if part.experts else ""
    return str(part.layer), Text(part.path), part.kind, f"{part.width:,}", experts, Text(part.how)


def _without_numbers(part: "FFNPart") -> str:
    """A text that is equal for parts that differ only in the numbers in their paths."""
    text = "|".join((part.path, part.kind, part.how, str(part.width), str(part.experts)))
    return re.sub(r"\.\d+", ".#", text)
