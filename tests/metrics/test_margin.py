"""Tests of a change against a margin, and of the variance with a hub."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuronxa_callback.metrics import statistics, variance
from neuronxa_callback.metrics.variance import PairSums


@given(
    st.floats(-0.5, 0.5), st.floats(1e-4, 0.2), st.floats(4, 200), st.floats(0, 0.1), st.booleans()
)
def test_a_change_is_tested_against_the_ends_of_its_margin(difference, error, df, margin, up):
    null = margin if up else -margin
    found = statistics.student_change(difference, error, df, margin=margin).p
    # Both ends of the null hypothesis have this p-value, since they are mirror images.
    t = stats.t(df, loc=null, scale=error)
    assert found == pytest.approx(t.sf(abs(difference)) + t.cdf(-abs(difference)), abs=1e-9)
    assert found >= statistics.student_change(difference, error, df).p - 1e-12


def test_a_margin_shifts_the_null_hypothesis_on_both_sides():
    rng = np.random.default_rng(0)
    true, error = 0.005, 0.004
    for sign in (1, -1):
        drawn = sign * true + error * rng.standard_normal(4000)
        shares = [
            np.mean([statistics.student_change(d, error, 1e6, margin=m).p < 0.05 for d in drawn])
            for m in (0.0, true)
        ]
        # At the end of the margin 5 % are called significant; against no change 24 %.
        assert shares == pytest.approx([0.24, 0.05], abs=0.02)


def test_a_pair_that_alone_blocks_a_tenth_ends_the_second_order_correction():
    rng = np.random.default_rng(0)
    h, r = rng.integers(0, 2, (2, 100)).astype(float)
    quotients = []
    for most in (0, 5, 10, 40):
        u = np.zeros(100)
        u[3] = most
        jackknife = np.var(h - u, ddof=1) / 100
        corrected = jackknife - np.var(r, ddof=1) / 400
        found = variance.spread(PairSums(h[None], u[None], r[None])).variance[0]
        quotients.append((jackknife - found) / (jackknife - corrected))
    assert quotients == pytest.approx([quotients[0], 0.5, 0, 0])
