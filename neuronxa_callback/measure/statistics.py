"""Chance, intervals and paired tests on verdicts, in closed form: equal verdicts, equal numbers.

The unit is the pair, never pair x layer: the layers of one pair go together. What is averaged is
therefore a number x_i per pair, its share of aligned layers, and the spread of the x_i is what an
interval is made of. Axes: ``layers``, ``pairs``. NaN in gives NaN out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, np.dtype[Any]]
LEVEL = 0.95
UNKNOWN = (math.nan, math.nan)


def chance(n: int) -> float:
    """Score of n pairs with exchangeable similarities: 1 / (2 n - 1)."""
    return 1 / (2 * n - 1)


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share among n (also an effective, broken n), within [0, 1].

    Unlike Wald's it holds near 0 and 1 (E. B. Wilson, 1927, J. Am. Stat. Assoc. 22).
    """
    square = quantile**2 / n
    middle = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@cache
def layer_intervals(n: int) -> tuple[tuple[float, float], ...]:
    """Entry k is the interval of a single layer in which k of n pairs are aligned."""
    normal = float(stats.norm.ppf((1 + LEVEL) / 2))
    return tuple(wilson(k / n, n, normal) for k in range(n + 1))


def shares(hits: Array) -> Array:
    """x_i of every pair: the share of layers [layers, pairs] in which it is aligned."""
    found: Array = hits.mean(axis=0)
    return found


def mean_interval(hits: Array) -> tuple[float, float]:
    """The interval of a mean over layers; ``hits`` [layers, pairs] of 0 and 1."""
    return interval([shares(hits)], shared=True)


def macro_interval(hits: Mapping[str, Array], shared: bool) -> tuple[float, float]:
    """The interval of a mean over languages of means over layers.

    Args:
        hits: language -> [layers, pairs].
        shared: Whether pair i has the same pivot sentence in all languages. Then the unit is the
            pair index jointly over languages; else languages are independent of each other.
    """
    return interval([shares(each) for each in hits.values()], shared)


def interval(by_language: Sequence[Array], shared: bool) -> tuple[float, float]:
    """Wilson's interval with the n that explains the spread of the x_i.

    A mean m of numbers in [0, 1] with variance v behaves like a share among m (1 - m) / v trials.
    """
    means = [float(each.mean()) for each in by_language]
    mean = sum(means) / len(means)
    if math.isnan(mean):
        return UNKNOWN
    pairs = len(by_language[0])
    variance = _variance_of_mean(by_language, shared)
    trials = mean * (1 - mean) / variance if variance > 0 else float(pairs)
    return wilson(mean, max(trials, pairs), _quantile(pairs))


@dataclass(frozen=True)
class Change:
    """The difference of two scores on the same pairs, after minus before."""

    difference: float
    low: float
    high: float
    p: float
    """Two-sided, of no change."""

    @property
    def significant(self) -> bool:
        """Whether the 95 % interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_change(before: Sequence[Array], after: Sequence[Array], shared: bool) -> Change:
    """Change of a mean over languages, from the x_i of the same pairs at two times.

    Args:
        before: Per language the x_i [pairs].
        after: The same, later.
        shared: As in ``macro_interval``.
    """
    gains = [late - early for early, late in zip(before, after, strict=True)]
    mean = float(np.mean([each.mean() for each in gains]))
    if math.isnan(mean):
        return Change(math.nan, math.nan, math.nan, math.nan)
    error = math.sqrt(_variance_of_mean(gains, shared))
    freedom = len(gains[0]) - 1
    if error == 0:
        return Change(mean, mean, mean, float(mean == 0))
    half = _quantile(len(gains[0])) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Change(mean, mean - half, mean + half, p)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: as many looks as there are numbers, at one common level."""
    order = sorted(range(len(p)), key=lambda k: (math.isnan(p[k]), p[k]))
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, k in enumerate(order):
        if not math.isnan(p[k]):
            highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
            adjusted[k] = highest
    return adjusted


def _variance_of_mean(by_language: Sequence[Array], shared: bool) -> float:
    pairs = len(by_language[0])
    if shared:
        return float(np.mean(np.stack(list(by_language)), axis=0).var(ddof=1)) / pairs
    return sum(float(each.var(ddof=1)) / len(each) for each in by_language) / len(by_language) ** 2


@cache
def _quantile(pairs: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, pairs - 1))
