"""Chance level, intervals and paired tests, in closed form (no random numbers).

The unit is the sentence pair, not pair x layer, since the layers of a pair are correlated. An
interval holds the *expected score of n pairs of the same source*. Its centre is the score itself,
its variance is that of ``metrics.variance``, which sees hubs. ``benchmarks/intervals.py`` measures
how often the intervals hold.

Axes: ``layers``, ``pairs``, ``languages``. NaN in gives NaN out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from neuronxa_callback.metrics.variance import (
    Array,
    PairSums,
    Spread,
    add_spreads,
    combine,
    mean_spread,
    spread,
)

LEVEL = 0.95
MARGIN = 0.005
"""Changes within this margin are not called significant in a run that looks again and again."""
DECIDING_SHARE = 0.2
"""From this share of the pairs on that one pair alone blocks, an interval says next to nothing."""
LEAST_TRIALS = 4.0
"""Fewer effective trials make an interval say next to nothing."""


def chance(n: int) -> float:
    """The expected score of n pairs with exchangeable similarities: 1 / (2 n - 1).

    Example:
        >>> chance(100)
        0.005025125628140704
    """
    return 1 / (2 * n - 1)


def wilson(share: Array, n: Array, quantile: Array) -> tuple[Array, Array]:
    """Wilson's score interval of shares of n trials, within [0, 1]; n may be fractional.

    Unlike Wald's interval it holds near 0 and 1 (E. B. Wilson, 1927, J. Am. Stat. Assoc. 22).

    Example:
        >>> low, high = wilson(0.5, n=100, quantile=1.96)
        >>> round(float(low), 3), round(float(high), 3)
        (0.404, 0.596)
    """
    square = quantile**2 / n
    middle = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * np.sqrt(share * (1 - share) / n + square / (4 * n))
    # Exact at 0 and 1, where a sum would leave a rounding error such as 3e-18.
    low = np.where(np.asarray(share) <= 0, 0.0, np.maximum(0.0, middle - half))
    high = np.where(np.asarray(share) >= 1, 1.0, np.minimum(1.0, middle + half))
    return low[()], high[()]


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


def interval(sums: PairSums, shared: bool, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean score of ``sums`` [languages, pairs]: low, high.

    Args:
        sums: h, u and r per language and pair, averaged over layers.
        shared: As in ``mean_spread``.
        level: The level of the interval.
    """
    found = mean_spread(sums, shared)
    low, high = level_ends(sums.h.mean(), found, sums.h.shape[-1], level)
    return float(low), float(high)


def layer_intervals(sums: PairSums) -> Array:
    """The 95 % interval of each layer, [layers, 2], from sums [layers, pairs]."""
    return np.stack(level_ends(sums.h.mean(axis=-1), spread(sums), sums.h.shape[-1]), axis=-1)


def level_ends(mean: Array, found: Spread, pairs: int, level: float = LEVEL) -> tuple[Array, Array]:
    """Wilson's interval with the number of trials that explains the variance; Student's quantile.

    The centre is the score itself, and what it holds is the expected score of ``pairs`` pairs of
    the same source. NaN in gives NaN out.
    """
    ends = wilson(mean, trials(mean, found.variance, pairs), quantile(level, found.df))
    unknown = np.isnan(mean)
    return np.where(unknown, math.nan, ends[0]), np.where(unknown, math.nan, ends[1])


def trials(mean: Array, variance: Array, pairs: int) -> Array:
    """The effective number of trials: m (1 - m) / v.

    A score of 0 or 1 has no m (1 - m): it is taken to be as uncertain as a score of 1 / n, with at
    most n trials. Without any variance there are n trials.
    """
    room = mean * (1 - mean)
    inside = room > 0
    room = np.where(inside, room, (1 - 1 / pairs) / pairs)
    found = np.where(variance > 0, room / np.where(variance > 0, variance, 1.0), pairs)
    return np.where(inside, found, np.minimum(found, pairs))


