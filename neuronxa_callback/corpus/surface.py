"""Baselines without a model: the alignment that spelling alone, or length alone, would give.

A pair is a hit if it is strictly more similar than every other pair of its row and of its column
(weak alignment, MEXA, arXiv:2410.05873); a tie is not a hit. Similarities are compared as
integers, so that ties are exact. Standard library only.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

GRAM = 3


def grams(text: str) -> Counter[str]:
    """Counts of the character 3-grams of a sentence, case-folded, with a space at both ends."""
    padded = f" {' '.join(text.casefold().split())} "
    return Counter(padded[k : k + GRAM] for k in range(len(padded) - GRAM + 1))


def surface_hits(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Which pairs are weakly aligned by the cosine of their character 3-gram counts.

    >>> surface_hits([("Berlin is big", "Berlin ist groß"), ("It rains", "es regnet")])
    [True, False]

    Shared names, digits and loan words cause such hits.
    """
    pivots = [grams(pivot) for pivot, _ in pairs]
    targets = [grams(target) for _, target in pairs]
    target_norms = [sum(count * count for count in counts.values()) for counts in targets]
    holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for j, target in enumerate(targets):
        for gram, count in target.items():
            holders[gram].append((j, count))
    rows = [_dots(pivot, holders) for pivot in pivots]
    pivot_norms = [sum(count * count for count in counts.values()) for counts in pivots]
    best = _best_pivots(rows, pivot_norms)
    return [_is_best(row, target_norms, i) and best[i] == (i, True) for i, row in enumerate(rows)]


def length_hits(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Which pairs are weakly aligned by their lengths in characters, scaled to an equal mean."""
    first = [len(pivot) for pivot, _ in pairs]
    second = [len(target) for _, target in pairs]
    # Multiplying by the other side's total scales both to one mean and keeps integers.
    pivots = [length * sum(second) for length in first]
    targets = [length * sum(first) for length in second]
    ordered = sorted(pivots), sorted(targets)
    return [
        _is_nearest(pivots[i], abs(pivots[i] - targets[i]), ordered[1])
        and _is_nearest(targets[i], abs(pivots[i] - targets[i]), ordered[0])
        for i in range(len(pairs))
    ]


def _dots(pivot: Mapping[str, int], holders: Mapping[str, list[tuple[int, int]]]) -> dict[int, int]:
    """Dot products of a pivot sentence with the targets that share a 3-gram with it."""
    dots: defaultdict[int, int] = defaultdict(int)
    for gram, count in pivot.items():
        for j, other in holders.get(gram, ()):
            dots[j] += count * other
    return dict(dots)


def _is_best(row: Mapping[int, int], norms: Sequence[int], i: int) -> bool:
    """Whether target i is most similar to its pivot, by squared cosines without division."""
    own = row.get(i, 0) ** 2
    return own > 0 and all(own * norms[j] > dot**2 * norms[i] for j, dot in row.items() if j != i)


def _best_pivots(
    rows: Sequence[Mapping[int, int]], norms: Sequence[int]
) -> dict[int, tuple[int, bool]]:
    """Per target the first of its most similar pivots, and whether it is the only one."""
    best: dict[int, tuple[int, bool]] = defaultdict(lambda: (-1, False))
    for i, row in enumerate(rows):
        for j, dot in row.items():
            leader, _ = best[j]
            lead = 1 if leader < 0 else dot**2 * norms[leader] - rows[leader][j] ** 2 * norms[i]
            if lead > 0:
                best[j] = (i, True)
            elif lead == 0:
                best[j] = (leader, False)
    return best


def _is_nearest(point: int, radius: int, others: Sequence[int]) -> bool:
    """Whether only one of the sorted others is within the radius of the point."""
    return bisect_right(others, point + radius) - bisect_left(others, point - radius) == 1
