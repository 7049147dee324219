"""One line about a probe: mean, changes, languages, seconds."""

import math
from dataclasses import replace

from neuronxa_callback.history.history import REFERENCES, History
from neuronxa_callback.history.points import Point
from neuronxa_callback.metrics.statistics import MARGIN, Change, union_bound
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.tables import interval, number, ranking

MAX_CHANGES = 3
"""Languages whose changes are in the line of a probe."""


def line(report: AlignmentReport, history: History | None = None) -> str:
    """One line about a probe: mean, interval, changes, best and worst language, seconds.

    It begins with the name of the callback, if that has one: a Trainer may have several.

    Args:
        report: The report of the probe.
        history: The run so far, whose last point is the report; None leaves the changes out.
    """
    metric, *others = report.metrics
    name = report.run.get("name")
    mean = (
        f"NeuronXA{f' {name}' if name else ''} step {report.step}:"
        f" {metric} {number(report.score(metric))} [{interval(report, metric, separator=', ')}]"
    )
    if history is not None and (change := changes(history, metric)):
        mean += f" ({change})"
    parts = [mean]
    if history is not None and (by_language := language_changes(history, metric)):
        parts.append(by_language)
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

    A run looks at the same pairs at every probe. "significant" therefore spends 5 % over all looks
    and comparisons of the run, by ``statistics.union_bound``, and its null hypothesis is a change
    within ``statistics.MARGIN``: a run whose true score moves by no more than that has such a word
    in at most 5 % of all cases.

    Returns:
        The differences from the last, first and best probe before it, significant ones first;
        each earlier probe once. Empty if there is none, ``"change unknown"`` if a score is NaN.
    """
    seen: list[Point] = []
    found: dict[str, Change] = {}
    for reference in REFERENCES:
        earlier = history.earlier(metric, reference)
        change = history.change(metric, reference=reference, margin=MARGIN)
        if earlier is None or change is None or earlier in seen:
            continue
        seen.append(earlier)
        found[reference] = change
    if any(math.isnan(change.difference) for change in found.values()):
        return "change unknown"
    differences: dict[bool, list[str]] = {True: [], False: []}
    for reference, change in found.items():
        look = history.points[-1].number
        # The best is one of all earlier probes: as many comparisons as there are candidates.
        candidates = look if reference == "best" else 1
        p = union_bound(change.p, look, len(found) * candidates)
        text = f"{change.difference:+.3f} since the {reference}"
        differences[replace(change, p=p).significant].append(text)
    labels = {True: "significant: ", False: "not significant: "}
    return "; ".join(labels[key] + ", ".join(texts) for key, texts in differences.items() if texts)


def language_changes(history: History, metric: str) -> str:
    """The languages that changed since the last probe, and how many did not.

    "changed" is tested as in ``changes``, and spends 5 % of its own over all looks and languages
    of a run.

    Returns:
        Such as ``"since the last: deu_Latn +0.120, 24 unchanged"``, the largest changes first.
        Empty if there is no earlier probe.
    """
    if history.earlier(metric, "last") is None:
        return ""
    latest = history.points[-1]
    languages = tuple(latest.counts[metric])
    changed: dict[str, float] = {}
    unknown = 0
    for language in languages:
        change = history.change(metric, language, margin=MARGIN)
        if change is None or math.isnan(change.difference):
            unknown += 1
            continue
        p = union_bound(change.p, latest.number, len(languages))
        if replace(change, p=p).significant:
            changed[language] = change.difference
    largest = sorted(changed, key=lambda language: -abs(changed[language]))
    parts = [f"{language} {changed[language]:+.3f}" for language in largest[:MAX_CHANGES]]
    counts = {
        "more changed": len(changed) - len(parts),
        "unchanged": len(languages) - len(changed) - unknown,
        "unknown": unknown,
    }
    parts += [f"{count} {name}" for name, count in counts.items() if count]
    return f"since the last: {', '.join(parts)}"
