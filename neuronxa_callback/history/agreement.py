"""Alignment reports beside downstream scores: the same languages, models and steps of both."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from neuronxa_callback.corpus.languages import resolve, script
from neuronxa_callback.errors import ConfigError, CorpusError, unknown
from neuronxa_callback.history import correlation
from neuronxa_callback.history.correlation import AlongRun, Correlation, LeaveOneOut
from neuronxa_callback.history.downstream import DownstreamScore
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
    over_models: Mapping[tuple[str, str], tuple[float, float, float]]
    """(task, metric) -> mean of one Pearson's r per model, low, high; for several models."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As lists, dictionaries and numbers; NaN becomes ``None``."""
        parts = ("over_languages", "differences", "over_steps")
        plain = {name: [asdict(each) for each in getattr(self, name)] for name in parts}
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
    notes: list[str] = []
    for model, reports in curves.items():
        own = [score for score in scores if score.model in (None, model)]
        for task in dict.fromkeys(score.task for score in own):
            table, left_out = _by_step(reports[-1], [s for s in own if s.task == task])
            notes += [
                f"{task}: {name} is left out, the report does not have it" for name in left_out
            ]
            found = [_at_end(model, task, metric, reports, table) for metric in metrics]
            over_languages += found
            differences += [_difference(*pair) for pair in combinations(found, 2)]
            over_steps += _along(model, task, metrics, reports, table, notes)
    return Agreements(
        tuple(over_languages),
        tuple(differences),
        tuple(over_steps),
        _over_models(over_languages) if len(curves) > 1 else {},
        tuple(dict.fromkeys(notes)),
    )


Table = Mapping[int | None, Mapping[str, float]]
"""step (None if the scores have none) -> language of the report -> score."""


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


def _by_step(
    report: AlignmentReport, scores: Iterable[DownstreamScore]
) -> tuple[Table, tuple[str, ...]]:
    """The scores by step and language of the report, and the languages that it does not have."""
    table: dict[int | None, dict[str, float]] = {}
    left_out: dict[str, None] = {}
    for score in scores:
        try:
            language = resolve(score.language, report.languages)
        except CorpusError as error:
            _require_language(score.language, error)
            left_out[score.language] = None
            continue
        table.setdefault(score.step, {})[language] = score.score
    return table, tuple(left_out)


def _require_language(name: str, error: CorpusError) -> None:
    """A language that exists is only not in the report; any other text is a mistake."""
    try:
        resolve(name)
    except CorpusError:
        raise ConfigError(f"the scores name no language of the report: {error}") from None


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


def covariates(report: AlignmentReport, languages: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """What may explain alignment without alignment, one number per language.

    ``fertility``: tokens of the language per token of the pivot. ``surface``: the score of
    character 3-grams alone. ``script``: 1 for another script than Latin. A covariate that the
    report does not hold, or that does not vary, is left out.
    """
    tokens = report.diagnostics.get("tokens", {}).get("languages", {})
    surface = report.diagnostics.get("surface", {})
    columns: dict[str, tuple[float, ...]] = {}
    if all(name in tokens for name in languages):
        columns["fertility"] = tuple(
            tokens[name]["target"]["per_sentence"] / tokens[name]["pivot"]["per_sentence"]
            for name in languages
        )
    if all(name in surface for name in languages):
        columns["surface"] = tuple(surface[name]["characters"] for name in languages)
    columns["script"] = tuple(float(script(name) != "Latn") for name in languages)
    return {name: column for name, column in columns.items() if len(set(column)) > 1}


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