def hub_limited(sums: PairSums, shared: bool) -> bool:
    """Whether one sentence moves a score so much that its interval says next to nothing.

    That is so if a single pair alone blocks a fifth of the pairs, averaged over layers and
    languages, or if the score is worth fewer than 4 independent trials.
    """
    if np.isnan(sums.h).any():
        return False
    pairs = sums.h.shape[-1]
    sole = np.abs(sums.u.mean(axis=0) if shared else sums.u / len(sums.u)).max()
    worth = trials(sums.h.mean(), mean_spread(sums, shared).variance, pairs)
    return bool(sole >= DECIDING_SHARE * pairs or worth < min(LEAST_TRIALS, pairs))


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
    before: PairSums,
    after: PairSums,
    shared: bool,
    level: float = LEVEL,
    null: float = 0.0,
    margin: float = 0.0,
) -> Change:
    """The change of a mean over languages, from the sums of the same pairs at two times.

    Args:
        before: h, u and r, [languages, pairs].
        after: The sums of the same pairs, later.
        shared: As in ``mean_spread``.
        level: The level of the interval.
        null: The difference under the null hypothesis.
        margin: How far from ``null`` the difference may be under the null hypothesis.
    """
    return _change(after - before, shared, level, null, margin)


def paired_trend(
    probes: Sequence[PairSums], span: int, shared: bool, level: float = LEVEL
) -> Change:
    """The change over ``span`` probes, by a least-squares line through the sums of each pair.

    The line uses all probes, at least 2, so its interval is narrower than that of the first and
    the last probe alone.
    """
    time = np.arange(len(probes)) - (len(probes) - 1) / 2
    return _change(combine(probes, time * span / (time @ time)), shared, level)


def change_of(difference: float, independent: Sequence[PairSums], shared: bool) -> Change:
    """A given difference, with the variances of independent parts [languages, pairs] added up."""
    if math.isnan(difference):
        return Change(math.nan, math.nan, math.nan, math.nan)
    spreads = [mean_spread(sums, shared) for sums in independent]
    found = add_spreads(
        np.array([each.variance for each in spreads]), np.array([each.df for each in spreads])
    )
    error = max(math.sqrt(found.variance), 1 / max(sums.verdicts for sums in independent))
    return student_change(difference, error, float(found.df))


def student_change(
    difference: float,
    error: float,
    df: float,
    level: float = LEVEL,
    null: float = 0.0,
    margin: float = 0.0,
) -> Change:
    """Student's interval and test of a difference with a standard error above 0.

    With a margin the null hypothesis is that the true difference is at most ``margin`` from
    ``null``. The p-value is that of its ends, where it is largest (J. L. Hodges and E. L. Lehmann,
    1954, J. R. Stat. Soc. B 16).

    Example:
        >>> student_change(0.02, error=0.005, df=99).p < 0.001
        True
        >>> round(student_change(0.02, error=0.005, df=99, margin=0.01).p, 3)
        0.024
    """
    half = float(quantile(level, df)) * error
    distance = abs(difference - null)
    ends = np.array([distance - margin, distance + margin]) / error
    p = float(special.stdtr(df, -ends).sum())
    return Change(difference, max(-1.0, difference - half), min(1.0, difference + half), p)


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


def union_bound(p: float, look: int, comparisons: int = 1) -> float:
    """The p-value of one of many tests in a run that looks again and again.

    Alpha is spent over the looks: look k = 1, 2, ... may use a / (k (k + 1)) of it, which adds up
    to a, split over the comparisons of that look. Valid however the looks are correlated.

    Example:
        >>> union_bound(0.001, look=4, comparisons=2)
        0.04
    """
    return min(1.0, p * look * (look + 1) * comparisons)


def quantile(level: float, df: Array | float) -> Array:
    """Student's quantile of a two-sided interval."""
    found: Array = special.stdtrit(df, (1 + level) / 2)
    return found


def _change(
    differences: PairSums, shared: bool, level: float, null: float = 0.0, margin: float = 0.0
) -> Change:
    mean = float(differences.h.mean())
    if math.isnan(mean):
        return Change(math.nan, math.nan, math.nan, math.nan)
    found = mean_spread(differences, shared)
    # If nothing was seen to move, one more pair might have: the error is at least one verdict.
    error = max(math.sqrt(found.variance), 1 / differences.verdicts)
    return student_change(mean, error, float(found.df), level, null, margin)
