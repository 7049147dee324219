"""The score of some of the pairs, with all pairs as rivals, and its interval."""

import math
from dataclasses import dataclass

import numpy as np

from neuronxa_callback.metrics.statistics import level_ends
from neuronxa_callback.metrics.variance import Array, PairSums, spread
from neuronxa_callback.neuron_scalars import FEWEST_PAIRS


@dataclass(frozen=True)
class SubsetScore:
    """A score in [0, 1]; NaN with fewer than ``FEWEST_PAIRS`` pairs, or for NaN."""

    score: float
    pairs: int
    """The number of pairs that are scored."""
    low: float
    high: float
    """The 95 % interval."""


def score_subset(hits: Array, sole_blocks: Array, chosen: Array) -> SubsetScore:
    """The mean of the hits of some pairs, averaged over layers.

    The interval is that of the delete-one jackknife over all pairs: without pair j of the subset
    the score changes by (h_j - U - u_j) / m, without another pair by -u_j / m, to first order.

    Args:
        hits: [layers, pairs]: 1 for an aligned pair, NaN for layers with NaN.
        sole_blocks: [layers, pairs]: how many of the chosen pairs each pair alone blocks.
        chosen: [pairs] bool.

    Example:
        >>> hits = np.tile([1.0, 1.0, 0.0], (2, 10))
        >>> found = score_subset(hits, np.zeros_like(hits), np.arange(30) < 20)
        >>> found.score, found.pairs, round(found.low, 2), round(found.high, 2)
        (0.7, 20, 0.47, 0.86)
    """
    pairs = int(chosen.sum())
    h, u = hits.mean(axis=0), sole_blocks.mean(axis=0)
    if pairs < FEWEST_PAIRS or np.isnan(h).any():
        return SubsetScore(math.nan, pairs, math.nan, math.nan)
    score, scale = h[chosen].mean(), len(h) / pairs
    influence = PairSums(
        score + scale * np.where(chosen, h - score, 0.0), scale * u, np.zeros_like(h), len(hits)
    )
    low, high = level_ends(score, spread(influence), pairs)
    return SubsetScore(float(score), pairs, float(low), float(high))
