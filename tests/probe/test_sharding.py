"""Who runs what: nothing lost, in step, balanced, and never without the pivot that it needs."""

import random

import pytest

from neuronxa_callback.probe.batching import PivotGroup, Sentence, Side, microbatches
from neuronxa_callback.probe.sharding import shard_microbatches


def sentence(length):
    return Sentence(tuple(range(1, length + 1)), (False,) * length)


def groups_of(languages, n=100, seed=0, fertility=True, shared=True):
    draw = random.Random(seed)
    base = [max(4, round(draw.lognormvariate(3.0, 0.35))) for _ in range(n)]
    sides = []
    for k in range(languages):
        factor = draw.uniform(0.9, 2.2) if fertility else 1
        scale = [max(3, round(x * factor)) for x in base]
        sides.append(Side(f"l{k}", tuple(map(sentence, scale))))
    pivot = Side("p", tuple(map(sentence, base)))
    rows = tuple(range(n))
    if shared:
        return (PivotGroup(pivot, tuple(sides), (rows,) * languages),)
    return tuple(PivotGroup(pivot, (side,), (rows,)) for side in sides)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_no_microbatch_is_lost_and_ranks_stay_in_step(ranks, shared):
    groups = groups_of(9, n=20, shared=shared)
    work = microbatches(groups, 256)
    stages = shard_microbatches(work, groups, ranks)
    ran = [m for stage in stages for one_round in stage.rounds for m in one_round if m is not None]
    assert sorted(ran, key=repr) == sorted(work, key=repr)
    assert all(len(one_round) == ranks for stage in stages for one_round in stage.rounds)
    seen = set()
    for stage in stages:
        for one_round in stage.rounds:
            for m in one_round:
                assert m is None or (m.window is None) == stage.pivots
                if m is not None and m.window is not None:
                    assert m.group in seen
        if stage.pivots:
            seen.update(stage.groups)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("languages", "shared"), [(9, True), (1, True), (9, False), (30, False)])
def test_whoever_compares_has_the_pivot(languages, shared, ranks):
    groups = groups_of(languages, n=20, shared=shared)
    stages = shard_microbatches(microbatches(groups, 256), groups, ranks)
    for first, second in zip(stages[::2], stages[1::2], strict=True):
        assert (first.pivots, second.pivots) == (True, False)
        assert first.groups == second.groups
        assert first.comparers == second.comparers
        for stage in (first, second):
            ran = {
                (m.group, rank)
                for one_round in stage.rounds
                for rank, m in enumerate(one_round)
                if m is not None
            }
            assert ran <= {(g, rank) for g in stage.groups for rank in stage.ranks_of(g)}
        assert ran <= {
            (g, r) for g, at in zip(first.groups, first.comparers, strict=True) for r in at
        }


def test_most_pivots_of_one_language_never_travel():
    groups = groups_of(60, n=20, shared=False)
    stages = [
        stage for stage in shard_microbatches(microbatches(groups, 256), groups, 4) if stage.pivots
    ]
    alone = sum(len(stage.ranks_of(g)) == 1 for stage in stages for g in stage.groups)
    assert alone >= 60 - 2 * 4
    assert all(len(stage.groups) == 4 for stage in stages[:-1])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("languages", [8, 20, 60, 65, 200])
@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16, 32, 64])
def test_the_busiest_rank_has_little_more_than_the_mean(ranks, languages, shared):
    groups = groups_of(languages, seed=languages, shared=shared)
    work = microbatches(groups, 4096)
    load, stages = [0] * ranks, shard_microbatches(work, groups, ranks)
    for stage in stages:
        holding = [rank for g in stage.groups for rank in stage.ranks_of(g)]
        assert max(map(holding.count, holding)) <= 4
        for one_round in stage.rounds:
            for rank, m in enumerate(one_round):
                load[rank] += 0 if m is None else m.tokens
    if len(work) >= 4 * ranks:
        assert max(load) <= 1.15 * sum(load) / ranks
