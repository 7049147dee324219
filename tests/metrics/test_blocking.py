"""Blocks, their counts and what follows from them, against the definitions as plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronxa_callback.metrics import scoring, variance
from neuronxa_callback.metrics.blocking import count_blocks
from neuronxa_callback.metrics.variance import PairSums
from neuronxa_callback.scores import Hub, rarefied_share


@st.composite
def similarities(draw, most=7):
    """Small whole numbers, so that ties are common."""
    n = draw(st.integers(3, most))
    numbers = draw(st.lists(st.integers(-2, 3), min_size=n * n, max_size=n * n))
    return [numbers[n * i : n * i + n] for i in range(n)]


def aligned(s, kept):
    """How many of the kept pairs are aligned among the kept ones, by the definition."""
    return sum(all(s[i][i] > s[i][j] and s[i][i] > s[j][i] for j in kept if j != i) for i in kept)


def counted(s):
    return count_blocks(torch.tensor([s], dtype=torch.float64))


@given(similarities())
def test_sole_blocks_are_the_pairs_that_gain_if_a_pair_is_left_out(s):
    n = len(s)
    for j, sole in enumerate(counted(s).sole_blocks[0].tolist()):
        others = [i for i in range(n) if i != j]
        itself = all(s[j][j] > s[j][k] and s[j][j] > s[k][j] for k in others)
        assert sole == aligned(s, others) - (aligned(s, range(n)) - itself)


@given(similarities())
def test_second_differences_are_those_of_scores_without_two_pairs(s):
    everyone = range(len(s))

    def without(*left):
        return aligned(s, [i for i in everyone if i not in left])

    for j, found in enumerate(counted(s).second_differences[0].tolist()):
        expected = 0
        for k in everyone:
            if k != j:
                sign = -1 if bin(k).count("1") % 2 else 1
                expected += sign * (without() - without(j) - without(k) + without(j, k))
        assert found == expected


@given(similarities())
def test_blockers_count_a_rival_in_row_and_column_once(s):
    counts = counted(s)
    for i in range(len(s)):
        others = [j for j in range(len(s)) if j != i]
        rivals = [j for j in others if s[i][j] >= s[i][i] or s[j][i] >= s[i][i]]
        assert counts.blockers[0, i] == len(rivals)
        assert counts.by_target[0, i] == sum(s[j][i] >= s[j][j] for j in others)
        assert counts.by_pivot[0, i] == sum(s[i][j] >= s[j][j] for j in others)


def test_many_layers_at_once_are_the_layers_one_by_one():
    cosines = torch.rand(5, 20, 20, generator=torch.Generator().manual_seed(0))
    together = count_blocks(cosines)
    for layer, one in enumerate(cosines):
        alone = count_blocks(one[None])
        for name in vars(together):
            assert torch.equal(getattr(together, name)[layer], getattr(alone, name)[0])


def oracle_spread(h, u, r):
    """The estimator by its formulas, one number at a time."""
    n = len(h)

    def var(x):
        mean = math.fsum(x) / n
        return math.fsum((each - mean) ** 2 for each in x) / (n - 1)

    p = [a - b for a, b in zip(h, u, strict=True)]
    jackknife = var(p) / n
    plain = min(var(h) / n, jackknife)
    kept = max(0.0, 1 - max(map(abs, u)) / (0.1 * n))
    v = min(max(jackknife - kept * var(r) / (2 * n) / 2, plain), jackknife)
    mean = math.fsum(p) / n
    second, fourth = (math.fsum((each - mean) ** k for each in p) / n for k in (2, 4))
    df = n - 1 if second == 0 else 2 * n / max(fourth / second**2 - 1, 1e-9)
    return v, min(max(df, min(4, n - 1)), n - 1)


@given(st.integers(0, 10**6), st.integers(5, 40), st.sampled_from([0.0, 1.0, 2.5]))
def test_the_variance_is_that_of_its_formulas(seed, n, hub):
    rng = np.random.default_rng(seed)
    cosines = rng.normal(size=(2, n, n)) + 2.5 * np.eye(n)
    cosines[:, :, 0] += hub
    counts = count_blocks(torch.tensor(cosines))
    parts = (counts.blockers == 0, counts.sole_blocks, counts.second_differences)
    h, u, r = (part.double().mean(dim=0).tolist() for part in parts)
    found = variance.spread(PairSums(*map(np.array, (h, u, r))))
    assert (float(found.variance), float(found.df)) == pytest.approx(oracle_spread(h, u, r))


@settings(deadline=None)
@given(similarities(), st.data())
def test_a_rarefied_score_is_the_mean_over_all_subsets(s, data):
    n = data.draw(st.integers(1, len(s)))
    subsets = list(itertools.combinations(range(len(s)), n))
    expected = sum(aligned(s, kept) for kept in subsets) / (len(subsets) * n)
    histogram = np.bincount(counted(s).blockers[0]).tolist()
    assert rarefied_share(histogram, len(s), n) == pytest.approx(expected, abs=1e-12)


def test_a_rarefied_score_is_the_mean_over_random_subsets_with_ties():
    rng = np.random.default_rng(0)
    cosines = np.round(rng.normal(size=(120, 120)) + 2.8 * np.eye(120), 1)
    counts = np.bincount(count_blocks(torch.tensor(cosines[None])).blockers[0])
    own = np.diagonal(cosines)[:, None]
    blocks = ((cosines >= own) | (own <= cosines.T)) & ~np.eye(120, dtype=bool)
    scores = []
    for _ in range(2000):
        kept = rng.choice(120, 40, replace=False)
        scores.append(1 - blocks[np.ix_(kept, kept)].any(axis=1).mean())
    error = np.std(scores) / len(scores) ** 0.5
    assert abs(np.mean(scores) - rarefied_share(counts.tolist(), 120, 40)) < 4 * error


def planted(layers=3, n=40, side="target"):
    """Aligned pairs, and one sentence of pair 7 that is nearer to all of them in layer 1."""
    rng = np.random.default_rng(5)
    cosines = rng.normal(size=(layers, n, n)) + 9 * np.eye(n)
    if side == "target":
        cosines[1, :, 7] += 12
    else:
        cosines[1, 7] += 12
    return torch.tensor(cosines)


@pytest.mark.parametrize("side", ["pivot", "target"])
def test_a_planted_hub_is_named(side):
    scores = scoring.score_similarity(planted(side=side), margins=False)
    found = scoring.layer_hubs(scores)
    assert found[0] is None
    assert found[2] is None
    assert isinstance(found[1], Hub)
    assert (found[1].side, found[1].pair) == (side, 7)
    assert found[1].blocked >= 35
    assert found[1].sole >= 35


def test_two_equal_hubs_are_found_although_neither_blocks_alone():
    cosines = planted()
    cosines[1, :, 8] += 12
    hub = scoring.layer_hubs(scoring.score_similarity(cosines, margins=False))[1]
    assert hub is not None
    assert (hub.side, hub.pair in (7, 8)) == ("target", True)
    assert hub.sole < 4


def test_a_layer_without_alignment_has_no_hub_and_nan_has_nothing():
    cosines = torch.rand(2, 60, 60, generator=torch.Generator().manual_seed(0))
    cosines[1, 3, 3] = math.nan
    scores = scoring.score_similarity(cosines, margins=False)
    assert scoring.layer_hubs(scores) == (None, None)
    assert scoring.blocker_histogram(scores) is None
    assert scoring.sum_layers(scores.blocking.sole_blocks, scores.nan) is None


def test_equal_signs_are_balanced():
    assert variance.signs(64).sum() == 0
    assert set(variance.signs(64)) == {1, -1}
    assert max(abs(np.cumsum(variance.signs(1000)))) <= 1
