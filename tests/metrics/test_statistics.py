"""Intervals and tests: laws and independent oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from neuronxa_callback.metrics import statistics, variance
from neuronxa_callback.metrics.blocking import count_blocks
from neuronxa_callback.metrics.variance import PairSums
from tests.helpers.reports import mask_of

NAN = math.nan


@st.composite
def several(draw, times=1):
    """Verdicts [times, languages, layers, pairs]."""
    shape = (times, *(draw(st.integers(1, most)) for most in (3, 4)), draw(st.integers(2, 30)))
    return draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0])))


def of(hits, u=None, r=None):
    """Sums [languages, pairs] of verdicts [languages, layers, pairs]."""
    nothing = np.zeros(hits.shape)
    parts = (hits, nothing if u is None else u, nothing if r is None else r)
    h, u, r = (np.mean(part, axis=1) for part in parts)
    return PairSums(h, u, r, hits.shape[1])


def ends(hits, shared=True):
    return statistics.interval(of(hits), shared)


def matrices(seed, layers=3, n=30, signal=2.0, hub=0.0):
    """Cosines [layers, n, n]; the target sentence of pair 4 is near to all pivot sentences."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(layers, n, n)) + signal * np.eye(n)
    found[:, :, 4] += hub
    return found


def sums_of(cosines):
    """Sums [1, pairs] of cosines [layers, pairs, pairs]."""
    counts = count_blocks(torch.tensor(cosines))
    parts = (counts.blockers == 0, counts.sole_blocks, counts.second_differences)
    h, u, r = (part.double().mean(dim=0).numpy()[None] for part in parts)
    return PairSums(h, u, r, len(cosines))


def test_chance_is_the_score_of_exchangeable_cells():
    rng = np.random.default_rng(0)
    cells = rng.random((40_000, 4, 4))
    own = np.einsum("kii->ki", cells).copy()
    cells[:, np.arange(4), np.arange(4)] = -1
    score = ((own > cells.max(axis=1)) & (own > cells.max(axis=2))).mean()
    assert score == pytest.approx(statistics.chance(4), abs=0.003)


@given(st.floats(0, 1), st.floats(2, 1e4), st.floats(0.5, 5))
def test_the_ends_of_wilson_are_the_shares_that_the_score_test_just_accepts(share, n, quantile):
    low, high = statistics.wilson(share, n, quantile)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for end in (low, high):
        reached = abs(share - end)
        assert reached == pytest.approx(quantile * math.sqrt(end * (1 - end) / n), abs=1e-7)


@given(st.floats(2, 1e4), st.floats(0.5, 5))
def test_an_interval_of_a_score_of_0_begins_at_0_and_one_of_1_ends_at_1(n, quantile):
    lows, highs = statistics.wilson(np.array([0.0, 1.0]), n, quantile)
    assert (lows[0], highs[1]) == (0, 1)
    assert 0 < highs[0] < 1
    assert 0 < lows[1] < 1


@given(several())
def test_masks_are_unpacked_into_verdicts(hits):
    rows = hits[0, 0]
    masks = [mask_of(row) for row in rows]
    assert np.array_equal(statistics.unpack(masks, rows.shape[1]), rows)
    found = statistics.unpack([None, *masks], rows.shape[1])
    assert np.isnan(found[0]).all()
    assert np.array_equal(found[1:], rows)


def test_a_mask_of_more_pairs_is_refused():
    with pytest.raises(ValueError, match="mask") as error:
        statistics.unpack([0b1000], 3)
    words = "a mask of verdicts must have at most 3 bits, one per pair, got more"
    assert str(error.value) == words


@given(several(), st.booleans())
def test_an_interval_is_around_its_mean_and_within_bounds(hits, shared):
    low, high = ends(hits[0], shared)
    assert 0 <= low <= hits.mean() + 1e-12
    assert hits.mean() - 1e-12 <= high <= 1


@given(several(), st.randoms())
def test_the_order_of_pairs_and_layers_changes_nothing(hits, random):
    before = ends(hits[0])
    order = list(range(hits.shape[-1]))
    random.shuffle(order)
    assert ends(hits[0][:, ::-1][..., order]) == pytest.approx(before, abs=1e-9)


