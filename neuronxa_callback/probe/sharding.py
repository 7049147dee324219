"""Which rank runs which microbatch: whole ones, in rounds, evenly by tokens.

What a microbatch holds is fixed before (``batching``); who runs it changes no score. A pivot runs
before the languages that are compared with it, and its vectors are sent where they are needed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from neuronxa_callback.probe.batching import Group, Microbatch

UNEVEN = 1.05
"""How much more than the mean the busiest rank may have before work changes hands once more."""

MOST_PIVOTS = 4
"""How many pivots a rank may hold at once, where each language has its own."""

Lists = list[list[Microbatch]]
"""What each rank runs in one stage."""


@dataclass(frozen=True)
class Stage:
    """Rounds of forwards between two exchanges: ``rounds[r][rank]`` is a microbatch or a dummy."""

    groups: tuple[int, ...]
    pivots: bool
    """Whether the pivots of ``groups`` run (and are shared afterwards where need be)."""
    rounds: tuple[tuple[Microbatch | None, ...], ...]
    homes: tuple[tuple[int, ...], ...]
    """Per group, the ranks that compare languages with its pivot."""

    def hands(self, group: int) -> tuple[int, ...]:
        """The ranks that run something of a group here, or need its pivot later."""
        found = dict.fromkeys(self.homes[self.groups.index(group)])
        for now in self.rounds:
            mine = (rank for rank, m in enumerate(now) if m is not None and m.group == group)
            found |= dict.fromkeys(mine)
        return tuple(sorted(found))


def shard_microbatches(
    work: Sequence[Microbatch], groups: Sequence[Group], ranks: int
) -> tuple[Stage, ...]:
    """Who runs what: balanced by tokens, equally many forwards on every rank.

    The pivot of a group of several languages is dealt out and shared before its targets are.
    Groups of one language go to one rank each, as a whole, so that their vectors never travel; the
    last ones, fewer than two per rank, are spread over ranks wherever that is more even.
    """
    load = [0] * ranks
    stages = []
    for g, group in enumerate(groups):
        if len(group.targets) > 1 or ranks == 1 or len(groups) == 1:
            first, second = (
                _balanced(part, load) for part in _parts([m for m in work if m.group == g])
            )
            stages += _stages((g,), first, second, (tuple(range(ranks)),))
    alone = [g for g, each in enumerate(groups) if len(each.targets) == 1]
    if ranks == 1 or len(groups) == 1:
        return tuple(stages)
    sizes = {g: sum(m.tokens for m in work if m.group == g) for g in alone}
    order = sorted(alone, key=lambda g: (-sizes[g], g))
    while order:
        # As many groups at a time as there are ranks: a rank holds one pivot, at the end a few.
        whole = len(order) >= 2 * ranks
        wave = tuple(sorted(order[:ranks] if whole else order))
        pivots, targets = _parts([m for m in work if m.group in wave])
        if whole:
            places = sorted(range(ranks), key=lambda r: (load[r], r))
            homes = dict(zip(order[:ranks], places, strict=True))
            first, second = _whole(pivots, homes, load), _whole(targets, homes, load)
        else:
            held: list[dict[int, None]] = [{} for _ in load]
            first = _near(pivots, load, held)
            second = _evened(_near(targets, load, held), load, held)
        needed = tuple(tuple(r for r in range(ranks) if _has(second[r], g)) for g in wave)
        stages += _stages(wave, first, second, needed)
        order = order[len(wave) :]
    return tuple(stages)


def _parts(work: Sequence[Microbatch]) -> tuple[list[Microbatch], list[Microbatch]]:
    """Pivots and targets."""
    return [m for m in work if m.target is None], [m for m in work if m.target is not None]


def _has(mine: Sequence[Microbatch], group: int) -> bool:
    return any(m.group == group for m in mine)


def _stages(
    groups: tuple[int, ...], first: Lists, second: Lists, homes: tuple[tuple[int, ...], ...]
) -> list[Stage]:
    pivots = Stage(groups, True, _rounds(first), homes)
    return [pivots, Stage(groups, False, _rounds(second), homes)]


def _balanced(work: Sequence[Microbatch], load: list[int]) -> Lists:
    """Longest first to whoever has least."""
    queue = [(tokens, rank) for rank, tokens in enumerate(load)]
    heapq.heapify(queue)
    lists: Lists = [[] for _ in load]
    for m in _longest_first(work):
        tokens, rank = heapq.heappop(queue)
        lists[rank].append(m)
        load[rank] = tokens + m.tokens
        heapq.heappush(queue, (load[rank], rank))
    return lists


def _whole(work: Sequence[Microbatch], homes: dict[int, int], load: list[int]) -> Lists:
    """Each group to its home."""
    lists: Lists = [[] for _ in load]
    for m in work:
        lists[homes[m.group]].append(m)
        load[homes[m.group]] += m.tokens
    return lists


def _near(work: Sequence[Microbatch], load: list[int], held: list[dict[int, None]]) -> Lists:
    """Longest first to whoever has least, or nearly so and something of its group already."""
    lists: Lists = [[] for _ in load]
    for m in _longest_first(work):
        able = [r for r in range(len(load)) if _holds(held[r], m)] or range(len(load))
        rank = min(able, key=lambda r: (load[r] + m.tokens * (m.group not in held[r]), r))
        lists[rank].append(m)
        load[rank] += m.tokens
        held[rank][m.group] = None
    return lists


def _holds(pivots: dict[int, None], m: Microbatch) -> bool:
    """Whether a rank that has these pivots may run ``m``."""
    return m.group in pivots or len(pivots) < MOST_PIVOTS


def _evened(lists: Lists, load: list[int], held: list[dict[int, None]]) -> Lists:
    """Microbatches that the busiest rank gives away, or swaps for shorter ones, while it helps."""
    for _ in range(8 * len(load)):
        busiest = load.index(max(load))
        if load[busiest] * len(load) <= UNEVEN * sum(load):
            break
        found = _best_swap(lists, load, held, busiest)
        if found is None:
            break
        mine, other, its = found
        gain = mine.tokens - (0 if its is None else its.tokens)
        lists[busiest].remove(mine)
        lists[other].append(mine)
        held[other][mine.group] = None
        if its is not None:
            lists[other].remove(its)
            lists[busiest].append(its)
            held[busiest][its.group] = None
        load[busiest] -= gain
        load[other] += gain
    return lists


def _best_swap(
    lists: Lists, load: Sequence[int], held: list[dict[int, None]], busiest: int
) -> tuple[Microbatch, int, Microbatch | None] | None:
    """The swap after which the busier of the two has least; None if none is better than now."""
    best, least = None, load[busiest]
    for mine in lists[busiest]:
        for other, theirs in enumerate(lists):
            if other == busiest or not _holds(held[other], mine):
                continue
            for its in (None, *(m for m in theirs if _holds(held[busiest], m))):
                gain = mine.tokens - (0 if its is None else its.tokens)
                busier = max(load[busiest] - gain, load[other] + gain)
                if busier < least:
                    best, least = (mine, other, its), busier
    return best


def _longest_first(work: Sequence[Microbatch]) -> list[Microbatch]:
    return sorted(work, key=lambda m: (-m.tokens, *_place(m)))


def _place(m: Microbatch) -> tuple[int, int, tuple[int, ...]]:
    return m.group, -1 if m.target is None else m.target, m.rows


def _rounds(lists: Lists) -> tuple[tuple[Microbatch | None, ...], ...]:
    """Each rank's microbatches in the order of the languages, which are complete soonest so."""
    ordered = [sorted(mine, key=_place) for mine in lists]
    most = max(map(len, ordered), default=0)
    return tuple(tuple(mine[r] if r < len(mine) else None for mine in ordered) for r in range(most))
