"""Alignment reports beside downstream scores: the same languages, models and steps of both."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history import correlation
from neuronxa_callback.history.correlation import AlongRun, Correlation, LeaveOneOut
from neuronxa_callback.history.downstream import DownstreamScore
from neuronxa_callback.history.score_table import Table, covariates, restrict, table_by_step
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import without_nan


@dataclass(frozen=True)
class Agreement:
    """How one metric of one model goes along with one task, over languages."""

    model: str
    task: str
    metric: str
    step: int
    languages: tuple[str, ...]
    alignment: tuple[float, ...]
    downstream: tuple[float, ...]
    pearson: Correlation
    spearman: Correlation
    without_one: LeaveOneOut
    partial: Mapping[str, Correlation]
    """Pearson's r given ``fertility``, ``surface`` or ``script``, and given ``all`` of them."""


@dataclass(frozen=True)
class MetricDifference:
    """Pearson's r of one metric minus that of another, on the same languages."""

    model: str
    task: str
    metrics: tuple[str, str]
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class StepAgreement:
    """How one metric goes along with one task from step to step of one model."""

    model: str
    task: str
    metric: str
    languages: tuple[str, ...]
    steps: tuple[int, ...]
    changes: AlongRun


@dataclass(frozen=True)
class Agreements:
    """All correlations of some reports with some scores, and what was left out, in words."""

    over_languages: tuple[Agreement, ...]
    differences: tuple[MetricDifference, ...]
    over_steps: tuple[StepAgreement, ...]
    in_groups: Mapping[str, tuple[Agreement, ...]]
    """Group of languages -> its correlations, for groups with enough languages."""
    over_models: Mapping[tuple[str, str], tuple[float, float, float]]
    """(task, metric) -> mean of one Pearson's r per model, low, high; for several models."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As lists, dictionaries and numbers; NaN becomes ``None``."""
        parts = ("over_languages", "differences", "over_steps")
        plain: dict[str, Any] = {
            name: [asdict(each) for each in getattr(self, name)] for name in parts
        }
        plain["in_groups"] = {
            name: [asdict(each) for each in found] for name, found in self.in_groups.items()
        }
        plain["over_models"] = [
            {"task": task, "metric": metric, "mean": mean, "low": low, "high": high}
            for (task, metric), (mean, low, high) in self.over_models.items()
        ]
        return {**without_nan(plain), "notes": list(self.notes)}


def correlate(
    curves: Mapping[str, Sequence[AlignmentReport]],
    scores: Sequence[DownstreamScore],
    metrics: Sequence[str] | None = None,
) -> Agreements:
    """Correlate alignment per language with downstream scores per language.

    Over languages, the last report counts, and the score of its step (else the last score). Along
    a run, all steps that have both count.

    Args:
        curves: Name of a model -> its reports in the order of steps.
        scores: Downstream scores. Their ``model`` must be one of ``curves``, or None for all.
        metrics: The metrics to correlate; None for those of the first report.

    Returns:
        One ``Agreement`` per model, task and metric.

    Raises:
        ConfigError: If a language is unknown, fewer than 8 have both, or a score does not vary.
    """
    metrics = tuple(metrics or next(iter(curves.values()))[-1].metrics)
    _check_names(curves, scores, metrics)
    over_languages: list[Agreement] = []
    over_steps: list[StepAgreement] = []
    differences: list[MetricDifference] = []
    in_groups: dict[str, list[Agreement]] = {}
    notes: list[str] = []
    for model, reports in curves.items():
        own = [score for score in scores if score.model in (None, model)]
        for task in dict.fromkeys(score.task for score in own):
            table, left_out = table_by_step(reports[-1], [s for s in own if s.task == task])
            notes += [
                f"{task}: {name} is left out, the report does not have it" for name in left_out
            ]
            found = [_at_end(model, task, metric, reports, table) for metric in metrics]
            over_languages += found
            differences += [_difference(*pair) for pair in combinations(found, 2)]
            over_steps += _along(model, task, metrics, reports, table, notes)
            for group, members in reports[-1].groups.items():
                part = restrict(table, members)
                in_groups.setdefault(group, []).extend(
                    _in_group(model, task, group, metrics, reports, part, notes)
                )
    return Agreements(
        tuple(over_languages),
        tuple(differences),
        tuple(over_steps),
        {name: tuple(found) for name, found in in_groups.items() if found},
        _over_models(over_languages) if len(curves) > 1 else {},
        tuple(dict.fromkeys(notes)),
    )


