"""Chance level, intervals and paired tests, in closed form (no random numbers).

The unit is the sentence pair, not pair x layer, since the layers of a pair are correlated. A score
is the mean of x_i, the share of layers in which pair i is aligned, and an interval follows from the
variance of the x_i over pairs. ``benchmarks/intervals.py`` measures how often the intervals hold.

Axes: ``layers``, ``pairs``, ``languages``, ``probes``. NaN in gives NaN out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import special

Array = np.ndarray[Any, np.dtype[Any]]
LEVEL = 0.95
UNKNOWN = (math.nan, math.nan)
ROUNDING = 1e-20


def chance(n: int) -> float:
    """The expected score of n pairs with exchangeable similarities: 1 / (2 n - 1).

    Example:
        >>> chance(100)
        0.005025125628140704
    """
    return 1 / (2 * n - 1)


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share of n trials, within [0, 1]; n may be fractional.

    Unlike Wald's interval it holds near 0 and 1 (E. B. Wilson, 1927, J. Am. Stat. Assoc. 22).

    Example:
        >>> low, high = wilson(0.5, n=100, quantile=1.96)
        >>> round(low, 3), round(high, 3)
        (0.404, 0.596)
    """
    square = quantile**2 / n
    middle = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@cache
def layer_intervals(n: int) -> tuple[tuple[float, float], ...]:
    """Entry k is the 95 % interval of one layer's score if k of n pairs are aligned."""
    normal = float(special.ndtri((1 + LEVEL) / 2))
    return tuple(wilson(k / n, n, normal) for k in range(n + 1))


def unpack(masks: Sequence[int | None], n: int) -> Array:
    """Verdicts [layers, pairs] of 0 and 1 from the bit masks of a report; None gives a row of NaN.

    Raises:
        ValueError: If a mask has more than n bits.

    Example:
        >>> unpack([0b011, None], n=3).tolist()
        [[1.0, 1.0, 0.0], [nan, nan, nan]]
    """
    if any(mask is not None and mask >> n for mask in masks):
        raise ValueError(f"a mask of verdicts must have at most {n} bits, one per pair, got more")
    raw = b"".join((mask or 0).to_bytes(-(-n // 8), "little") for mask in masks)
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(len(masks), -1)
    hits = np.unpackbits(rows, axis=1, count=n, bitorder="little").astype(float)
    hits[[mask is None for mask in masks]] = math.nan
    return hits


def shares(hits: Array) -> Array:
    """x_i of every pair, [pairs]: the share of the layers of ``hits`` in which it is aligned."""
    x: Array = hits.mean(axis=0)
    return x


def mean_interval(hits: Array) -> tuple[float, float]:
    """The 95 % interval of a mean over layers; ``hits`` [layers, pairs] of 0 and 1."""
    return interval([shares(hits)], shared=True)


def macro_interval(hits: Mapping[str, Array], shared: bool) -> tuple[float, float]:
    """The 95 % interval of a mean over languages of means over layers.

    Args:
        hits: language -> [layers, pairs].
        shared: Whether pair i has the same pivot sentence in all languages. If so, the unit is
            pair i of all languages together; if not, the languages are independent.
    """
    return interval([shares(each) for each in hits.values()], shared)


def interval(x: Array | Sequence[Array], shared: bool, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of the mean of x [languages, pairs], with an effective number of trials.

    A mean m of numbers in [0, 1] with variance v behaves like a share of m (1 - m) / v trials. This
    number is at least the number of pairs, and Student's quantile makes the interval hold for few
    pairs too. If all x_i are equal, the number of trials is the number of pairs.
    """
    x = np.asarray(x)
    mean, pairs = float(x.mean()), x.shape[1]
    if math.isnan(mean):
        return UNKNOWN
    variance = _variance_of_mean(x, shared)
    trials = mean * (1 - mean) / variance if variance > 0 else 0.0
    return wilson(mean, max(trials, pairs), _quantile(level, pairs))


@dataclass(frozen=True)
class Change:
    """The difference of two scores on the same pairs, after minus before, in [-1, 1].

    ``low`` and ``high`` are the ends of its 95 % interval.
    """

    difference: float
    low: float
    high: float
    p: float
    """Two-sided p-value of the null hypothesis of no change; ``compare`` adjusts it by Holm."""

    @property
    def significant(self) -> bool:
        """Whether p < 0.05; False for NaN."""
        return self.p < 1 - LEVEL


def paired_change(
    before: Array | Sequence[Array],
    after: Array | Sequence[Array],
    shared: bool,
    level: float = LEVEL,
    null: float = 0.0,
) -> Change:
    """The change of a mean over languages, from the x_i of the same pairs at two times.

    Args:
        before: The x_i [languages, pairs].
        after: The x_i of the same pairs, later.
        shared: As in ``macro_interval``.
        level: The level of the interval.
        null: The difference under the null hypothesis.
    """
    return _change(np.asarray(after) - np.asarray(before), shared, level, null)


def paired_trend(
    x: Array | Sequence[Array], span: int, shared: bool, level: float = LEVEL
) -> Change:
    """The change over ``span`` probes, by a least-squares line through the x_i of each pair.

    The line uses all probes of x [probes, languages, pairs], at least 2, so its interval is
    narrower than that of the first and the last probe alone.
    """
    x = np.asarray(x)
    time = np.arange(len(x)) - (len(x) - 1) / 2
    return _change(np.tensordot(time * span / (time @ time), x, axes=1), shared, level, 0.0)


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for multiple tests (S. Holm, 1979).

    If all those below 0.05 are called significant, the probability of any false positive is at most
    5 %. NaN stays NaN and counts as a test.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda k: (math.isnan(p[k]), p[k]))
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, k in enumerate(order):
        if not math.isnan(p[k]):
            highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
            adjusted[k] = highest
    return adjusted


def _change(differences: Array, shared: bool, level: float, null: float) -> Change:
    """Student's interval and test of the mean of ``differences`` [languages, pairs]."""
    mean, pairs = float(differences.mean()), differences.shape[1]
    if math.isnan(mean):
        return Change(math.nan, math.nan, math.nan, math.nan)
    error = math.sqrt(_variance_of_mean(differences, shared))
    if error == 0 and mean == 0:
        return Change(0.0, 0.0, 0.0, float(null == 0))
    # Equal differences do not make a change certain: one more pair might not have changed at all.
    error = error or 1 / pairs
    half = _quantile(level, pairs) * error
    p = 2 * float(special.stdtr(pairs - 1, -abs(mean - null) / error))
    return Change(mean, max(-1.0, mean - half), min(1.0, mean + half), p)


def _variance_of_mean(x: Array, shared: bool) -> float:
    languages, pairs = x.shape
    if shared:
        variance = float(x.mean(axis=0).var(ddof=1))
    else:
        variance = float(x.var(axis=1, ddof=1).sum()) / languages**2
    # The variance of equal x_i is a rounding error, not a very small variance.
    return variance / pairs if variance > ROUNDING else 0.0


@cache
def _quantile(level: float, pairs: int) -> float:
    return float(special.stdtrit(pairs - 1, (1 + level) / 2))
