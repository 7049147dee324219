"""What spelling alone, or length alone, would score: the same verdict without any model.

A pair is a hit when it is strictly more similar than every other pair of its row and of its
column (weak alignment, MEXA, arXiv:2410.05873); a tie is no evidence. Whole numbers throughout,
so that ties are exact. Standard library only.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

GRAM = 3


def grams(text: str) -> Counter[str]:
    """Counts of the character 3-grams of a sentence, case folded, a space at either end."""
    padded = f" {' '.join(text.casefold().split())} "
    return Counter(padded[k : k + GRAM] for k in range(len(padded) - GRAM + 1))


def surface_hits(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Which pairs the cosine of their character 3-gram counts aligns, weakly.

    Names, digits and loan words do this in related scripts; a model's first layers may do no more.
    """
    pivots = [grams(pivot) for pivot, _ in pairs]
    targets = [grams(target) for _, target in pairs]
    weights = [sum(count * count for count in each.values()) for each in targets]
    holders: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for j, target in enumerate(targets):
        for gram, count in target.items():
            holders[gram].append((j, count))
    rows = [_dots(pivot, holders) for pivot in pivots]
    squares = [sum(count * count for count in each.values()) for each in pivots]
    best = _columns(rows, squares)
    return [_leads(row, weights, i) and best[i] == (i, True) for i, row in enumerate(rows)]


def length_hits(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Which pairs their numbers of characters align, weakly, both sides scaled to one mean."""
    first = [len(pivot) for pivot, _ in pairs]
    second = [len(target) for _, target in pairs]
    # Crosswise products scale both sides alike and stay whole numbers.
    pivots = [length * sum(second) for length in first]
    targets = [length * sum(first) for length in second]
    ordered = sorted(pivots), sorted(targets)
    return [
        _alone(pivots[i], abs(pivots[i] - targets[i]), ordered[1])
        and _alone(targets[i], abs(pivots[i] - targets[i]), ordered[0])
        for i in range(len(pairs))
    ]


def _dots(pivot: Mapping[str, int], holders: Mapping[str, list[tuple[int, int]]]) -> dict[int, int]:
    """Dot products of a pivot sentence with the targets that share a 3-gram with it."""
    found: defaultdict[int, int] = defaultdict(int)
    for gram, count in pivot.items():
        for j, other in holders.get(gram, ()):
            found[j] += count * other
    return dict(found)


def _leads(row: Mapping[int, int], weights: Sequence[int], i: int) -> bool:
    """Whether target i is the one most similar to its pivot: squared cosines, crosswise."""
    own = row.get(i, 0) ** 2
    return own > 0 and all(
        own * weights[j] > dot**2 * weights[i] for j, dot in row.items() if j != i
    )


def _columns(
    rows: Sequence[Mapping[int, int]], squares: Sequence[int]
) -> dict[int, tuple[int, bool]]:
    """Per target the first pivot most similar to it, and whether it is the only one."""
    best: dict[int, tuple[int, bool]] = defaultdict(lambda: (-1, False))
    for i, row in enumerate(rows):
        for j, dot in row.items():
            leader, _ = best[j]
            lead = 1 if leader < 0 else dot**2 * squares[leader] - rows[leader][j] ** 2 * squares[i]
            if lead > 0:
                best[j] = (i, True)
            elif lead == 0:
                best[j] = (leader, False)
    return best


def _alone(point: int, radius: int, others: Sequence[int]) -> bool:
    """Whether just one of the others is as near to the point as its own partner is."""
    return bisect_right(others, point + radius) - bisect_left(others, point - radius) == 1
