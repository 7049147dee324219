"""Which rank runs which microbatch: whole microbatches, in rounds, balanced by tokens.

The composition of a microbatch is fixed before (``batching``), so who runs it changes no score. A
pivot runs before the languages that are compared with it; its vectors are sent where needed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from neuronxa_callback.probe.batching import Microbatch, PivotGroup

MAX_IMBALANCE = 1.05
"""Load of the busiest rank over the mean above which microbatches are moved once more."""

MAX_PIVOTS = 4
"""Number of pivots that a rank may hold at once, if each language has its own."""

RankLists = list[list[Microbatch]]
"""The microbatches of each rank in one stage."""


@dataclass(frozen=True)
class Stage:
    """Rounds of forwards between two exchanges, either of pivots or of targets."""

    groups: tuple[int, ...]
    pivots: bool
    """Whether this stage runs the pivots of ``groups`` (and shares them afterwards)."""
    rounds: tuple[tuple[Microbatch | None, ...], ...]
    """``rounds[r][rank]`` is a microbatch, or None for a dummy."""
    comparers: tuple[tuple[int, ...], ...]
    """Per group, the ranks that compare languages with its pivot."""

    def ranks_of(self, group: int) -> tuple[int, ...]:
        """The ranks that run a part of a group in this stage, or need its pivot later."""
        ranks = dict.fromkeys(self.comparers[self.groups.index(group)])
        for one_round in self.rounds:
            running = (r for r, m in enumerate(one_round) if m is not None and m.group == group)
            ranks |= dict.fromkeys(running)
        return tuple(sorted(ranks))

    def complete_windows(self) -> list[list[tuple[int, int]]]:
        """Per round the (group, window) whose last microbatch runs in it, equal on all ranks."""
        last: dict[tuple[int, int], int] = {}
        for r, one_round in enumerate(self.rounds):
            for m in one_round:
                if m is not None and m.window is not None:
                    last[m.group, m.window] = r
        return [[key for key in sorted(last) if last[key] == r] for r in range(len(self.rounds))]


def shard_microbatches(
    work: Sequence[Microbatch], groups: Sequence[PivotGroup], ranks: int
) -> tuple[Stage, ...]:
    """Who runs what: balanced by tokens, equally many forwards on every rank.

    The pivot of a group of several languages is spread over all ranks and shared before its
    targets run. A group of one language goes to one rank as a whole, so that its vectors need not
    be sent; the last groups, fewer than two per rank, are spread over ranks to balance the load.
    """
    load = [0] * ranks
    stages: list[Stage] = []
    spread = [
        g for g, group in enumerate(groups) if len(group.targets) > 1 or 1 in (ranks, len(groups))
    ]
    for g in spread:
        pivots, targets = _split_pivots([m for m in work if m.group == g])
        first, second = _balance(pivots, load), _balance(targets, load)
        stages += _stages((g,), first, second, (tuple(range(ranks)),))
    single = [g for g in range(len(groups)) if g not in spread]
    size = {g: sum(m.tokens for m in work if m.group == g) for g in single}
    remaining = sorted(single, key=lambda g: (-size[g], g))
    while remaining:
        # As many groups at a time as there are ranks: each rank holds one pivot.
        whole = len(remaining) >= 2 * ranks
        wave = remaining[:ranks] if whole else remaining
        stages += _single_language_stages(work, wave, whole, load)
        remaining = remaining[len(wave) :]
    return tuple(stages)


def _single_language_stages(
    work: Sequence[Microbatch], wave: Sequence[int], whole: bool, load: list[int]
) -> list[Stage]:
    """The stages of some groups of one language: each whole on one rank, or spread over ranks."""
    groups = tuple(sorted(wave))
    pivots, targets = _split_pivots([m for m in work if m.group in groups])
    if whole:
        least_loaded = sorted(range(len(load)), key=lambda r: (load[r], r))
        rank_of = dict(zip(wave, least_loaded, strict=True))
        first, second = _assign(pivots, rank_of, load), _assign(targets, rank_of, load)
    else:
        held: list[dict[int, None]] = [{} for _ in load]
        first = _balance_near_pivots(pivots, load, held)
        second = _rebalance(_balance_near_pivots(targets, load, held), load, held)
    comparers = tuple(
        tuple(r for r, own in enumerate(second) if any(m.group == g for m in own)) for g in groups
    )
    return _stages(groups, first, second, comparers)


def _split_pivots(work: Sequence[Microbatch]) -> tuple[list[Microbatch], list[Microbatch]]:
    """Microbatches of pivots, and of targets."""
    return [m for m in work if m.window is None], [m for m in work if m.window is not None]


def _stages(
    groups: tuple[int, ...],
    pivots: RankLists,
    targets: RankLists,
    comparers: tuple[tuple[int, ...], ...],
) -> list[Stage]:
    return [
        Stage(groups, True, _rounds(pivots), comparers),
        Stage(groups, False, _rounds(targets), comparers),
    ]


def _balance(work: Sequence[Microbatch], load: list[int]) -> RankLists:
    """Longest first to the least-loaded rank."""
    queue = [(tokens, rank) for rank, tokens in enumerate(load)]
    heapq.heapify(queue)
    lists: RankLists = [[] for _ in load]
    for m in _longest_first(work):
        tokens, rank = heapq.heappop(queue)
        lists[rank].append(m)
        load[rank] = tokens + m.tokens
        heapq.heappush(queue, (load[rank], rank))
    return lists


def _assign(work: Sequence[Microbatch], rank_of: dict[int, int], load: list[int]) -> RankLists:
    """Each group to its rank."""
    lists: RankLists = [[] for _ in load]
    for m in work:
        lists[rank_of[m.group]].append(m)
        load[rank_of[m.group]] += m.tokens
    return lists


def _balance_near_pivots(
    work: Sequence[Microbatch], load: list[int], held: list[dict[int, None]]
) -> RankLists:
    """Longest first to the least-loaded rank, preferring ranks that hold the group's pivot."""
    lists: RankLists = [[] for _ in load]
    for m in _longest_first(work):
        able = [r for r in range(len(load)) if _may_run(held[r], m)] or range(len(load))
        rank = min(able, key=lambda r: (load[r] + m.tokens * (m.group not in held[r]), r))
        lists[rank].append(m)
        load[rank] += m.tokens
        held[rank][m.group] = None
    return lists


