"""The variance of a score, from counts per pair that are computed once from the similarities.

The score is U = mean h_i, where h_i = 1 if no other pair blocks pair i (``metrics.blocking``). The
h_i are not independent: one sentence that is near to everything (a *hub*) blocks many pairs, and
whether it is in the sample moves all of them. The delete-one jackknife sees that, in closed form.
Without pair j the score U(-j) is

    (n - 1) U(-j) = n U - h_j + u_j,    u_j = number of pairs that j alone blocks,

so the jackknife's pseudo-values are p_j = n U - (n - 1) U(-j) = h_j - u_j, and the jackknife
variance is VJ = var(p) / n. It counts second-order terms twice (Efron and Stein, 1981). They are
estimated from the second differences

    D_jk = n U - (n-1) U(-j) - (n-1) U(-k) + (n-2) U(-j,-k) = w_jk - s_jk - s_kj

(w_jk: pairs that exactly j and k block; s_jk: 1 if j alone blocks k). With fixed signs e_k,

    r_j = sum_k e_k D_jk,    Q = var(r) / (2 n),    v = VJ - Q / 2,

kept between min(var(h) / n, VJ) and VJ. The subtraction fades out as max u_j grows from none to a
tenth of the pairs: then a few pairs make r, so that Q is as uncertain as v itself, and VJ, which is
not too small on average, is used. All of h, u and r are whole numbers and linear: a mean over
layers, a mean over languages with the same pivot sentences, and a difference of two checkpoints
have the same means and differences of h, u and r. ``benchmarks/intervals.py`` measures coverage.

Axes: ``pairs`` last; before it ``languages`` or ``layers``. NaN in gives NaN out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LEAST_DF = 4.0
"""The fewest degrees of freedom."""
HUB_SHARE = 0.1
"""The share of the pairs from which on a sentence that blocks them is a hub."""
ROUNDING = 1e-20
"""A smaller variance is a rounding error of equal numbers."""


@cache
def signs(pairs: int) -> Array:
    """Thue-Morse signs [pairs]: +1 and -1, balanced in every stretch and without a period.

    Example:
        >>> signs(8).tolist()
        [1, -1, -1, 1, -1, 1, 1, -1]
    """
    found = np.array([1 - 2 * (k.bit_count() & 1) for k in range(pairs)], dtype=np.int64)
    found.setflags(write=False)
    return found


@dataclass(frozen=True)
class PairSums:
    """h, u and r of every pair, averaged over layers, or differences of them; [..., pairs]."""

    h: Array
    """The share of layers in which the pair is aligned, in [0, 1]."""
    u: Array
    """The number of pairs that this one alone blocks, mean over layers."""
    r: Array
    """The signed second differences, mean over layers."""
    layers: int = 1
    """The number of layers that were averaged."""

    @classmethod
    def of_hits(cls, hits: Array) -> Self:
        """Pairs of which nothing but h [..., pairs] is known, as if they were independent."""
        return cls(hits, np.zeros_like(hits), np.zeros_like(hits))

    @property
    def verdicts(self) -> int:
        """The number of single verdicts of which the score is the mean."""
        return self.h.size * self.layers

    def __sub__(self, other: "PairSums") -> "PairSums":
        return PairSums(self.h - other.h, self.u - other.u, self.r - other.r, self.layers)


def combine(parts: Sequence[PairSums], weights: Sequence[float] | Array) -> PairSums:
    """The weighted sum of some PairSums of the same pairs, such as a difference or a trend."""
    h, u, r = (
        np.tensordot(weights, np.stack([getattr(part, name) for part in parts]), axes=1)
        for name in ("h", "u", "r")
    )
    return PairSums(h, u, r, parts[0].layers)


@dataclass(frozen=True)
class Spread:
    """The variance of a mean, and how well it is known."""

    variance: Array
    df: Array
    """Degrees of freedom of the variance."""


def spread(sums: PairSums) -> Spread:
    """The variance of the mean of each row [..., pairs]; see the top of this file.

    The degrees of freedom are Satterthwaite's: a variance that few pairs make (a hub) is itself
    uncertain. They are 2 n / (kurtosis of p - 1), from 4 to n - 1.
    """
    n = sums.h.shape[-1]
    p = sums.h - sums.u
    jackknife = p.var(axis=-1, ddof=1) / n
    plain = np.minimum(sums.h.var(axis=-1, ddof=1) / n, jackknife)
    second = sums.r.var(axis=-1, ddof=1) / (2 * n)
    kept = np.maximum(0.0, 1 - np.abs(sums.u).max(axis=-1) / (HUB_SHARE * n))
    variance = np.clip(jackknife - kept * second / 2, plain, jackknife)
    centred = p - p.mean(axis=-1, keepdims=True)
    squares = (centred**2).mean(axis=-1)
    varies = squares > ROUNDING
    kurtosis = (centred**4).mean(axis=-1) / np.where(varies, squares, 1.0) ** 2
    df = np.clip(2 * n / np.maximum(kurtosis - 1, 1e-9), min(LEAST_DF, n - 1), n - 1)
    return Spread(np.where(variance <= ROUNDING, 0.0, variance), np.where(varies, df, float(n - 1)))


def mean_spread(sums: PairSums, shared: bool) -> Spread:
    """The variance of the mean over languages, from sums [languages, pairs].

    Args:
        sums: One row per language.
        shared: Whether pair i has the same pivot sentence in all languages. If so, pair i of all
            languages together is one unit. If not, the languages are independent: their variances
            add up, with the degrees of freedom of Welch and Satterthwaite.
    """
    if shared:
        h, u, r = (each.mean(axis=0) for each in (sums.h, sums.u, sums.r))
        return spread(PairSums(h, u, r, sums.layers))
    own = spread(sums)
    return add_spreads(own.variance / len(sums.h) ** 2, own.df)


def add_spreads(variances: Array, df: Array) -> Spread:
    """The variance of a sum of independent parts, with the df of Welch and Satterthwaite."""
    total = variances.sum()
    known = (variances**2 / df).sum()
    return Spread(total, total**2 / known if known > 0 else df.min())
