"""The points of a run: scores, the best one, changes, and what belongs to the curve."""

import math
from dataclasses import replace

import numpy as np
import pytest

from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history.history import History
from neuronxa_callback.history.points import Point
from neuronxa_callback.metrics import statistics
from tests.helpers.reports import history_of, make_report, noisy, resumed

NAN = math.nan


def test_a_point_has_the_scores_and_intervals_of_its_report():
    report = noisy(3, 0.4)
    point = Point.of(report)
    for metric in report.metrics:
        assert point.score(metric) == pytest.approx(report.score(metric))
        assert point.interval(metric) == pytest.approx(report.interval(metric))
        for name in report.languages:
            assert point.score(metric, (name,)) == pytest.approx(report.score(metric, name))
            assert point.interval(metric, (name,)) == pytest.approx(report.interval(metric, name))


def test_a_layer_of_nan_makes_its_language_and_the_mean_unknown():
    point = Point.of(make_report(0, {"a": 0.5, "b": [0.5] * 7 + [NAN]}))
    assert point.score("nasca", ("a",)) == pytest.approx(0.5)
    assert math.isnan(point.score("nasca", ("b",)))
    assert math.isnan(point.score("nasca"))


def test_a_point_takes_its_intervals_from_shared_or_own_pivots():
    reports = [noisy(0, 0.4), make_report(0, hits=None, shared=False)]
    assert Point.of(reports[0]).shared
    assert not Point.of(reports[1]).shared
    one = Point.of(reports[1])
    assert one.interval("nasca") == statistics.interval(one.sums("nasca"), False)


def test_the_best_is_the_first_of_equals():
    assert history_of(0.2, 0.6, 0.6, 0.4).best("nasca").step == 10
    assert History().best("nasca") is None


def test_the_best_is_that_of_what_was_asked_for():
    history = history_of({"a": 0.9, "b": 0.1}, {"a": 0.6, "b": 0.6}, {"a": 0.2, "b": 0.8})
    assert history.best("nasca").step == 10
    assert history.best("nasca", ("a",)).step == 0
    assert history.best("nasca", ("b",)).step == 20


def test_the_interval_of_the_best_allows_for_its_selection():
    history = history_of(0.3, 0.7, *[0.5] * 8)
    best = history.best("nasca", ("a",))
    # One of ten: all ten intervals hold at once in 95 % of all cases.
    found = history.best_interval("nasca", "a")
    assert found == best.interval("nasca", ("a",), 0.995)
    low, high = best.interval("nasca", ("a",))
    assert found[0] < low < high < found[1]
    assert resumed(history).best_interval("nasca", "a") == found
    alone = history_of(0.4)
    assert alone.best_interval("nasca") == pytest.approx(alone.points[0].interval("nasca"))
    assert np.isnan(history_of(NAN).best_interval("nasca")).all()
    assert np.isnan(History().best_interval("nasca")).all()


def test_a_change_may_be_tested_against_a_margin():
    history = history_of(0.5, 0.56)
    plain, held = (history.change("nasca", margin=margin) for margin in (0.0, 0.05))
    assert (plain.difference, plain.low, plain.high) == (held.difference, held.low, held.high)
    assert plain.significant
    assert not held.significant


def test_nan_is_never_the_best():
    assert history_of(0.2, NAN, 0.1).best("nasca").step == 0
    assert history_of(NAN, NAN).best("nasca") is None


@pytest.mark.parametrize(
    ("reference", "expected"), [("last", -0.3), ("first", 0.1), ("best", -0.3)]
)
def test_change_since(reference, expected):
    found = history_of(0.2, 0.5, 0.6, 0.3).change("nasca", reference=reference)
    assert found.difference == pytest.approx(expected)
    assert history_of(0.2).change("nasca", reference=reference) is None


def test_change_of_one_language_is_since_its_own_best():
    history = history_of({"a": 0.9, "b": 0.1}, {"a": 0.6, "b": 0.6}, {"a": 0.5, "b": 0.6})
    assert history.change("nasca", "a", "best").difference == pytest.approx(-0.4)


def test_an_unknown_reference_is_an_error():
    with pytest.raises(ConfigError) as error:
        history_of(0.2, 0.3).change("nasca", reference="frist")
    words = "unknown reference: 'frist'; did you mean 'first'? (known: last, first, best)"
    assert str(error.value) == words


def test_a_probe_of_an_earlier_step_takes_the_place_of_what_came_later():
    history = history_of(0.1, 0.2, 0.3, 0.4)
    history.append(make_report(10, {"a": 0.7, "b": 0.7}))
    assert [each.step for each in history.points] == [0, 10]
    assert history.points[-1].score("nasca") == pytest.approx(0.7)
    assert history.points[-1].number == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"definition": {"corpus": "flores"}},
            "reports of one curve must agree in definition, but corpus is 'custom' in one and"
            " 'flores' in the other",
        ),
        (
            {"model": {"tokenizer": "xyz"}},
            "reports of one curve must agree in model, but tokenizer (the digest of its vocabulary"
            " and rules) is 'abc' in one and 'xyz'"
            " in the other",
        ),
        (
            {"definition": {"new": 1}},
            "reports of one curve must agree in definition, but new is None in one and 1 in the"
            " other",
        ),
    ],
)
def test_another_measurement_is_refused_by_name(other, words):
    for history in (history_of(0.5), resumed(history_of(0.5))):
        with pytest.raises(FingerprintError) as error:
            history.append(make_report(10, {"a": 0.5, "b": 0.5}, **other))
        assert str(error.value) == words
        assert len(history.points) == 1


def test_a_fingerprint_is_the_same_before_and_after_json():
    sites = {"sites": ("gate", "up")}
    for history in (history_of(0.5, definition=sites), resumed(history_of(0.5, definition=sites))):
        history.append(make_report(10, {"a": 0.5, "b": 0.5}, definition=sites))
        assert len(history.points) == 2


def test_a_change_of_batch_tokens_is_noted_in_the_report_where_it_begins():
    history, noted = History(), []
    for step, tokens in ((0, 512), (10, 512), (20, 256), (30, 256), (40, 512)):
        report = make_report(step)
        environment = {"environment": {"batch_tokens": tokens}}
        report = replace(report, fingerprint={**report.fingerprint, **environment})
        noted.append(history.note_changes(report).warnings)
        history.append(report)
    assert noted == [
        (),
        (),
        ("batch_tokens is 256 from step 20 on, it was 512 before",),
        (),
        ("batch_tokens is 512 from step 40 on, it was 256 before",),
    ]
    later = replace(report, step=50)
    assert (
        history.note_changes(later).warnings == resumed(history).note_changes(later).warnings == ()
    )
