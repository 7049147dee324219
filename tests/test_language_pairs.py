"""The table of all pairs of languages: scores, places, JSON, and what a reader refuses."""

import json
import math
from dataclasses import replace
from itertools import combinations

import jsonschema
import pytest

from neuronxa_callback import AlignmentReport
from neuronxa_callback.errors import ReportError
from neuronxa_callback.language_pairs import pair_place
from tests.helpers.documents import DOCS
from tests.helpers.output.language_pairs import with_pairs
from tests.helpers.reports import make_report

SCORES = {"a": 0.5, "b": 0.3, "c": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((DOCS / "report.schema.json").read_text(encoding="utf-8"))
)


@pytest.fixture
def report():
    return with_pairs(make_report(0, SCORES, metrics=("nasca", "navca")), ("nasca",))


def test_every_pair_of_languages_has_a_place_of_its_own():
    for size in range(2, 30):
        places = [pair_place(i, j, size) for i, j in combinations(range(size), 2)]
        assert places == [*range(size * (size - 1) // 2)]


def test_scores_are_symmetric_and_those_of_the_pivot_are_the_ordinary_ones(report):
    table = report.language_pairs["nasca"]
    assert table.languages == ("eng_Latn", "a", "b", "c")
    for name in report.languages:
        assert table.score("eng_Latn", name) == report.score("nasca", name)
        assert table.interval(name, "eng_Latn") == report.interval("nasca", name)
        by_layer = tuple(table.score(name, "eng_Latn", layer) for layer in table.layers)
        assert by_layer == report.curve("nasca", name)
    for layer in (None, *table.layers):
        matrix = table.matrix(layer)
        for i, j in combinations(range(4), 2):
            expected = table.score(table.languages[i], table.languages[j], layer)
            assert matrix[i][j] == matrix[j][i] == expected
        assert [row[i] for i, row in enumerate(matrix)] == [1.0] * 4


def test_an_unknown_name_or_layer_is_named(report):
    table = report.language_pairs["nasca"]
    with pytest.raises(KeyError, match=r"no language 'x' \(it has: eng_Latn, a, b, c\)"):
        table.score("a", "x")
    with pytest.raises(KeyError, match="pairs of two languages, got 'a' twice"):
        table.interval("a", "a")
    with pytest.raises(KeyError, match="no layer 8"):
        table.score("a", "b", 8)


def test_it_survives_json_and_keeps_to_the_published_schema(report):
    again = AlignmentReport.from_json(report.to_json())
    assert again == report
    assert again.language_pairs == report.language_pairs
    assert list(VALIDATOR.iter_errors(report.to_dict())) == []
    plain = replace(report, language_pairs={})
    assert "language_pairs" not in plain.to_dict()
    assert again != plain


def test_nan_in_a_layer_is_nan_in_its_score_and_null_in_json():
    curve = [0.5, math.nan, 0.5]
    report = with_pairs(make_report(0, {"a": curve, "b": [0.2, 0.4, 0.6]}), ("nasca",))
    table = report.language_pairs["nasca"]
    assert math.isnan(table.score("eng_Latn", "a"))
    assert table.score("eng_Latn", "a", 0) == 0.5
    assert math.isnan(table.score("a", "b", 1))
    assert report.to_dict()["language_pairs"]["nasca"]["counts"][1][0] is None
    assert AlignmentReport.from_json(report.to_json()) == report


def damaged(report, change):
    plain = json.loads(report.to_json())
    change(plain["language_pairs"])
    return json.dumps(plain)


DAMAGED = {
    "a list": (lambda t: t["nasca"].update(counts=[]), "counts of 8 layers"),
    "a layer less": (lambda t: t["nasca"]["counts"].pop(), "counts of 8 layers"),
    "a pair less": (lambda t: t["nasca"]["counts"][0].pop(), "6 whole numbers from 0 to 100"),
    "above n": (lambda t: t["nasca"]["counts"][0].__setitem__(5, 101), "6 whole numbers"),
    "a float": (lambda t: t["nasca"]["counts"][0].__setitem__(5, 1.0), "6 whole numbers"),
    "another row of the pivot": (
        lambda t: t["nasca"]["counts"][0].__setitem__(0, 3),
        "the scores of the report in the row of the pivot",
    ),
    "no intervals": (lambda t: t["nasca"].pop("intervals"), "exactly counts and intervals"),
    "an interval less": (lambda t: t["nasca"]["intervals"].pop(), "6 intervals"),
    "ends in the wrong order": (
        lambda t: t["nasca"]["intervals"].__setitem__(5, [0.5, 0.4]),
        r"intervals of two numbers in \[0, 1\]",
    ),
    "another interval of the pivot": (
        lambda t: t["nasca"]["intervals"].__setitem__(0, [0.0, 1.0]),
        "the intervals of the report in the row of the pivot",
    ),
    "a table that is a list": (lambda t: t.update(nasca=[]), "exactly counts and intervals"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_table_that_contradicts_the_report_is_refused(report, name):
    change, message = DAMAGED[name]
    with pytest.raises(ReportError, match=rf"language_pairs\.nasca must have {message}.*, got"):
        AlignmentReport.from_json(damaged(report, change))


def test_a_table_of_a_metric_that_the_report_lacks_is_refused(report):
    text = damaged(report, lambda tables: tables.update(mexa=tables["nasca"]))
    with pytest.raises(ReportError, match="tables of metrics of the report"):
        AlignmentReport.from_json(text)