@given(several())
def test_repeated_layers_add_no_certainty(hits):
    one = hits[0, :1]
    assert ends(np.concatenate([one, one], axis=1)) == pytest.approx(ends(one), abs=1e-9)


@given(several())
def test_repeated_languages_add_no_certainty_if_the_pivot_is_shared(hits):
    one = hits[0, :1]
    assert ends(np.concatenate([one, one])) == pytest.approx(ends(one), abs=1e-9)


def test_languages_with_pivots_of_their_own_add_certainty():
    hits = np.random.default_rng(0).integers(0, 2, (4, 6, 100)).astype(float)
    wide, narrow = ends(hits[:1], False), ends(hits, False)
    assert narrow[1] - narrow[0] < 0.7 * (wide[1] - wide[0])
    same = np.stack([hits[0], hits[0]])
    shared, own = (ends(same, each) for each in (True, False))
    assert own[1] - own[0] == pytest.approx((shared[1] - shared[0]) / 2**0.5, rel=0.05)


@pytest.mark.parametrize("score", [0.0, 0.25, 1 / 3, 1.0])
def test_equal_pairs_do_not_make_a_score_certain(score):
    found = ends(np.full((2, 1, 100), score))
    assert found == pytest.approx(statistics.wilson(score, 100, stats.t.ppf(0.975, 99)), abs=1e-12)


def test_a_score_of_0_is_no_more_certain_than_n_trials():
    hits = np.zeros((1, 1, 50))
    alone = np.zeros((1, 1, 50))
    alone[0, 0, 7] = 30.0
    for u in (np.zeros((1, 1, 50)), alone):
        low, high = statistics.interval(of(hits, u), True)
        assert low == 0
        assert high >= statistics.wilson(0.0, 50, stats.t.ppf(0.975, 49))[1] - 1e-12


def test_the_interval_of_every_layer_is_that_of_the_layer_alone():
    cosines = matrices(3)
    counts = count_blocks(torch.tensor(cosines))
    sums = PairSums(
        *(
            part.double().numpy()
            for part in (counts.blockers == 0, counts.sole_blocks, counts.second_differences)
        )
    )
    found = statistics.layer_intervals(sums)
    for layer, row in zip(cosines, found, strict=True):
        assert tuple(row) == pytest.approx(statistics.interval(sums_of(layer[None]), True))


def test_a_hub_widens_an_interval_until_it_is_said_in_words():
    calm, hub = (sums_of(matrices(1, hub=size)) for size in (0.0, 1.2))
    width = [high - low for low, high in (statistics.interval(x, True) for x in (calm, hub))]
    blind = statistics.interval(PairSums.of_hits(hub.h), True)
    assert width[1] > 1.3 * (blind[1] - blind[0])
    assert width[1] > width[0]
    assert not statistics.hub_limited(calm, True)
    assert statistics.hub_limited(sums_of(matrices(1, signal=4.0, hub=4.0)), True)


@pytest.mark.parametrize("pairs", [2, 100])
def test_equal_gains_do_not_make_a_change_certain(pairs):
    before = np.full((2, 10, pairs), 0.25)
    found = statistics.paired_change(of(before), of(before + 0.01 / pairs), shared=True)
    assert found.low < 0 < found.difference < found.high
    assert not found.significant
    none = statistics.paired_change(of(before), of(before), shared=True)
    # One more verdict of 20 x pairs might have changed.
    reach = stats.t.ppf(0.975, pairs - 1) / (20 * pairs)
    assert (none.difference, none.p) == (0, 1)
    assert (none.low, none.high) == pytest.approx((-reach, reach))


@given(several(times=2), st.booleans())
def test_nan_in_nan_out(hits, shared):
    hits[0, -1, 0] = NAN
    before, after = map(of, hits)
    assert all(map(math.isnan, statistics.interval(before, shared)))
    assert not statistics.hub_limited(before, shared)
    change = statistics.paired_change(before, after, shared)
    assert all(map(math.isnan, (change.difference, change.low, change.high, change.p)))
    assert not change.significant


