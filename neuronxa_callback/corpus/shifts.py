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
    base = _Windows(*lengths, shared[0], 0)
    for offset in OFFSETS:
        if n - abs(offset) < MIN_WINDOW:
            continue
        shifted = _Windows(*lengths, shared[offset], offset)
        for size in sorted({min(n - abs(offset), size) for size in WINDOWS}):
            begin, end = max(0, -offset), min(n, n - offset) - size
            starts = np.unique([*range(begin, end, STEP), end])
            fit, hits = shifted.compare(starts, size)
            unshifted, base_hits = base.compare(starts, size)
            by_length = (np.arctanh(fit) - np.arctanh(unshifted)) / math.sqrt(2 / (size - 3))
            by_marks = (hits - base_hits) / np.sqrt(hits + base_hits + 1)
            both = (by_length + by_marks) / math.sqrt(2)
            score = np.maximum(both, np.maximum(by_length, by_marks))
            k = int(np.argmax(score))
            if score[k] > best:
                best = float(score[k])
                found = Shift(0, 0, offset, float(fit[k]), float(unshifted[k]))
    if found is None:
        return None
    located = _locate(found, *lengths, shared)
    return located if located.end - located.start >= MIN_SHIFTED else None


def _log_lengths(texts: Sequence[str]) -> Array:
    """Log lengths; the shortest and longest twentieth count as their neighbours, as outliers."""
    lengths = np.log([len(text) for text in texts])
    low, high = np.quantile(lengths, (0.05, 0.95))
    return np.asarray(np.clip(lengths, low, high))


class _Windows:
    """Sums over windows of pairs, with the second side at an offset."""

    def __init__(self, first: Array, second: Array, shared: Array, offset: int) -> None:
        n = len(first)
        i = np.arange(max(0, -offset), min(n, n - offset))
        x, y = np.zeros(n), np.zeros(n)
        x[i] = first[i] - first[i].mean()
        y[i] = second[i + offset] - second[i + offset].mean()
        self.until = np.zeros((6, n + 1))
        np.cumsum([x, y, x * x, y * y, x * y, shared], axis=1, out=self.until[:, 1:])

    def compare(self, starts: Array, size: int) -> tuple[Array, Array]:
        """Correlation of lengths and number of pairs with a shared mark, per window."""
        sums = self.until[:, starts + size] - self.until[:, starts]
        x, y, xx, yy, xy = sums[:5] / size
        variances = np.maximum((xx - x * x) * (yy - y * y), 0)
        fit = np.where(variances > 1e-18, (xy - x * y) / np.sqrt(np.maximum(variances, 1e-18)), 0)
        return np.clip(fit, -MAX_CORRELATION, MAX_CORRELATION), sums[5]


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
