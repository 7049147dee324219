"""Which texts are reports: the rules, the published JSON Schema, and 2,000 damaged lines."""

import json
import math
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from neuronxa_callback import AlignmentReport, NeuronXAError, read_reports
from neuronxa_callback.history.points import Point
from neuronxa_callback.history.records import Record
from neuronxa_callback.report_schema import MAX_DEPTH, SCHEMA
from neuronxa_callback.show.page.data import pack
from neuronxa_callback.show.probe_line import line
from tests.helpers.mutations import damaged_texts, nested, replaced

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "data" / f"report_schema_{SCHEMA}.jsonl"
LINES = KEPT.read_text(encoding="utf-8").splitlines()
REAL = json.loads(LINES[1])
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
)


def test_a_kept_record_of_this_schema_is_read():
    reports = read_reports(KEPT)
    assert [report.step for report in reports] == [0, 2, 4]
    for report, text in zip(reports, LINES, strict=True):
        assert report.to_json() == text
        assert list(VALIDATOR.iter_errors(json.loads(text))) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes at line 1, column 2"),
        ("", "Expecting value at line 1, column 1"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a": 1e999, "b": Infinity}', "Infinity is not JSON, NaN is written as null"),
    ],
)
def test_a_text_that_is_not_json_is_refused_in_words(text, reason):
    with pytest.raises(NeuronXAError) as error:
        AlignmentReport.from_json(text)
    assert str(error.value) == (
        f"not an alignment report: the line must be one JSON object: {reason}"
    )


def check(text):
    """The rule: a named error, or a whole report that loses nothing; True for a report."""
    try:
        report = AlignmentReport.from_json(text)
    except NeuronXAError as error:
        message = str(error)
        report = None
    if report is None:
        assert message.startswith("not an alignment report: ")
        assert len(message) < 600
        return False
    again = AlignmentReport.from_json(report.to_json().encode().decode())
    assert again == report
    assert again.run == report.run
    assert list(VALIDATOR.iter_errors(report.to_dict())) == []
    rows = [row[name] for row in report.rows() for name in ("score", "low", "high")]
    scores = [v for k, v in report.scalars().items() if not k.endswith("seconds")]
    scores += [report.score_at(1, metric) for metric in report.metrics]
    scores += [share for metric in report.metrics for share in report.retrieval(metric)]
    assert all(math.isnan(score) or 0 <= score <= 1 for score in (*rows, *scores))
    point = Point.of(report)
    for metric in report.metrics:
        expected = report.score(metric)
        assert point.score(metric) == pytest.approx(expected, nan_ok=True)
    assert pack({"run": [report]}, [])
    assert line(report)
    return True


OUTCOMES = {True: 0, False: 0}