def _may_run(pivots: dict[int, None], m: Microbatch) -> bool:
    """Whether a rank that holds these pivots may run ``m``."""
    return m.group in pivots or len(pivots) < MAX_PIVOTS


def _rebalance(lists: RankLists, load: list[int], held: list[dict[int, None]]) -> RankLists:
    """Moves microbatches off the busiest rank, or swaps them for shorter ones, while it helps."""
    for _ in range(8 * len(load)):
        busiest = load.index(max(load))
        if load[busiest] * len(load) <= MAX_IMBALANCE * sum(load):
            break
        swap = _best_swap(lists, load, held, busiest)
        if swap is None:
            break
        given, other, taken = swap
        moved = given.tokens - (0 if taken is None else taken.tokens)
        lists[busiest].remove(given)
        lists[other].append(given)
        held[other][given.group] = None
        if taken is not None:
            lists[other].remove(taken)
            lists[busiest].append(taken)
            held[busiest][taken.group] = None
        load[busiest] -= moved
        load[other] += moved
    return lists


def _best_swap(
    lists: RankLists, load: Sequence[int], held: list[dict[int, None]], busiest: int
) -> tuple[Microbatch, int, Microbatch | None] | None:
    """(given, other rank, taken) after which the busier of the two has least; None if none helps.

    Both ranks must be able to hold the pivots that the swap needs.
    """
    best, least = None, load[busiest]
    for given in lists[busiest]:
        for other, theirs in enumerate(lists):
            if other == busiest or not _may_run(held[other], given):
                continue
            for taken in (None, *(m for m in theirs if _may_run(held[busiest], m))):
                moved = given.tokens - (0 if taken is None else taken.tokens)
                busier = max(load[busiest] - moved, load[other] + moved)
                if busier < least:
                    best, least = (given, other, taken), busier
    return best


def _longest_first(work: Sequence[Microbatch]) -> list[Microbatch]:
    return sorted(work, key=lambda m: (-m.tokens, *_order(m)))


def _order(m: Microbatch) -> tuple[int, int, tuple[int, ...]]:
    return m.group, -1 if m.window is None else m.window, m.rows


def _rounds(lists: RankLists) -> tuple[tuple[Microbatch | None, ...], ...]:
    """Each rank's microbatches in the order of the windows, so that each is complete soon."""
    ordered = [sorted(own, key=_order) for own in lists]
    most = max(map(len, ordered), default=0)
    return tuple(tuple(own[r] if r < len(own) else None for own in ordered) for r in range(most))
