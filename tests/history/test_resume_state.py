"""The state of a resume: the same answers as the whole history, in bounded size."""

import json
import math

import pytest

from neuronxa_callback.history.history import History
from tests.helpers.reports import history_of, make_report, noisy, resumed


def test_a_resume_goes_on_as_if_unbroken():
    whole, broken = History(), History()
    scores = [0.2, 0.5, 0.45, 0.3, 0.4, 0.35, 0.42, 0.44, 0.41]
    for k, score in enumerate(scores):
        for history in (whole, broken):
            history.append(noisy(10 * k, score))
        found = []
        for history in (whole, broken):
            changes = [
                history.change(metric, language, reference)
                for metric in ("nasca", "navca")
                for language in (None, "a", "c")
                for reference in ("last", "first", "best")
            ]
            found.append((changes, [each.step for each in history.window(4)]))
        assert found[0] == found[1]
        broken = resumed(broken)
    assert [each.step for each in broken.points] != [each.step for each in whole.points]


def test_a_resume_that_probes_its_step_again_still_knows_the_probe_before():
    history = history_of(0.2, 0.8, 0.3, 0.4, 0.5)
    again = resumed(history)
    again.append(make_report(40, {"a": 0.6, "b": 0.6}))
    assert again.change("nasca").difference == pytest.approx(0.2)
    assert again.points[-1].number == 4


def test_what_a_resume_remembers_does_not_grow_with_the_run():
    history, sizes = History(), []
    for k in range(60):
        history.append(noisy(10 * k, 0.3 + 0.3 * math.sin(k)))
        history.window(5)
        history.best("nasca", ("a",))
        sizes.append(len(json.dumps(history.state())))
    assert max(sizes[10:]) < 1.3 * sizes[9]
    assert len(history.state()["points"]) <= 1 + 6 + 2 + 1


def test_a_language_is_remembered_without_the_others():
    scores = [{"a": 0.9, "b": 0.0, "c": 0.0}] + [{"a": 0.5, "b": 0.5, "c": 0.5}] * 4
    history = history_of({"a": 0.1, "b": 0.1, "c": 0.1}, *scores)
    history.best("nasca", ("a",))
    kept = [each for each in history.state()["points"] if not each["complete"]]
    assert [(each["step"], each["languages"]) for each in kept] == [(10, {"nasca": ["a"]})]


def test_a_resume_of_a_resume_remembers_as_much():
    low = {"a": 0.1, "b": 0.5}
    history = history_of({"a": 0.9, "b": 0.0}, low, {"a": 0.8, "b": 0.0}, *[low] * 6)
    history.append(make_report(90, {"a": 0.0, "b": 0.9}))
    history.best("nasca", ("a",))
    history.window(4)
    once = resumed(history)
    once.append(make_report(100, low))
    again = resumed(once)
    assert again.best("nasca", ("a",)).step == 0
    assert [each.step for each in again.window(4)] == [60, 70, 80, 90, 100]


def test_a_queried_language_is_kept_over_two_resumes():
    history = history_of(*[{"a": x, "b": 1 - x} for x in (0.2, 0.9, 0.3, 0.3, 0.3, 0.3)])
    assert history.best("nasca", ("a",)).step == 10
    assert resumed(resumed(history)).best("nasca", ("a",)).step == 10


def test_an_incomplete_point_is_in_no_window():
    history = history_of(*[{"a": x, "b": 0.2} for x in (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)])
    for step, scores in ((60, {"a": 0.1, "b": 0.4}), (70, {"a": 0.1, "b": 0.1})):
        history.append(make_report(step, scores))
    history.append(make_report(80, {"a": 0.1, "b": 0.1}))
    history.best("nasca", ("b",))
    history = resumed(history)
    assert [(each.step, each.complete) for each in history.points][1:] == [
        (60, False),
        (70, True),
        (80, True),
    ]
    assert [each.step for each in history.window(5)] == [70, 80]
    assert history.earlier("nasca", "first").step == 0


def test_an_empty_history_has_an_empty_state():
    assert resumed(History()).points == []


def test_a_window_ends_where_a_probe_is_missing():
    history = resumed(history_of(*[0.1 * k for k in range(8)]))
    assert [each.step for each in history.window(7)] == [60, 70]