def _check_names(
    curves: Mapping[str, Sequence[AlignmentReport]],
    scores: Iterable[DownstreamScore],
    metrics: Sequence[str],
) -> None:
    for metric in metrics:
        for report in (report for reports in curves.values() for report in reports):
            if metric not in report.metrics:
                raise ConfigError(unknown("metric", metric, report.metrics))
    named = dict.fromkeys(score.model for score in scores if score.model is not None)
    if named and not set(named) & set(curves):
        raise ConfigError(
            f"the models of the scores must be runs among {', '.join(curves)}, got:"
            f" {', '.join(named)}"
        )


def _in_group(
    model: str,
    task: str,
    group: str,
    metrics: Sequence[str],
    reports: Sequence[AlignmentReport],
    table: Table,
    notes: list[str],
) -> list[Agreement]:
    """The correlations over the languages of a group; none, and a note, if it has too few."""
    try:
        return [_at_end(model, task, metric, reports, table) for metric in metrics]
    except ConfigError:
        notes.append(
            f"{task} of {model}: the group {group} has no correlation of its own, which needs"
            f" scores of {correlation.LEAST_LANGUAGES} of its languages that are not all equal"
        )
        return []


def _at_end(
    model: str, task: str, metric: str, reports: Sequence[AlignmentReport], table: Table
) -> Agreement:
    """The correlation over languages of the last report whose step has scores."""
    by_step = {report.step: report for report in reports}
    known = [step for step in table if step in by_step]
    step = max((step for step in known if step is not None), default=None)
    report = reports[-1] if step is None else by_step[step]
    scored = [*table.values(), {}][0] if step is None else table[step]
    languages = tuple(
        name
        for name in report.languages
        if name in scored
        and math.isfinite(scored[name])
        and math.isfinite(report.score(metric, name))
    )
    if len(languages) < correlation.LEAST_LANGUAGES:
        raise ConfigError(
            f"{task} needs scores of at least {correlation.LEAST_LANGUAGES} languages of the report"
            f" of {model}, it has {len(languages)}: {', '.join(languages) or 'none'}; the report"
            f" has: {', '.join(report.languages)}"
        )
    x = tuple(report.score(metric, name) for name in languages)
    y = tuple(scored[name] for name in languages)
    try:
        pearson = correlation.pearson(x, y)
    except ConfigError as error:
        raise ConfigError(f"{metric} and {task} of {model}: {error}") from None
    given = covariates(report, languages)
    partial = {name: correlation.partial(x, y, [column]) for name, column in given.items()}
    if len(given) > 1:
        partial["all"] = correlation.partial(x, y, list(given.values()))
    return Agreement(
        model,
        task,
        metric,
        report.step,
        languages,
        x,
        y,
        pearson,
        correlation.spearman(x, y),
        correlation.leave_one_out(x, y, languages),
        partial,
    )


def _difference(one: Agreement, other: Agreement) -> MetricDifference:
    both = [name for name in one.languages if name in other.languages]
    x, z, y = (
        [dict(zip(side.languages, numbers, strict=True))[name] for name in both]
        for side, numbers in (
            (one, one.alignment),
            (other, other.alignment),
            (one, one.downstream),
        )
    )
    return MetricDifference(
        one.model, one.task, (one.metric, other.metric), *correlation.difference(x, z, y)
    )


def _along(
    model: str,
    task: str,
    metrics: Sequence[str],
    reports: Sequence[AlignmentReport],
    table: Table,
    notes: list[str],
) -> list[StepAgreement]:
    """The correlations of changes, if at least two steps have reports and scores."""
    both = [report for report in reports if report.step in table]
    if len(both) < 2:
        return []
    steps = tuple(report.step for report in both)
    languages = tuple(
        name for name in both[0].languages if all(name in table[step] for step in steps)
    )
    found = []
    for metric in metrics:
        x = {name: [report.score(metric, name) for report in both] for name in languages}
        y = {name: [table[step][name] for step in steps] for name in languages}
        try:
            changes = correlation.along_run(x, y)
        except ConfigError as error:
            notes.append(f"{metric} and {task} of {model} along the run: {error}")
            continue
        found.append(StepAgreement(model, task, metric, languages, steps, changes))
    return found


def _over_models(
    agreements: Sequence[Agreement],
) -> dict[tuple[str, str], tuple[float, float, float]]:
    by_key: dict[tuple[str, str], list[float]] = {}
    for each in agreements:
        by_key.setdefault((each.task, each.metric), []).append(each.pearson.r)
    return {
        key: correlation.mean_over_models(values)
        for key, values in by_key.items()
        if len(values) > 1
    }
