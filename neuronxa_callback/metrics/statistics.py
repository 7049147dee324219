"""Chance, intervals and paired tests on verdicts, in closed form: equal verdicts, equal numbers.

The unit is the pair, never pair x layer: the layers of one pair go together. What is averaged is
therefore a number x_i per pair, its share of aligned layers, and the spread of the x_i is what an
interval is made of. ``benchmarks/intervals.py`` measures how often the intervals hold.

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
    """Entry k is the 95 % interval of a single layer in which k of n pairs are aligned."""
    normal = float(special.ndtri((1 + LEVEL) / 2))
    return tuple(wilson(k / n, n, normal) for k in range(n + 1))


def unpack(masks: Sequence[int | None], n: int) -> Array:
    """Verdicts [layers, pairs] of 0 and 1 from bit masks as in a report; None gives a row of NaN.

    Raises:
        ValueError: If a mask speaks of more than n pairs.
    """
    if any(mask is not None and mask >> n for mask in masks):
        raise ValueError(f"a mask of verdicts must have at most {n} bits, one per pair, got more")
    raw = b"".join((mask or 0).to_bytes(-(-n // 8), "little") for mask in masks)
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(len(masks), -1)
    hits = np.unpackbits(rows, axis=1, count=n, bitorder="little").astype(float)
    hits[[mask is None for mask in masks]] = math.nan
    return hits


def shares(hits: Array) -> Array:
    """x_i of every pair: the share of layers [layers, pairs] in which it is aligned."""
    found: Array = hits.mean(axis=0)
    return found


def mean_interval(hits: Array) -> tuple[float, float]:
    """The 95 % interval of a mean over layers; ``hits`` [layers, pairs] of 0 and 1."""
    return interval([shares(hits)], shared=True)


def macro_interval(hits: Mapping[str, Array], shared: bool) -> tuple[float, float]:
    """The 95 % interval of a mean over languages of means over layers.

    Args:
        hits: language -> [layers, pairs].
        shared: Whether pair i has the same pivot sentence in all languages. Then the unit is the
            pair index jointly over languages; else languages are independent of each other.
    """
    return interval([shares(each) for each in hits.values()], shared)


def interval(x: Array | Sequence[Array], shared: bool, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of the mean of x [languages, pairs], with the n that explains its spread.

    A mean m of numbers in [0, 1] whose variance is v behaves like a share among m (1 - m) / v
    trials. That is never fewer than there are pairs, and with Student's quantile for their
    number it holds for few pairs too. Where all x_i are equal, the trials are the pairs.
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
    """The difference of two scores on the same pairs, after minus before."""

    difference: float
    low: float
    high: float
    p: float
    """Two-sided, of no change; Holm's where many changes are looked at together."""

    @property
    def significant(self) -> bool:
        """Whether chance alone would do this less than once in twenty times; False for NaN."""
        return self.p < 1 - LEVEL


def paired_change(
    before: Array | Sequence[Array],
    after: Array | Sequence[Array],
    shared: bool,
    level: float = LEVEL,
    null: float = 0.0,
) -> Change:
    """Change of a mean over languages, from the x_i of the same pairs at two times.

    Args:
        before: The x_i [languages, pairs].
        after: The same, later.
        shared: As in ``macro_interval``.
        level: Of the interval.
        null: The difference that p is the probability of, or of one farther from it.
    """
    return _change(np.asarray(after) - np.asarray(before), shared, level, null)


def paired_trend(
    x: Array | Sequence[Array], span: int, shared: bool, level: float = LEVEL
) -> Change:
    """Change over ``span`` probes, by a line of least squares through each pair's x_i.

    All probes [probes, languages, pairs] speak for the line, so its change is known better than
    that of the first and the last one alone. At least 2 probes.
    """
    x = np.asarray(x)
    time = np.arange(len(x)) - (len(x) - 1) / 2
    return _change(np.tensordot(time * span / (time @ time), x, axes=1), shared, level, 0.0)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, for many looks at one common level (S. Holm, 1979).

    Below 0.05 stand those that hold with at most 5 % for even one false alarm among all of them.
    NaN stays NaN and counts as a look.
    """
    order = sorted(range(len(p)), key=lambda k: (math.isnan(p[k]), p[k]))
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, k in enumerate(order):
        if not math.isnan(p[k]):
            highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
            adjusted[k] = highest
    return adjusted


def _change(gains: Array, shared: bool, level: float, null: float) -> Change:
    """Student's interval and test of the mean of gains [languages, pairs]."""
    mean, pairs = float(gains.mean()), gains.shape[1]
    if math.isnan(mean):
        return Change(math.nan, math.nan, math.nan, math.nan)
    error = math.sqrt(_variance_of_mean(gains, shared))
    if error == 0 and mean == 0:
        return Change(0.0, 0.0, 0.0, float(null == 0))
    # Equal gains do not make a change certain: one pair more might not have gained at all.
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
    # Equal x_i have a variance of rounding errors, as if the score were known without doubt.
    return variance / pairs if variance > ROUNDING else 0.0


@cache
def _quantile(level: float, pairs: int) -> float:
    return float(special.stdtrit(pairs - 1, (1 + level) / 2))
