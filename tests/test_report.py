"""A report: its numbers, and that JSON loses nothing."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback import AlignmentReport
from neuronxa_callback.corpus import parallel
from neuronxa_callback.report_schema import RESERVED
from neuronxa_callback.scores import Hub, MetricScores

NAN = math.nan


@st.composite
def reports(draw):
    n = draw(st.integers(2, 40))
    layers = draw(st.integers(1, 7))
    languages = tuple(f"l{k}" for k in range(draw(st.integers(1, 4))))
    missing = {
        name: draw(st.lists(st.booleans(), min_size=layers, max_size=layers)) for name in languages
    }
    half = st.floats(0, 1) | st.just(NAN)
    interval = st.tuples(half, half).map(
        lambda ends: tuple(sorted(ends)) if NAN not in ends else ends
    )

    def column(kind):
        return {
            name: tuple(None if gone else draw(kind) for gone in missing[name])
            for name in languages
        }

    def per_pair(kind):
        return {
            name: None if any(missing[name]) else tuple(draw(kind) for _ in range(n))
            for name in languages
        }

    def blockers(sizes):
        return {k: v and (layers * n - sum(v[1:]), *v[1:]) for k, v in sizes.items()}

    ints = st.integers(0, n)
    scores = MetricScores(
        layers=tuple(range(layers)),
        hits=column(st.integers(0, 2**n - 1)),
        pivot_to_target=column(ints),
        target_to_pivot=column(ints),
        mutual=column(ints),
        intervals={name: draw(interval) for name in (*languages, "mean")},
        layer_intervals={name: tuple(draw(interval) for _ in range(layers)) for name in languages},
        sole_blocks=per_pair(ints),
        second_differences=per_pair(st.integers(-n, n)),
        blockers=blockers(per_pair(st.integers(0, layers))),
        hubs=column(
            st.none()
            | st.builds(
                Hub, st.sampled_from(["pivot", "target"]), st.integers(0, n - 1), ints, ints
            )
        ),
        hub_limited=tuple(draw(st.sets(st.sampled_from(languages)))),
    )
    return AlignmentReport(
        step=draw(st.integers(0, 10**9)),
        pivot="p",
        languages=languages,
        n_pairs=n,
        metrics={"nasca": scores},
        fingerprint={"definition": {"corpus": draw(st.text(max_size=5))}},
        diagnostics={"x": [1, None, {"y": 0.5}]},
        warnings=tuple(draw(st.lists(st.text(max_size=9), max_size=2))),
        run={"seconds": 1.5},
    )


@given(reports())
def test_json_both_ways_loses_nothing(report):
    text = report.to_json()
    again = AlignmentReport.from_json(text)
    assert again == report
    assert again.to_json() == text
    assert "\n" not in text
    assert "NaN" not in text.replace("not a number", "")


@given(reports())
def test_scores_are_means_of_verdicts(report):
    hits = report.metrics["nasca"].hits
    for language in report.languages:
        known = [
            None if m is None else Fraction(m.bit_count(), report.n_pairs) for m in hits[language]
        ]
        if None in known:
            assert math.isnan(report.score("nasca", language))
        else:
            assert report.score("nasca", language) == pytest.approx(float(sum(known) / len(known)))
    scores = [report.score("nasca", language) for language in report.languages]
    mean = sum(scores) / len(scores)
    assert report.score("nasca") == pytest.approx(mean, nan_ok=True)
    assert report.curve("nasca") == pytest.approx(
        [
            sum(column) / len(column)
            for column in zip(*(report.curve("nasca", x) for x in report.languages), strict=True)
        ],
        nan_ok=True,
    )


@given(reports())
def test_the_long_table_has_every_cell(report):
    rows = report.rows()
    assert len(rows) == len(report.languages) * len(report.layers("nasca"))
    assert list(rows[0]) == ["step", "language", "layer", "metric", "score", "low", "high"]
    for row in rows:
        place = report.layers("nasca").index(row["layer"])
        expected = report.curve("nasca", row["language"])[place]
        assert row["score"] == pytest.approx(expected, nan_ok=True)


def by_hand():
    scores = MetricScores(
        layers=(0, 1, 2),
        hits={"a": (0b0001, 0b0011, 0b1111), "b": (0b0000, 0b0111, 0b0001)},
        pivot_to_target={"a": (1, 2, 4), "b": (1, 3, 2)},
        target_to_pivot={"a": (2, 2, 4), "b": (0, 3, 3)},
        mutual={"a": (4, 4, 4), "b": (2, 3, 3)},
        intervals={"a": (0.1, 0.9), "b": (0.0, 0.5), "mean": (0.2, 0.6)},
        layer_intervals={"a": ((0.1, 0.4), (0.25, 0.5), (0.9, 1.0)), "b": ((0, 1),) * 3},
        sole_blocks={"a": (0, 1, 0, 2), "b": (0, 0, 0, 0)},
        second_differences={"a": (1, -1, 0, 0), "b": (0, 0, 0, 0)},
        blockers={"a": (7, 3, 0, 2), "b": (4, 0, 8)},
        hubs={"a": (Hub("pivot", 3, 2, 2), None, None), "b": (None,) * 3},
        hub_limited=("b",),
    )
    return AlignmentReport(
        step=5,
        pivot="p",
        languages=("a", "b"),
        n_pairs=4,
        metrics={"nasca": scores},
        fingerprint={},
        run={"seconds": 2},
    )


def test_numbers_by_hand():
    report = by_hand()
    assert report.curve("nasca", "a") == (0.25, 0.5, 1.0)
    assert report.curve("nasca") == (0.125, 0.625, 0.625)
    assert report.score("nasca", "b") == pytest.approx(1 / 3)
    assert report.score("nasca") == pytest.approx(11 / 24)
    assert report.peak("nasca") == (1, 0.625)
    assert report.peak("nasca", "a") == (2, 1.0)
    assert report.retrieval("nasca", "a") == (7 / 12, 8 / 12)
    assert report.shuffled_baseline("nasca", "a") == 4 / 16
    assert report.chance == 1 / 7
    assert report.thirds("nasca") == (0.125, 0.625, 0.625)
    assert report.interval("nasca") == (0.2, 0.6)


def test_the_interval_of_one_layer():
    report = by_hand()
    assert report.layer_interval("nasca", "a", 1) == (0.25, 0.5)


def test_a_score_at_another_size_by_hand():
    # Among 2 of 4 pairs a pair with 1 blocker stays aligned in 2 of 3 cases, with 3 in none.
    report = by_hand()
    assert report.score_at(2, "nasca", "a") == pytest.approx((7 + 3 * 2 / 3) / 12)
    assert report.score_at(4, "nasca", "a") == pytest.approx(report.score("nasca", "a"))
    assert report.score_at(1, "nasca") == 1
    for n in (0, 5):
        with pytest.raises(ValueError, match="n must be from 1 to 4, the pairs of a report"):
            report.score_at(n, "nasca")


def test_entries_are_added_in_a_new_report():
    report = by_hand()
    text = report.to_json()
    timed = report.with_run(loss=1.5)
    assert timed.run == {"seconds": 2, "loss": 1.5}
    assert timed == report
    named = report.with_model(optimizer_weights="training").with_model(dtype="float32")
    assert named.fingerprint == {
        "model": {"optimizer_weights": "training", "dtype": "float32"},
    }
    assert named != report
    assert report.to_json() == text


def test_scalars_have_the_fixed_keys():
    assert list(by_hand().scalars()) == [
        "neuronxa/nasca/mean",
        "neuronxa/nasca/mean/low",
        "neuronxa/nasca/mean/high",
        "neuronxa/nasca/a",
        "neuronxa/nasca/a/low",
        "neuronxa/nasca/a/high",
        "neuronxa/nasca/b",
        "neuronxa/nasca/b/low",
        "neuronxa/nasca/b/high",
        "neuronxa/nasca/chance",
        "neuronxa/nasca/peak",
        "neuronxa/nasca/early",
        "neuronxa/nasca/middle",
        "neuronxa/nasca/late",
        "neuronxa/seconds",
    ]
    assert all(type(value) is float for value in by_hand().scalars().values())


def test_the_words_of_the_keys_are_reserved():
    assert parallel.RESERVED == RESERVED


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda r: r.score("navca"), "this report has no metric 'navca' (it has: nasca)"),
        (
            lambda r: r.layer_interval("nasca", "a", 3),
            "nasca has no layer 3 in this report (it has: 0, 1, 2)",
        ),
        (
            lambda r: r.layer_interval("nasca", "group:x", 1),
            "this report has no language 'group:x' (it has: a, b)",
        ),
        (lambda r: r.curve("nasca", "c"), "this report has no language 'c' (it has: a, b)"),
    ],
)
def test_unknown_names_are_named(ask, words):
    with pytest.raises(KeyError) as error:
        ask(by_hand())
    assert error.value.args[0] == words


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 99}', "not json", '{"schema": 1}'])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"^not an alignment report: "):
        AlignmentReport.from_json(text)


def test_another_schema_is_refused():
    with pytest.raises(ValueError, match="schema") as error:
        AlignmentReport.from_json(by_hand().to_json().replace('"schema":3', '"schema":1'))
    assert str(error.value) == "not an alignment report: schema must be 3, got 1"
