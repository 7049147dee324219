"""Two reports against each other."""

import math

import numpy as np
import pytest

from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history import compare
from neuronxa_callback.history.points import Point, change
from tests.helpers.reports import make_report


def test_reports_of_two_runs_are_compared_language_by_language():
    before = make_report(5, {"a": 0.5, "b": 0.5})
    after = make_report(9, {"a": 0.6, "b": 0.51}, model={"class": "Gemma"})
    found = compare(before, after, "nasca")
    assert list(found) == ["a", "b"]
    assert found["a"].difference == pytest.approx(0.1)
    assert (found["a"].significant, found["b"].significant) == (True, False)
    alone = change(Point.of(before), Point.of(after), "nasca", ("a",))
    assert found["a"].p == pytest.approx(2 * alone.p)


def test_significance_of_many_languages_is_holms():
    # Alone, 6 pairs of 100 are significant (p = 0.013); as one of 20 languages they are not.
    names = [f"l{k}" for k in range(20)]
    before = make_report(0, dict.fromkeys(names, 0.5))
    after = make_report(0, dict.fromkeys(names, 0.5) | {"l0": 0.56})
    assert change(Point.of(before), Point.of(after), "nasca", ("l0",)).significant
    assert not compare(before, after, "nasca")["l0"].significant


def test_what_cannot_be_compared_is_refused():
    one = make_report(0)
    with pytest.raises(FingerprintError) as error:
        compare(one, make_report(0, n_pairs=50), "nasca")
    assert str(error.value) == (
        "reports of one curve must agree in definition, but n_pairs is 100 in one and 50 in the"
        " other"
    )
    renamed = make_report(0, definition={"corpus": "moved"})
    with pytest.raises(FingerprintError):
        compare(make_report(0, definition={"corpus": "here"}), renamed, "nasca")
    here, moved = (
        make_report(0, definition={"corpus": name, "digest": "d1"}) for name in ("here", "moved")
    )
    assert not compare(here, moved, "nasca")["deu_Latn"].significant
    with pytest.raises(ConfigError) as error:
        compare(one, one, "nsca")
    words = "unknown metric: 'nsca'; did you mean 'nasca' or 'navca'? (known: nasca, navca)"
    assert str(error.value) == words


def test_other_token_ids_are_noted_and_compared(caplog):
    one, other = (make_report(0, model={"token_ids": ids}) for ids in ("a1", "b2"))
    assert not compare(one, other, "nasca")["deu_Latn"].significant
    (record,) = caplog.records
    assert record.message.startswith("the two models tokenize their sentences differently")
    caplog.clear()
    compare(one, one, "nasca")
    compare(make_report(0), other, "nasca")  # An older report has no digest of token ids.
    assert not caplog.records


def sized(n, seed, share=0.5, **definition):
    """A report of n pairs, blocked as often as that share says by one other pair."""
    hits = np.random.default_rng(seed).random((8, n)) < share
    return make_report(hits={"a": hits}, definition={"digest": f"d{n}{seed}"} | definition)


def test_reports_of_different_sizes_are_compared_at_one():
    small, large = sized(50, 1), sized(200, 2)
    with pytest.raises(FingerprintError):
        compare(small, large, "nasca")
    found = compare(small, large, "nasca", at_n=50)["a"]
    difference = large.score_at(50, "nasca", "a") - small.score("nasca", "a")
    assert found.difference == pytest.approx(difference)
    alone = [
        end - report.score("nasca", "a")
        for report in (small, large)
        for end in report.interval("nasca", "a")[1:]
    ]
    # Independent errors add up in squares.
    assert found.high - difference == pytest.approx((alone[0] ** 2 + alone[1] ** 2) ** 0.5, rel=0.1)


def test_the_same_pairs_are_compared_in_pairs_at_any_size():
    before, after = sized(100, 1), sized(100, 1, 0.52)
    paired = compare(before, after, "nasca")["a"]
    same = compare(before, after, "nasca", at_n=100)["a"]
    assert (same.difference, same.low, same.p) == pytest.approx(
        (paired.difference, paired.low, paired.p)
    )
    apart = compare(before, sized(100, 1, 0.52, digest="other"), "nasca", at_n=100)["a"]
    assert apart.high - apart.low > 2 * (paired.high - paired.low)


def test_a_size_that_a_report_does_not_have_is_refused():
    for n in (1, 51):
        with pytest.raises(ConfigError) as error:
            compare(sized(50, 1), sized(200, 2), "nasca", at_n=n)
        assert str(error.value) == f"at_n must be from 2 to 50, the pairs of both reports, got {n}"
    with pytest.raises(FingerprintError):
        compare(sized(50, 1), sized(200, 2, pivot="fra_Latn"), "nasca", at_n=50)


def test_a_change_at_a_size_from_nan_is_nan():
    lost = make_report(hits={"a": np.full((8, 50), np.nan)})
    assert math.isnan(compare(lost, make_report(scores={"a": 0.5}), "nasca", at_n=50)["a"].p)
