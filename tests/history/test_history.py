"""A run over time: one measurement, what changed, and what a resume remembers."""

import json
import logging
import math

import numpy as np
import pytest

from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history.history import History, compare, read
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from tests.helpers.reports import make_report

NAN = math.nan


def history_of(*scores, **options):
    """A history of probes 0, 10, 20, ...: each score is a number or language -> number."""
    made = History()
    for k, each in enumerate(scores):
        by_language = each if isinstance(each, dict) else {"a": each, "b": each}
        made.append(make_report(10 * k, by_language, **options))
    return made


def resumed(history):
    return History.from_state(json.loads(json.dumps(history.state(), allow_nan=False)))


def noisy(step, score, languages=("a", "b", "c"), layers=6, n=40):
    rng = np.random.default_rng([step, int(1000 * score)])
    hits = {name: rng.random((layers, n)) < score for name in languages}
    return make_report(step, hits=hits)


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


def test_first_last_and_best():
    history = history_of(0.2, 0.6, 0.6, 0.4)
    steps = [each.step for each in (history.first, history.best("nasca"), history.last)]
    assert steps == [0, 10, 30]
    assert History().first is None
    assert History().last is None
    assert History().best("nasca") is None


def test_the_best_is_that_of_what_was_asked_for():
    history = history_of({"a": 0.9, "b": 0.1}, {"a": 0.6, "b": 0.6}, {"a": 0.2, "b": 0.8})
    assert history.best("nasca").step == 10
    assert history.best("nasca", ("a",)).step == 0
    assert history.best("nasca", ("b",)).step == 20


def test_nan_is_never_the_best():
    assert history_of(0.2, NAN, 0.1).best("nasca").step == 0
    assert history_of(NAN, NAN).best("nasca") is None


@pytest.mark.parametrize(("since", "expected"), [("last", -0.3), ("first", 0.1), ("best", -0.3)])
def test_change_since(since, expected):
    found = history_of(0.2, 0.5, 0.6, 0.3).change("nasca", since=since)
    assert found.difference == pytest.approx(expected)
    assert history_of(0.2).change("nasca", since=since) is None


def test_change_of_one_language_is_since_its_own_best():
    history = history_of({"a": 0.9, "b": 0.1}, {"a": 0.6, "b": 0.6}, {"a": 0.5, "b": 0.6})
    assert history.change("nasca", "a", "best").difference == pytest.approx(-0.4)


def test_since_what_is_not_known_is_an_error():
    with pytest.raises(ConfigError) as error:
        history_of(0.2, 0.3).change("nasca", since="frist")
    words = "unknown since: 'frist'; did you mean 'first'? (known: last, first, best)"
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("scores", "since", "words"),
    [
        ((0.2,), "last", "no last probe to compare with"),
        ((0.2, 0.5), "last", "up 0.300 since the last probe (significant)"),
        ((0.5, 0.2), "best", "down 0.300 since the best probe (significant)"),
        ((0.5, 0.51), "first", "up 0.010 since the first probe (not significant)"),
        ((0.5, 0.5), "last", "unchanged since the last probe (not significant)"),
        ((0.5, NAN), "last", "unknown change since the last probe (a layer held NaN)"),
    ],
)
def test_a_change_in_words(scores, since, words):
    assert history_of(*scores).line("nasca", since=since) == words


def test_a_probe_of_an_earlier_step_takes_the_place_of_what_came_later():
    history = history_of(0.1, 0.2, 0.3, 0.4)
    history.append(make_report(10, {"a": 0.7, "b": 0.7}))
    assert [each.step for each in history.points] == [0, 10]
    assert history.last.score("nasca") == pytest.approx(0.7)
    assert history.last.number == 1


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
            "reports of one curve must agree in model, but tokenizer is 'abc' in one and 'xyz'"
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


def test_a_file_is_read_around_its_bad_lines(tmp_path, caplog):
    path = tmp_path / "reports.jsonl"
    lines = [make_report(step, {"a": score}).to_json() for step, score in ((10, 0.2), (0, 0.1))]
    again = make_report(10, {"a": 0.3}, warnings=("two\u2028lines",)).to_json()
    bad = b'\xff{"schema"'
    cut = lines[0][:99]
    texts = [lines[0].encode(), bad, b"", *(each.encode() for each in (lines[1], again, cut))]
    path.write_bytes(b"\n".join(texts))
    with caplog.at_level(logging.WARNING):
        reports = read(path)
        history = History.read(path)
    assert [(each.step, each.score("nasca")) for each in reports] == [(0, 0.1), (10, 0.3)]
    assert [each.step for each in history.points] == [0, 10]
    words = [record.getMessage() for record in caplog.records]
    assert words[:2] == words[2:]
    assert words[0].startswith(f"{path}:2 is left out: ")
    assert words[1].startswith(f"{path}:6 is left out: not an alignment report: ")


def test_a_resume_goes_on_as_if_unbroken():
    whole, broken = History(), History()
    scores = [0.2, 0.5, 0.45, 0.3, 0.4, 0.35, 0.42, 0.44, 0.41]
    for k, score in enumerate(scores):
        for history in (whole, broken):
            history.append(noisy(10 * k, score))
        found = []
        for history in (whole, broken):
            asked = [
                history.change(metric, language, since)
                for metric in ("nasca", "navca")
                for language in (None, "a", "c")
                for since in ("last", "first", "best")
            ]
            found.append((asked, [each.step for each in history.window(4)]))
        assert found[0] == found[1]
        broken = resumed(broken)
    assert [each.step for each in broken.points] != [each.step for each in whole.points]


def test_a_resume_that_probes_its_step_again_still_knows_the_probe_before():
    history = history_of(0.2, 0.8, 0.3, 0.4, 0.5)
    again = resumed(history)
    again.append(make_report(40, {"a": 0.6, "b": 0.6}))
    assert again.change("nasca").difference == pytest.approx(0.2)
    assert again.last.number == 4


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
    kept = [each for each in history.state()["points"] if not each["whole"]]
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


def test_what_was_asked_of_a_language_outlives_two_resumes():
    history = history_of(*[{"a": x, "b": 1 - x} for x in (0.2, 0.9, 0.3, 0.3, 0.3, 0.3)])
    assert history.best("nasca", ("a",)).step == 10
    assert resumed(resumed(history)).best("nasca", ("a",)).step == 10


def test_a_point_that_is_not_whole_is_in_no_window():
    history = history_of(*[{"a": x, "b": 0.2} for x in (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)])
    for step, scores in ((60, {"a": 0.1, "b": 0.4}), (70, {"a": 0.1, "b": 0.1})):
        history.append(make_report(step, scores))
    history.append(make_report(80, {"a": 0.1, "b": 0.1}))
    history.best("nasca", ("b",))
    history = resumed(history)
    assert [(each.step, each.whole) for each in history.points][1:] == [
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


def test_a_point_takes_its_intervals_from_shared_or_own_pivots():
    reports = [noisy(0, 0.4), make_report(0, hits=None, shared=False)]
    assert Point.of(reports[0]).shared
    assert not Point.of(reports[1]).shared
    one = Point.of(reports[1])
    assert one.interval("nasca") == statistics.interval(one.shares("nasca"), False)
