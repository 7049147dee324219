"""Groups of runs: their means, their difference, and how often its interval holds."""

import math

import numpy as np
import pytest
from scipy import stats

from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history.points import Point
from neuronxa_callback.history.run_groups import compare_runs
from neuronxa_callback.metrics.statistics import interval
from tests.helpers.reports import make_report

LANGUAGES = ("a", "b", "c")


def runs(rng, level, k, ease, spread, layers=4):
    """k reports: verdicts by the ease of a pair, the luck of a run, and noise of their own."""
    reports = []
    for step in range(k):
        luck = spread * rng.normal()
        hits = {
            name: level + luck + ease + rng.normal(size=(layers, len(ease))) > 0
            for name in LANGUAGES
        }
        reports.append(make_report(step, hits=hits, groups={"mine": ("a", "b")}))
    return reports


def test_means_spread_and_intervals_of_pairs_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    one, other = (runs(rng, level, 3, rng.normal(size=50), 0.3) for level in (-0.3, 0.4))
    found = compare_runs(one, other, "nasca")
    assert [*found] == ["a", "b", "c", "group:mine", "mean"]
    for name, key in (("a", "a"), ("mean", None), ("group:mine", "group:mine")):
        scores = [[report.score("nasca", key) for report in group] for group in (one, other)]
        each = found[name]
        assert each.first.mean == pytest.approx(np.mean(scores[0]))
        assert each.second.spread == pytest.approx(np.std(scores[1], ddof=1))
        assert each.change.difference == pytest.approx(np.mean(scores[1]) - np.mean(scores[0]))
    hits = np.mean([Point.of(report).sums("nasca", ("a",)).h for report in one], axis=0)
    sums = Point.of(one[0]).sums("nasca", ("a",))
    expected = interval(type(sums)(hits, sums.u, sums.r, sums.layers), shared=True)
    assert (found["a"].first.low, found["a"].first.high) == pytest.approx(expected)


def test_with_equal_pairs_the_interval_is_that_of_welch():
    """Runs that differ, pairs that do not: every pair of a run has the same share of layers."""
    shares = ((0.2, 0.3, 0.5), (0.6, 0.6, 0.9))
    n = 60
    groups = [
        [
            make_report(k, hits={"a": np.arange(10)[:, None] < np.full((1, n), 10 * share)})
            for k, share in enumerate(side)
        ]
        for side in shares
    ]
    change = compare_runs(*groups, "nasca")["a"].change
    welch = stats.ttest_ind(shares[1], shares[0], equal_var=False).confidence_interval(0.95)
    assert (change.low, change.high) == pytest.approx((welch.low, min(1, welch.high)), abs=1e-6)


def test_runs_that_agree_still_have_the_uncertainty_of_pairs():
    rng = np.random.default_rng(1)
    group = runs(rng, 0.0, 1, rng.normal(size=50), 0.0) * 3
    other = runs(rng, 1.0, 1, rng.normal(size=50), 0.0) * 3
    found = compare_runs(group, other, "nasca")["mean"]
    assert found.first.spread == pytest.approx(0)
    assert found.change.high - found.change.low > 0.05


def test_too_few_runs_other_sentences_and_nan():
    rng = np.random.default_rng(2)
    group = runs(rng, 0.0, 2, rng.normal(size=20), 0.0)
    with pytest.raises(ConfigError, match="at least 2 runs to know how runs differ, got 1"):
        compare_runs(group, group[:1], "nasca")
    with pytest.raises(ConfigError, match="unknown metric: 'mexa'"):
        compare_runs(group, group, "mexa")
    other = [make_report(definition={"digest": "x"}) for _ in range(2)]
    with pytest.raises(FingerprintError):
        compare_runs(group, other, "nasca")
    nan = [make_report(k, {"a": math.nan, "b": 0.5}) for k in range(2)]
    found = compare_runs(nan, nan, "nasca")
    assert math.isnan(found["a"].change.p)
    assert not math.isnan(found["b"].change.p)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.05, 0.4])
def test_the_interval_of_a_difference_holds_over_seeds_and_pairs(spread):
    rng = np.random.default_rng(11)
    levels = (-0.2, 0.3)
    # A normal variable with the variances of ease, luck and noise is above minus the level.
    scale = math.sqrt(2 + spread**2)
    truth = stats.norm.cdf(levels[1] / scale) - stats.norm.cdf(levels[0] / scale)
    for k in (3, 5):
        inside = 0
        for _ in range(250):
            ease = rng.normal(size=40)
            groups = [runs(rng, level, k, ease, spread) for level in levels]
            change = compare_runs(*groups, "nasca")["mean"].change
            inside += change.low <= truth <= change.high
        # 95 % of 250 is 237.5; its standard error is 3.4.
        assert inside >= 227