@given(several(times=2))
def test_a_change_of_independent_pairs_has_the_error_of_the_paired_t_test(hits):
    before, after = hits.mean(axis=(1, 2))
    differences = after - before
    error = differences.std(ddof=1) / len(differences) ** 0.5
    assume(error > 1 / hits[0].size)
    kurtosis = stats.kurtosis(differences, fisher=False)
    n = len(differences)
    df = min(max(2 * n / max(kurtosis - 1, 1e-9), min(4, n - 1)), n - 1)
    oracle = stats.t(df, differences.mean(), error).interval(0.95)
    change = statistics.paired_change(*map(of, hits), shared=True)
    assert change.difference == pytest.approx(differences.mean())
    assert (change.low, change.high) == pytest.approx((max(-1, oracle[0]), min(1, oracle[1])))
    assert change.p == pytest.approx(2 * stats.t(df).sf(abs(differences.mean()) / error))


@given(several(times=2), st.booleans())
def test_a_change_back_is_the_same_change(hits, shared):
    x = list(map(of, hits))
    there, back = (statistics.paired_change(*each, shared) for each in (x, x[::-1]))
    assert (there.difference, there.low, there.high, there.p) == pytest.approx(
        (-back.difference, -back.high, -back.low, back.p)
    )


def test_p_is_that_of_the_given_null_hypothesis():
    rng = np.random.default_rng(0)
    before = rng.random((1, 1, 50))
    after = before - 0.1 + rng.normal(0, 0.05, (1, 1, 50))
    change, moved = (
        statistics.paired_change(of(before), of(after + shift), True, null=shift - 0.1)
        for shift in (0.0, 0.1)
    )
    assert change.p == pytest.approx(moved.p)
    oracle = stats.ttest_1samp((after - before)[0, 0], -0.1).pvalue
    assert change.p == pytest.approx(oracle, rel=0.2)


@given(several(times=2), st.booleans())
def test_a_trend_through_two_probes_is_their_change(hits, shared):
    x = list(map(of, hits))
    trend, change = statistics.paired_trend(x, 1, shared), statistics.paired_change(*x, shared)
    assert (trend.difference, trend.low, trend.high) == pytest.approx(
        (change.difference, change.low, change.high)
    )


def test_a_trend_is_the_slope_of_least_squares_times_its_span():
    x = np.random.default_rng(0).random((7, 3, 1, 40))
    oracle = stats.linregress(range(7), x.mean(axis=(1, 2, 3))).slope
    trend = statistics.paired_trend(list(map(of, x)), 5, True)
    assert trend.difference == pytest.approx(5 * oracle)
    assert trend.low < trend.difference < trend.high


def test_independent_variances_add_up():
    one, other = (sums_of(matrices(seed)) for seed in (1, 2))
    alone = statistics.change_of(0.1, [one], True)
    both = statistics.change_of(0.1, [one, other], True)
    errors = [variance.mean_spread(each, True).variance for each in (one, other)]
    assert both.high - 0.1 > alone.high - 0.1
    df = sum(errors) ** 2 / sum(
        e**2 / variance.mean_spread(s, True).df for e, s in zip(errors, (one, other), strict=True)
    )
    assert both.p == pytest.approx(2 * stats.t(df).sf(0.1 / sum(errors) ** 0.5))
    assert math.isnan(statistics.change_of(NAN, [one], True).p)


def test_looks_spend_no_more_than_alpha():
    spent = [0.05 / (k * (k + 1)) for k in range(1, 10_000)]
    assert sum(spent) < 0.05
    for k, alpha in enumerate(spent[:50], start=1):
        assert statistics.union_bound(0.999 * alpha / 3, k, 3) < 0.05
        assert statistics.union_bound(1.001 * alpha / 3, k, 3) > 0.05
    assert statistics.union_bound(0.9, 3) == 1


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.6, 0.5]) == [1.0, 1.0]
    assert statistics.holm([]) == []
    first, second = statistics.holm([NAN, 0.02])
    assert math.isnan(first)
    assert second == 0.04


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_steps_reject(p, level):
    rejected = set()
    for rank, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if (len(p) - rank) * p[k] >= level:
            break
        rejected.add(k)
    assert {k for k, each in enumerate(statistics.holm(p)) if each < level} == rejected