@settings(
    max_examples=2000, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(damaged_texts(REAL))
def count_outcome(text):
    OUTCOMES[check(text)] += 1


@pytest.mark.slow
def test_a_damaged_line_is_an_error_or_a_report_that_loses_nothing():
    count_outcome()
    assert min(OUTCOMES.values()) > 100
    assert sum(OUTCOMES.values()) >= 2000


N, L = REAL["n_pairs"], ("metrics", "nasca")
DAMAGED = {
    "a text as step": (("step",), "10"),
    "a bool as step": (("step",), True),
    "a negative step": (("step",), -1),
    "a step of 400 digits": (("step",), 10**400),
    "no languages": (("languages",), []),
    "a language twice": (("languages",), ["deu_Latn", "deu_Latn"]),
    "a language less": (("languages",), ["deu_Latn"]),
    "a reserved name": (("languages", 0), "mean"),
    "no metrics": (("metrics",), {}),
    "a metric that the definition lacks": (("fingerprint", "definition", "metrics"), {"mexa": 1}),
    "more pairs than masks": (("n_pairs",), 100),
    "fewer pairs than masks": (("n_pairs",), 9),
    "a negative count": ((*L, "mutual", "deu_Latn", 0), -3),
    "a count above n": ((*L, "pivot_to_target", "fra_Latn", 1), N + 1),
    "a count of one and a half": ((*L, "target_to_pivot", "fra_Latn", 1), 1.5),
    "a mask of more pairs": ((*L, "hits", "deu_Latn", 0), "fff"),
    "a mask with a sign": ((*L, "hits", "deu_Latn", 0), "-01"),
    "a mask with an underscore": ((*L, "hits", "deu_Latn", 0), "1_1"),
    "NaN in one field only": ((*L, "hits", "deu_Latn", 0), None),
    "a layer less": ((*L, "layers"), [0, 1]),
    "a layer twice": ((*L, "layers"), [0, 1, 1]),
    "an interval in the wrong order": ((*L, "intervals", "mean"), [0.5, 0.4]),
    "an interval above 1": ((*L, "layer_intervals", "fra_Latn", 2), [0.4, 1.2]),
    "three ends of an interval": ((*L, "intervals", "deu_Latn"), [0.1, 0.2, 0.3]),
    "no interval of the mean": ((*L, "intervals"), {"deu_Latn": [0, 1], "fra_Latn": [0, 1]}),
    "no verdicts": ((*L, "blockers", "deu_Latn"), [0, 0]),
    "too many verdicts": ((*L, "blockers", "deu_Latn", 0), 20),
    "pairs that are too few": ((*L, "sole_blocks", "deu_Latn"), [0] * (N - 1)),
    "a number that numpy cannot hold": ((*L, "second_differences", "deu_Latn", 0), 2**40),
    "a hub that is no pair": (("metrics", "navca", "hubs", "deu_Latn", 0), ["pivot", N, 1, 1]),
    "a hub of no side": (("metrics", "navca", "hubs", "deu_Latn", 0), ["both", 1, 1, 1]),
    "an unknown language that is limited": ((*L, "hub_limited"), ["swh_Latn"]),
    "a warning that is no text": (("warnings",), [1]),
    "a part of the fingerprint that is a list": (("fingerprint", "model"), []),
    "deep diagnostics": (("diagnostics", "deep"), nested(MAX_DEPTH + 1)),
    "seconds that are text": (("run", "seconds"), "fast"),
    "negative seconds": (("run", "sink_seconds"), -1),
    "an id that is a number": (("run", "id"), 7),
    "a newer schema": (("schema",), SCHEMA + 1),
    "a schema that is a float": (("schema",), float(SCHEMA)),
    "an unknown field": (("extra",), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_report_that_contradicts_itself_is_refused(name):
    assert not check(json.dumps(replaced(REAL, *DAMAGED[name])))


@pytest.mark.parametrize(
    ("start", "end"),
    [("[", ""), ('{"a":', ""), ("[", "]"), ("9", ""), ("{", "}"), ('"\\ud800', '"')],
)
def test_a_hundred_thousand_brackets_or_digits_are_refused(start, end):
    assert not check(start * 100_000 + end * 100_000)
    assert not check(LINES[0].replace('"diagnostics":{', f'"diagnostics":{{"x":{start * 100_000},'))


def test_a_key_that_is_there_twice_is_refused():
    assert not check(LINES[0].replace('"step":0', '"step":0,"step":0'))


def test_every_bad_line_is_named_with_its_reason(tmp_path):
    path = tmp_path / "reports.jsonl"
    bad = [json.dumps(replaced(REAL, *change)) for change in DAMAGED.values()]
    bad += ["[" * 100_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "{}", "7"]
    lines = [LINES[0], *bad, LINES[2]]
    path.write_bytes(b"\n".join(text.encode("utf-8", "surrogatepass") for text in lines))
    assert [report.step for report in read_reports(path)] == [0, 4]
    messages = Record.open(path).skipped
    assert len(messages) == len(bad)
    for number, message in enumerate(messages, start=2):
        assert message.startswith(f"{path}:{number} is left out: not an alignment report: ")
