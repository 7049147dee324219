"""Tables for the terminal: a run's steps, two reports, a model's neurons, languages."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from neuronxa_callback.corpus import languages as codes
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.terminal import bar, number

if TYPE_CHECKING:
    from neuronxa_callback.taps.plan import FFNPart, TapPlan


def over_steps(reports: Sequence[AlignmentReport]) -> Table:
    """One row per report: the mean of each metric, its interval, the best and worst language."""
    first, *others = reports[0].metrics
    made = _table(f"Alignment with {reports[0].pivot}", "step", right=(0,))
    for name in (first, "95 %", "", "best", "worst", *others):
        made.add_column(name, justify="left" if not name else "right", no_wrap=True)
    scores = [report.score(first) for report in reports]
    top = max((each for each in scores if not math.isnan(each)), default=math.nan)
    for report, score in zip(reports, scores, strict=True):
        low, high = report.interval(first)
        ends = _ends(report, first)
        made.add_row(
            str(report.step),
            Text(number(score), style="bold" if score == top else ""),
            f"{number(low)} - {number(high)}",
            bar(score),
            *(Text(each) for each in ends),
            *(number(report.score(metric)) for metric in others),
        )
    return made


def differences(
    before: AlignmentReport,
    after: AlignmentReport,
    metric: str,
    changes: Mapping[str, Change],
) -> Table:
    """One row per language: both scores, the paired difference, whether it is significant."""
    title = f"{metric} at step {after.step} against step {before.step}"
    made = _table(title, "language", caption="p-values by Holm over languages")
    for name in ("before", "after", "difference", "95 %", "p", ""):
        made.add_column(name, justify="right", no_wrap=True)
    for language, each in sorted(changes.items(), key=lambda pair: _or_zero(pair[1].difference)):
        made.add_row(
            Text(language),
            number(before.score(metric, language)),
            number(after.score(metric, language)),
            _signed(each.difference),
            f"{_signed(each.low)} - {_signed(each.high)}",
            "nan" if math.isnan(each.p) else f"{each.p:.4f}",
            Text("significant", style="bold") if each.significant else "",
        )
    return made


def neurons(plan: "TapPlan") -> Table:
    """One row per run of blocks whose neurons are alike."""
    total = sum(part.width for part in plan.parts)
    held = 100 * total * 4 / 1e6
    size = f"{held:.1f} MB" if held < 1000 else f"{held / 1000:.1f} GB"
    caption = (
        f"{len(plan.layers)} layers, {total:,} neurons: vectors of 100 pivot sentences take {size}"
        " for each metric"
    )
    made = _table("Feed-forward neurons", "layer", caption=caption)
    for name in ("path", "kind", "width", "experts", "how it is read"):
        right, wraps = name in ("width", "experts"), name == "how it is read"
        made.add_column(name, justify="right" if right else "left", no_wrap=not wraps)
    for _, alike in groupby(plan.parts, key=_likeness):
        parts = list(alike)
        made.add_row(*_row(parts[0]))
        if len(parts) > 2:
            made.add_row("...", f"{len(parts) - 2} more like these", *[""] * 4)
        if len(parts) > 1:
            made.add_row(*_row(parts[-1]))
    return made


def languages(rows: Sequence[tuple[str, str, Sequence[str]]]) -> Table:
    """Codes, names, and in which halves of the built-in sentences they are."""
    made = _table("Languages", "code")
    for name in ("name", "script", "built in"):
        made.add_column(name, no_wrap=True)
    for code, name, halves in rows:
        made.add_row(code, name, codes.script_name(code) or "", ", ".join(halves) or "no")
    return made


def _table(title: str, first: str, right: Sequence[int] = (), caption: str | None = None) -> Table:
    made = Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    made.add_column(first, justify="right" if right else "left", no_wrap=True)
    return made


def _row(part: "FFNPart") -> tuple[Text | str, ...]:
    experts = str(part.experts) if part.experts else ""
    return str(part.layer), Text(part.path), part.kind, f"{part.width:,}", experts, Text(part.how)


def _likeness(part: "FFNPart") -> str:
    """Equal for neighbours that differ in nothing but numbers in their paths."""
    words = "|".join((part.path, part.kind, part.how, str(part.width), str(part.experts)))
    return re.sub(r"\.\d+", ".#", words)


def _ends(report: AlignmentReport, metric: str) -> tuple[str, str]:
    known = {name: report.score(metric, name) for name in report.languages}
    known = {name: score for name, score in known.items() if not math.isnan(score)}
    if not known:
        return "nan", "nan"
    best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    return f"{best} {known[best]:.3f}", f"{worst} {known[worst]:.3f}"


def _signed(value: float) -> str:
    return "nan" if math.isnan(value) else f"{value:+.3f}"


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
