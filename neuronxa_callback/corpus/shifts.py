"""Shifted lines: from some pair on, sentences fit those of 1 to 5 pairs before or behind.

Windows of pairs are compared at every offset by the correlation of their lengths and by the
numbers and names that both sides share.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

OFFSETS = (1, -1, 2, -2, 3, -3, 4, -4, 5, -5)
WINDOWS = (40, 80, 160)
"""Pairs per window; of fewer pairs, all."""
MIN_WINDOW = 15
MIN_SHIFTED = 10
"""Fewer shifted pairs are not told from chance."""
STEP = 10
"""Pairs from one window to the next."""
LEAST = 5.0
"""Standard deviations by which a shifted window must fit better."""
MAX_CORRELATION = 0.98
MAX_SHARED = 30
"""A number or name in more sentences than these does not tell pairs apart."""

Array = NDArray[Any]


class Shift(NamedTuple):
    """Where sentences fit the pivot's at another offset."""

    start: int
    end: int
    """The first pair, from 0, and the one behind the last."""
    offset: int
    """Pivot sentence i fits sentence i + offset."""
    correlation: float
    """Of the lengths in the window that fits best, at this offset."""
    before: float
    """The same without an offset."""


def find_shift(
    pivots: Sequence[str],
    texts: Sequence[str],
    pivot_marks: Sequence[set[str]],
    marks: Sequence[set[str]],
) -> Shift | None:
    """The clearest shift between two lists of sentences, or None.

    Args:
        pivots: Sentences.
        texts: Their translations, as many.
        pivot_marks: The numbers and names in each pivot sentence.
        marks: The same for each translation.
    """
    n = len(pivots)
    lengths = _log_lengths(pivots), _log_lengths(texts)
    shared = _shared(pivot_marks, marks)
    best, found = LEAST, None
    for size in sorted({min(n, size) for size in WINDOWS}):
        starts = np.unique([*range(0, n - size, STEP), n - size])
        base, base_hits = _windows(*lengths, shared[0], starts, size, 0)
        for offset in OFFSETS:
            inside = starts[(starts + offset >= 0) & (starts + offset + size <= n)]
            if size == n:
                inside = np.array([max(0, -offset)])
            width = min(size, n - abs(offset))
            if width < MIN_WINDOW or not inside.size:
                continue
            fit, hits = _windows(*lengths, shared[offset], inside, width, offset)
            rows = np.searchsorted(starts, inside, side="right") - 1
            by_length = (np.arctanh(fit) - np.arctanh(base[rows])) / math.sqrt(2 / (width - 3))
            by_marks = (hits - base_hits[rows]) / np.sqrt(hits + base_hits[rows] + 1)
            both = (by_length + by_marks) / math.sqrt(2)
            score = np.maximum(both, np.maximum(by_length, by_marks))
            k = int(np.argmax(score))
            if score[k] > best:
                best = float(score[k])
                found = Shift(0, 0, offset, float(fit[k]), float(base[rows[k]]))
    if found is None:
        return None
    located = _locate(found, *lengths, shared)
    return located if located.end - located.start >= MIN_SHIFTED else None


def _log_lengths(texts: Sequence[str]) -> Array:
    """Log lengths; the shortest and longest twentieth count as their neighbours, as outliers."""
    lengths = np.log([len(text) for text in texts])
    return np.clip(lengths, *np.quantile(lengths, (0.05, 0.95)))


def _windows(
    first: Array, second: Array, shared: Array, starts: Array, size: int, offset: int
) -> tuple[Array, Array]:
    """Correlation of lengths and number of pairs with a shared mark, per window."""
    i = np.arange(max(0, -offset), min(len(first), len(first) - offset))
    x, y = np.zeros(len(first)), np.zeros(len(first))
    x[i], y[i] = first[i], second[i + offset]

    def mean(values: Array) -> Array:
        total = np.concatenate(([0.0], np.cumsum(values)))
        return np.asarray((total[starts + size] - total[starts]) / size)

    centre = x[i].mean(), y[i].mean()
    x, y = x - centre[0], y - centre[1]
    variance = [mean(side * side) - mean(side) ** 2 for side in (x, y)]
    product = np.sqrt(np.maximum(variance[0] * variance[1], 0))
    covariance = mean(x * y) - mean(x) * mean(y)
    fit = np.where(product > 1e-9, covariance / np.maximum(product, 1e-9), 0.0)
    return np.clip(fit, -MAX_CORRELATION, MAX_CORRELATION), mean(shared * 1.0) * size


def _shared(pivot_marks: Sequence[set[str]], marks: Sequence[set[str]]) -> dict[int, Array]:
    """Offset -> which pivot sentences share a number or name with the sentence there."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for j, found in enumerate(marks):
        for mark in found:
            places[mark].append(j)
    shared = {offset: np.zeros(len(marks), dtype=bool) for offset in (0, *OFFSETS)}
    for i, found in enumerate(pivot_marks):
        for mark in found:
            near = places.get(mark, ())
            if len(near) <= MAX_SHARED:
                for j in near:
                    if j - i in shared:
                        shared[j - i][i] = True
    return shared


def _locate(shift: Shift, first: Array, second: Array, shared: dict[int, Array]) -> Shift:
    """The shift with its first and last pair: the stretch in which its offset fits best."""
    n, offset = len(first), shift.offset
    rows = np.arange(max(0, -offset), min(n, n - offset))
    ratios = second[rows + offset] - first[rows], second[rows] - first[rows]
    middle = np.median(ratios[0])
    misfit = [np.minimum(np.abs(ratio - middle), 1.0) for ratio in ratios]
    scale = max(0.05, float(np.median(misfit[0])))
    gain = (misfit[1] - misfit[0]) / scale
    gain += 4.0 * (shared[offset][rows].astype(float) - shared[0][rows])
    start = begin = end = 0
    best = total = 0.0
    for k, value in enumerate(gain):
        if total <= 0:
            start, total = k, 0.0
        total += float(value)
        if total > best:
            best, begin, end = total, start, k + 1
    return shift._replace(start=int(rows[begin]), end=int(rows[end - 1]) + 1 if end else n)
