"""Intervals and tests: laws, independent oracles, and how often they hold."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from neuronxa_callback.metrics import statistics
from tests.helpers.reports import mask_of

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "intervals.py"
NAN = math.nan


@st.composite
def several(draw, times=1):
    """Verdicts [times, languages, layers, pairs]."""
    shape = (times, *(draw(st.integers(1, most)) for most in (3, 4)), draw(st.integers(2, 30)))
    return draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0])))


def named(hits):
    return {f"l{k}": each for k, each in enumerate(hits)}


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


def test_every_count_of_a_layer_has_its_interval():
    ends = statistics.layer_intervals(100)
    assert len(ends) == 101
    for k, (low, high) in enumerate(ends):
        oracle = stats.binomtest(k, 100).proportion_ci(0.95, method="wilson")
        assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


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
    low, high = statistics.macro_interval(named(hits[0]), shared)
    assert 0 <= low <= hits.mean() + 1e-12
    assert hits.mean() - 1e-12 <= high <= 1


@given(several(), st.randoms())
def test_the_order_of_pairs_and_layers_changes_nothing(hits, random):
    before = statistics.macro_interval(named(hits[0]), True)
    order = list(range(hits.shape[-1]))
    random.shuffle(order)
    assert statistics.macro_interval(named(hits[0, :, ::-1, order].transpose(1, 2, 0)), True) == (
        pytest.approx(before, abs=1e-9)
    )


@given(several())
def test_repeated_layers_add_no_certainty(hits):
    twice = np.concatenate([hits[0, 0]] * 2)
    once = statistics.mean_interval(hits[0, 0])
    assert statistics.mean_interval(twice) == pytest.approx(once, abs=1e-9)


@given(several())
def test_repeated_languages_add_no_certainty_if_the_pivot_is_shared(hits):
    one = hits[0, 0]
    alone = statistics.mean_interval(one)
    assert statistics.macro_interval({"a": one, "b": one}, True) == pytest.approx(alone, abs=1e-9)


def test_languages_with_pivots_of_their_own_add_certainty():
    hits = np.random.default_rng(0).integers(0, 2, (4, 6, 100)).astype(float)
    wide = statistics.macro_interval(named(hits[:1]), False)
    narrow = statistics.macro_interval(named(hits), False)
    assert narrow[1] - narrow[0] < 0.7 * (wide[1] - wide[0])
    same = {"a": hits[0], "b": hits[0]}
    shared, own = (statistics.macro_interval(same, each) for each in (True, False))
    assert own[1] - own[0] == pytest.approx((shared[1] - shared[0]) / 2**0.5, rel=0.05)


@pytest.mark.parametrize("score", [0.0, 0.25, 1 / 3, 1.0])
def test_equal_pairs_do_not_make_a_score_certain(score):
    ends = statistics.interval(np.full((2, 100), score), shared=True)
    assert ends == pytest.approx(statistics.wilson(score, 100, stats.t.ppf(0.975, 99)), abs=1e-12)


@pytest.mark.parametrize("pairs", [2, 100])
def test_equal_gains_do_not_make_a_change_certain(pairs):
    before = np.full((2, pairs), 0.25)
    found = statistics.paired_change(before, before + 0.01, shared=True)
    assert found.low < 0 < found.difference < found.high
    assert not found.significant
    none = statistics.paired_change(before, before, shared=True)
    assert (none.difference, none.low, none.high, none.p) == (0, 0, 0, 1)


@given(several(times=2), st.booleans())
def test_nan_in_nan_out(hits, shared):
    hits[0, -1, 0] = NAN
    assert all(map(math.isnan, statistics.macro_interval(named(hits[0]), shared)))
    x = hits.mean(axis=2)
    change = statistics.paired_change(x[0], x[1], shared)
    assert all(map(math.isnan, (change.difference, change.low, change.high, change.p)))
    assert not change.significant


@given(several(times=2))
def test_a_change_is_that_of_the_paired_t_test(hits):
    before, after = hits.mean(axis=(1, 2))
    assume((after - before).std() > 1e-6)
    oracle = stats.ttest_rel(after, before)
    ends = oracle.confidence_interval(0.95)
    change = statistics.paired_change(*hits.mean(axis=2), shared=True)
    assert change.difference == pytest.approx(after.mean() - before.mean())
    assert change.p == pytest.approx(oracle.pvalue)
    clipped = max(-1, ends.low), min(1, ends.high)
    assert (change.low, change.high) == pytest.approx(clipped)
    assert change.significant == (ends.low > 0 or ends.high < 0)


@given(several(times=2), st.booleans())
def test_a_change_back_is_the_same_change(hits, shared):
    x = hits.mean(axis=2)
    there, back = (statistics.paired_change(*each, shared) for each in (x, x[::-1]))
    assert (there.difference, there.low, there.high, there.p) == pytest.approx(
        (-back.difference, -back.high, -back.low, back.p)
    )


def test_p_is_that_of_the_given_null_hypothesis():
    rng = np.random.default_rng(0)
    before = rng.random((1, 50))
    after = before - 0.1 + rng.normal(0, 0.05, (1, 50))
    change = statistics.paired_change(before, after, True, null=-0.1)
    assert change.p == pytest.approx(stats.ttest_1samp((after - before)[0], -0.1).pvalue)


@given(several(times=2), st.booleans())
def test_a_trend_through_two_probes_is_their_change(hits, shared):
    x = hits.mean(axis=2)
    trend = statistics.paired_trend(x, 1, shared)
    change = statistics.paired_change(*x, shared)
    assert (trend.difference, trend.low, trend.high) == pytest.approx(
        (change.difference, change.low, change.high)
    )


def test_a_trend_is_the_slope_of_least_squares_times_its_span():
    x = np.random.default_rng(0).random((7, 3, 40))
    oracle = stats.linregress(range(7), x.mean(axis=(1, 2))).slope
    trend = statistics.paired_trend(x, 5, True)
    assert trend.difference == pytest.approx(5 * oracle)
    assert trend.low < trend.difference < trend.high


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


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(BENCHMARK))


@pytest.mark.parametrize("mix", ["loose", "tight"])
def test_intervals_hold_about_95_times_of_100(benchmark, mix):
    found = [benchmark["covered"](300, truth, benchmark["MIXES"][mix], 7) for truth in (0.05, 0.5)]
    shares = [share for each in found for share in each.values()]
    assert len(shares) == 8
    assert 0.93 <= np.mean(shares) <= 0.97
    assert min(shares) >= 0.90


def test_the_usual_interval_would_not_have_held(benchmark):
    # The measurement above can fail: every pair x layer as a trial is far too narrow.
    assert benchmark["naive_coverage"](300, 0.5, benchmark["MIXES"]["tight"], 7) < 0.8


def test_pairing_finds_what_two_intervals_would_not(benchmark):
    paired, unpaired, held = benchmark["power"](200, 0.05, 0.5, 7)
    assert paired > 0.9
    assert unpaired < 0.1
    assert held > 0.9
    false_alarms, _, _ = benchmark["power"](400, 0.0, 0.5, 7)
    assert false_alarms < 0.08
