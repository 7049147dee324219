"""Groups of runs, such as seeds of one recipe: their means, and the difference of two groups.

The score of a group varies for two reasons: another run of the same recipe, and other sentence
pairs. With k runs on n pairs its variance is R / k + P / n + RP / (k n). The variance between the
scores of runs estimates R / k + RP / (k n), that of the mean over runs (``metrics.variance``)
P / n + RP / (k n). Their sum counts the interaction RP twice, so it is subtracted once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.points import Names, Point
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.metrics.variance import Array, PairSums, add_spreads, combine, mean_spread
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import GROUP, MEAN

LEAST_RUNS = 2


@dataclass(frozen=True)
class RunMean:
    """The mean score of several runs, in [0, 1]."""

    mean: float
    spread: float
    """The standard deviation between the scores of the runs."""
    low: float
    """The low end of the 95 % interval over sentence pairs, for these runs."""
    high: float


@dataclass(frozen=True)
class RunDifference:
    """Two groups of runs, and the difference of their means: second minus first."""

    first: RunMean
    second: RunMean
    change: Change
    """Its interval holds the difference of other runs of both recipes on other pairs."""


def compare_runs(
    first: Sequence[AlignmentReport], second: Sequence[AlignmentReport], metric: str
) -> dict[str, RunDifference]:
    """The difference between two groups of runs: per language, group of languages, and the mean.

    Runs are the unit: Welch's variance between runs, plus the variance over sentence pairs.

    Args:
        first: One report of each run, at least 2.
        second: The same of the other group.
        metric: A metric of the reports.

    Returns:
        A language, ``"group:<name>"`` or ``"mean"`` -> its difference. P-values are adjusted by
        Holm over languages and over groups of languages.

    Raises:
        ConfigError: If a group has fewer than 2 runs, or a report lacks the metric.
        FingerprintError: If the reports do not measure the same thing.
    """
    reports = (*first, *second)
    for runs in (first, second):
        _require_runs(runs)
    for report in reports:
        check_same_fingerprint(reports[0].fingerprint, report.fingerprint, ("definition",))
        if metric not in report.metrics:
            raise ConfigError(unknown("metric", metric, report.metrics))
    points = [Point.of(report) for report in first], [Point.of(report) for report in second]
    languages: dict[str, Names] = {name: (name,) for name in reports[0].languages}
    groups: dict[str, Names] = {
        f"{GROUP}{name}": members for name, members in reports[-1].groups.items()
    }
    return {
        **_adjusted(points, metric, languages),
        **_adjusted(points, metric, groups),
        MEAN: _difference(points, metric, None),
    }


def mean_of_runs(points: Sequence[Point], metric: str, names: Names = None) -> RunMean:
    """The mean score of several runs, with the spread between runs and the interval over pairs.

    Args:
        points: One point of each run, at least 2, on the same sentences.
        metric: A metric of the points.
        names: The languages to average; None for all.

    Raises:
        ConfigError: If there are fewer than 2 runs.
    """
    _require_runs(points)
    sums = [point.sums(metric, names) for point in points]
    mean = combine(sums, np.full(len(sums), 1 / len(sums)))
    return _run_mean(sums, mean, points[0].shared)


def _require_runs(runs: Sequence[object]) -> None:
    if len(runs) < LEAST_RUNS:
        raise ConfigError(
            f"a group needs at least {LEAST_RUNS} runs to know how runs differ, got {len(runs)}"
        )


Points = tuple[Sequence[Point], Sequence[Point]]


def _adjusted(points: Points, metric: str, named: Mapping[str, Names]) -> dict[str, RunDifference]:
    found = {name: _difference(points, metric, names) for name, names in named.items()}
    adjusted = statistics.holm([each.change.p for each in found.values()])
    return {
        name: replace(each, change=replace(each.change, p=p))
        for (name, each), p in zip(found.items(), adjusted, strict=True)
    }


def _difference(points: Points, metric: str, names: Names) -> RunDifference:
    shared = points[0][0].shared
    sums = [[point.sums(metric, names) for point in runs] for runs in points]
    means = [combine(runs, np.full(len(runs), 1 / len(runs))) for runs in sums]
    one, other = (_run_mean(*each, shared) for each in zip(sums, means, strict=True))
    difference = other.mean - one.mean
    if math.isnan(difference):
        return RunDifference(one, other, Change(math.nan, math.nan, math.nan, math.nan))
    pairs = mean_spread(means[1] - means[0], shared)
    between = [each.spread**2 / len(runs) for each, runs in zip((one, other), sums, strict=True)]
    variances = np.array([*between, float(pairs.variance)])
    found = add_spreads(variances, np.array([*(len(runs) - 1 for runs in sums), float(pairs.df)]))
    twice = sum(_interaction(runs, shared) for runs in sums)
    variance = max(float(found.variance) - twice, sum(between), float(pairs.variance))
    # If nothing was seen to move, one more pair might have: the error is at least one verdict.
    error = max(math.sqrt(variance), 1 / means[0].verdicts)
    return RunDifference(one, other, statistics.student_change(difference, error, float(found.df)))


def _run_mean(runs: Sequence[PairSums], mean: PairSums, shared: bool) -> RunMean:
    scores = np.array([sums.h.mean() for sums in runs])
    low, high = statistics.interval(mean, shared)
    return RunMean(float(scores.mean()), float(scores.std(ddof=1)), low, high)


def _interaction(runs: Sequence[PairSums], shared: bool) -> float:
    """RP / (k n) of a group: the variance of its mean from what runs and pairs do not explain."""
    pseudo = np.stack([sums.h - sums.u for sums in runs], axis=1)  # [languages, runs, pairs]
    units = pseudo.mean(axis=0, keepdims=True) if shared else pseudo / len(pseudo)
    return float(sum(_residual_variance(unit) for unit in units))


def _residual_variance(unit: Array) -> float:
    runs, pairs = unit.shape
    rest = unit - unit.mean(axis=0) - unit.mean(axis=1, keepdims=True) + unit.mean()
    squares = float((rest**2).sum()) / ((runs - 1) * max(1, pairs - 1))
    return float(squares / (runs * pairs))
