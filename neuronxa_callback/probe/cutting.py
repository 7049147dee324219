"""Where a sequence of sentences is cut into microbatches, as plain numbers."""

import heapq
from collections.abc import Sequence

import numpy as np

FORWARD_COST = 208
"""Fixed cost of a microbatch in tokens: it weighs padding against the number of forwards."""


def cut(lengths: Sequence[int], batch_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Rows of each microbatch: sorted by length, at most ``batch_tokens`` with padding.

    Of all cuts the one with the least cost, by dynamic programming; a microbatch costs its padded
    tokens plus ``FORWARD_COST``. A sentence longer than ``batch_tokens`` runs alone.

    >>> cut([3, 500, 4, 501], batch_tokens=4096)
    ((0, 2), (1, 3))
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    cost = np.zeros(len(order) + 1, dtype=np.int64)
    starts = [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        first = max(0, end - max(1, batch_tokens // longest))
        costs = cost[first:end] + longest * np.arange(end - first, 0, -1)
        starts.append(first + int(costs.argmin()))
        cost[end] = costs.min() + FORWARD_COST
    cuts, end = [], len(order)
    while end > 0:
        cuts.append(tuple(order[starts[end] : end]))
        end = starts[end]
    return tuple(reversed(cuts))


def imbalance(tokens: Sequence[int], ranks: int) -> float:
    """Load of the busiest rank over the mean, if the longest run first, on the least-loaded.

    >>> imbalance([5, 4, 3, 3, 3], ranks=2)
    1.1111111111111112
    """
    loads = [0] * ranks
    for most in sorted(tokens, reverse=True):
        heapq.heapreplace(loads, loads[0] + most)
    return max(loads) * ranks / sum(loads)
