"""Correlations against scipy, a double loop and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history import correlation


def correlated(rng, n=25, rho=0.6):
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


@pytest.mark.parametrize("seed", range(5))
def test_coefficients_and_fisher_intervals_equal_scipy(seed):
    x, y = correlated(np.random.default_rng(seed), n=9 + 5 * seed)
    found, scipys = correlation.pearson(x, y), stats.pearsonr(x, y)
    interval = scipys.confidence_interval()
    assert (found.r, found.low, found.high) == pytest.approx(
        (scipys.statistic, interval.low, interval.high), abs=1e-12
    )
    assert correlation.spearman(x, y).r == pytest.approx(stats.spearmanr(x, y).statistic)
    permuted = stats.pearsonr(x, y, method=stats.PermutationMethod(rng=np.random.default_rng(1)))
    assert found.p == pytest.approx(permuted.pvalue, abs=0.02)


def test_bootstrap_uses_the_standard_error_of_scipy_on_the_scale_of_fisher():
    x, y = correlated(np.random.default_rng(3), n=12)
    drawn = stats.bootstrap(
        (x, y),
        lambda a, b: np.arctanh(stats.pearsonr(a, b).statistic),
        paired=True,
        vectorized=False,
        n_resamples=correlation.RESAMPLES,
        rng=np.random.default_rng(correlation.SEED),
    )
    z = np.arctanh(stats.pearsonr(x, y).statistic)
    half = stats.t.ppf(0.975, 10) * drawn.standard_error
    found = np.arctanh(correlation.pearson(x, y).bootstrap)
    assert found == pytest.approx((z - half, z + half), rel=0.02)


def test_ranks_with_ties_equal_scipy():
    x, y = [1, 1, 2, 2, 3, 4, 5, 5, 6], [2, 1, 1, 3, 3, 3, 9, 4, 4]
    assert correlation.spearman(x, y).r == pytest.approx(stats.spearmanr(x, y).statistic)


def test_one_covariate_gives_the_textbook_formula():
    rng = np.random.default_rng(1)
    z = rng.normal(size=20)
    x, y = z + rng.normal(size=20), z + rng.normal(size=20)
    xy, xz, yz = (stats.pearsonr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    wanted = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    found = correlation.partial(x, y, [z])
    assert found.r == pytest.approx(wanted)
    half = 1.959964 / math.sqrt(20 - 1 - 3)
    assert found.low == pytest.approx(math.tanh(math.atanh(wanted) - half), abs=1e-6)
    constant = correlation.partial(x, y, [z, np.ones(20)])
    assert (constant.r, constant.low) == pytest.approx((found.r, found.low))


def test_a_metric_without_a_difference_to_itself():
    x, y = correlated(np.random.default_rng(2))
    assert correlation.difference(x, x, y)[0] == 0
    better, low, high = correlation.difference(y + 0.01 * x, np.roll(x, 3), y)
    assert low > 0
    assert low < better < high


def test_changes_along_a_run_equal_a_double_loop():
    rng = np.random.default_rng(4)
    x = {name: rng.normal(size=10).cumsum() for name in "abc"}
    y = {name: x[name] + rng.normal(size=10) for name in "abc"}
    pairs, same = [], []
    for name in "abc":
        dx = [x[name][t + 1] - x[name][t] for t in range(9)]
        dy = [y[name][t + 1] - y[name][t] for t in range(9)]
        pairs += [(a - sum(dx) / 9, b - sum(dy) / 9) for a, b in zip(dx, dy, strict=True)]
        same += [a * b > 0 for a, b in zip(dx, dy, strict=True)]
    found = correlation.along_run(x, y)
    top = sum(a * b for a, b in pairs)
    bottom = math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    assert found.correlation.r == pytest.approx(top / bottom)
    assert found.together == pytest.approx(sum(same) / len(same))
    assert found.together_interval[0] < found.together < found.together_interval[1]


def test_two_rising_curves_are_no_evidence():
    rng = np.random.default_rng(5)
    x = {name: np.arange(30) + rng.normal(size=30) for name in "ab"}
    y = {name: np.arange(30) + rng.normal(size=30) for name in "ab"}
    found = correlation.along_run(x, y).correlation
    assert found.low < 0 < found.high
    assert found.p > 0.05


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (range(7), range(7), "at least 8 languages with both scores, got 7"),
        ([0.5] * 9, range(9), "needs scores that vary over languages, all are 0.5"),
        ([math.nan, *range(8)], range(9), "needs finite scores"),
    ],
)
def test_bad_scores_are_refused(x, y, message):
    for function in (correlation.pearson, correlation.spearman):
        with pytest.raises(ConfigError, match=message):
            function(list(x), list(y))


def test_short_or_constant_runs_are_refused():
    flat, moving = {"a": [0.5] * 9}, {"a": list(range(9))}
    with pytest.raises(ConfigError, match="needs scores that change"):
        correlation.along_run(flat, moving)
    with pytest.raises(ConfigError, match="needs at least 7 steps with both scores, got 6"):
        correlation.along_run({"a": range(6)}, {"a": range(6)})


@pytest.mark.slow
def test_intervals_hold_the_true_correlation():
    rng, rho, runs = np.random.default_rng(6), 0.7, 200
    held = {"fisher": 0, "bootstrap": 0, "spearman": 0, "along": 0}
    rank_rho = 6 / math.pi * math.asin(rho / 2)
    for _ in range(runs):
        x, y = correlated(rng, 30, rho)
        found, ranked = correlation.pearson(x, y), correlation.spearman(x, y)
        held["fisher"] += found.low <= rho <= found.high
        held["bootstrap"] += found.bootstrap[0] <= rho <= found.bootstrap[1]
        held["spearman"] += ranked.low <= rank_rho <= ranked.high
        steps = [correlated(rng, 30, rho) for _ in range(3)]
        run = correlation.along_run(
            *({str(k): pair[side].cumsum() for k, pair in enumerate(steps)} for side in (0, 1))
        )
        held["along"] += run.correlation.low <= rho <= run.correlation.high
    # 200 runs: a rate of .95 has a standard error of .015.
    assert all(0.905 <= count / runs <= 0.99 for count in held.values()), held
