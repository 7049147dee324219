"""``neuronxa compare``."""

import json
import math

import pytest

from tests.helpers.reports import make_report
from tests.helpers.shell import LANGUAGES


def test_compare_prints_the_differences(neuronxa, run):
    code, out, _ = neuronxa("compare", f"{run}@first", run)
    assert code == 0
    assert "nasca at step 6 against step 0" in out
    code, out, _ = neuronxa("compare", f"{run}@2", f"{run}@best", "--metric", "navca", "--json")
    diff = json.loads(out)
    assert diff["metric"] == "navca"
    assert list(diff["languages"]) == list(LANGUAGES)
    assert {"difference", "low", "high", "p", "significant"} == set(diff["languages"]["deu_Latn"])


def test_compare_can_fail_on_a_drop(neuronxa, tmp_path):
    for name, score in (("high", 0.8), ("low", 0.4)):
        report = make_report(scores={"deu_Latn": score})
        (tmp_path / f"{name}.json").write_text(report.to_json())
    high, low = tmp_path / "high.json", tmp_path / "low.json"
    assert neuronxa("compare", high, low)[0] == 0
    assert neuronxa("compare", high, low, "--fail-on-drop")[0] == 1
    assert neuronxa("compare", low, high, "--fail-on-drop")[0] == 0


def test_compare_refuses_reports_of_different_measurements(neuronxa, run, saved, tmp_path):
    _, out, _ = neuronxa("score", saved, "--languages", "de", "--n-pairs", 10, "--json")
    (tmp_path / "one.json").write_text(out)
    code, _, err = neuronxa("compare", tmp_path / "one.json", run)
    assert code == 2
    assert err.startswith("neuronxa: reports of one curve must agree in definition, but ")


def test_compare_names_a_missing_report_run_or_metric(neuronxa, run, tmp_path):
    code, _, err = neuronxa("compare", f"{run}@3", run)
    assert code == 2
    assert "must have a report of step '3', it has: 0, 2, 4, 6" in err
    code, _, err = neuronxa("compare", tmp_path / "none", run)
    assert code == 2
    assert err.startswith("neuronxa: a run must be a JSONL file of reports or a folder that holds")
    code, _, err = neuronxa("compare", run, run, "--metric", "nascar")
    assert code == 2
    assert "did you mean 'nasca'" in err


def write_reports(folder, name, *reports):
    path = folder / name
    path.write_text("".join(f"{report.to_json()}\n" for report in reports), encoding="utf-8")
    return path


def test_a_score_that_became_nan_is_a_drop_and_null(neuronxa, tmp_path):
    fine = make_report(0, {"deu_Latn": 0.5, "swh_Latn": 0.3})
    lost = make_report(5, {"deu_Latn": math.nan, "swh_Latn": 0.3})
    one, other = (
        write_reports(tmp_path, "one.json", fine),
        write_reports(tmp_path, "other.json", lost),
    )
    code, out, err = neuronxa("compare", one, other, "--fail-on-drop")
    assert code == 1
    assert err == "neuronxa: deu_Latn: the new score is NaN, which counts as a drop\n"
    assert "+nan" not in out
    code, out, _ = neuronxa("compare", one, other, "--fail-on-drop", "--json")
    diff = json.loads(out, parse_constant=pytest.fail)
    assert code == 1
    assert diff["dropped"] == ["deu_Latn"]
    assert diff["languages"]["deu_Latn"]["p"] is None
    assert diff["languages"]["swh_Latn"]["difference"] == 0
    code, out, err = neuronxa("compare", other, one, "--fail-on-drop")
    assert (code, err) == (0, "")


def test_best_is_by_the_metric_and_ignores_nan(neuronxa, tmp_path):
    rows = {
        name: make_report(scores={"deu_Latn": name / 10}).metrics["nasca"] for name in (2, 5, 8)
    }
    first = {0: math.nan, 1: 0.5, 2: 0.8}
    reports = [make_report(step, {"deu_Latn": score}) for step, score in first.items()]
    for report, score in zip(reports, (2, 8, 5), strict=True):
        report.metrics["navca"] = rows[score]
    record = write_reports(tmp_path, "reports.jsonl", *reports)
    for metric, best in (("nasca", 2), ("navca", 1)):
        code, out, _ = neuronxa("compare", record, f"{record}@best", "--metric", metric)
        assert code == 0
        assert f"{metric} at step {best} against step 2" in out
    lost = write_reports(tmp_path, "lost.jsonl", reports[0])
    code, _, err = neuronxa("compare", f"{lost}@best", lost)
    assert code == 2
    assert err == (f"neuronxa: {lost}@best needs a report with a nasca score, all scores are NaN\n")


def test_compare_prints_differences_between_the_models(neuronxa, tmp_path):
    one = write_reports(tmp_path, "one.json", make_report(model={"states": "float32"}))
    other = write_reports(tmp_path, "other.json", make_report(model={"states": "bfloat16"}))
    _, out, _ = neuronxa("compare", one, other)
    assert out.endswith("the models differ in states: float32 before, bfloat16 after\n")
    _, out, _ = neuronxa("compare", one, other, "--json")
    assert json.loads(out)["model"] == {"states": ["float32", "bfloat16"]}
    _, out, _ = neuronxa("compare", one, one)
    assert "differ" not in out.replace("difference", "")


def test_compare_notes_that_the_tokens_differ(neuronxa, tmp_path):
    one, other = (
        write_reports(tmp_path, f"{ids}.json", make_report(model={"token_ids": ids}))
        for ids in ("a1", "b2")
    )
    code, out, err = neuronxa("compare", one, other)
    assert (code, err) == (0, "")
    assert out.count("note: the two models tokenize their sentences differently") == 1
    _, out, _ = neuronxa("compare", one, other, "--json")
    assert "tokenizers" in json.loads(out)["note"]
    _, out, _ = neuronxa("compare", one, one)
    assert "note:" not in out
    assert json.loads(neuronxa("compare", one, one, "--json")[1])["note"] is None


def test_a_tiny_p_value_is_below_a_bound_and_not_0(neuronxa, tmp_path):
    scores = {"deu_Latn": 0.1, "fra_Latn": 0.5, "swh_Latn": 0.4}
    one = write_reports(tmp_path, "one.json", make_report(0, scores))
    other = write_reports(tmp_path, "other.json", make_report(0, scores | {"deu_Latn": 0.9}))
    _, out, _ = neuronxa("compare", one, other)
    assert "< 0.0001  significant" in out
    assert "1.0000" in out
    assert "0.0000" not in out


def test_compare_names_a_line_that_is_not_a_report_and_reads_the_others(neuronxa, tmp_path):
    record = write_reports(tmp_path, "reports.jsonl", *map(make_report, (0, 5, 10)))
    lines = record.read_text().splitlines()
    record.write_text("\n".join((lines[0], lines[1][:99], lines[2])))
    code, out, err = neuronxa("compare", f"{record}@first", f"{record}@last")
    assert code == 0
    assert "nasca at step 10 against step 0" in out
    assert f"neuronxa: {record}:2 is left out: not an alignment report: " in err


def test_compare_lays_runs_of_different_sizes_side_by_side(neuronxa, tmp_path):
    one = write_reports(tmp_path, "one.json", make_report(scores={"deu_Latn": 0.5}, n_pairs=50))
    large = make_report(scores={"deu_Latn": 0.4}, n_pairs=200)
    other = write_reports(tmp_path, "other.json", large)
    code, _, err = neuronxa("compare", one, other)
    assert code == 2
    assert "n_pairs is 50 in one and 200 in the other" in err
    code, out, _ = neuronxa("compare", one, other, "--at-n", 50)
    assert code == 0
    assert "nasca at step 0 against step 0, among 50 pairs" in out
    _, out, _ = neuronxa("compare", one, other, "--at-n", 50, "--json")
    assert json.loads(out)["at_n"] == 50
    code, _, err = neuronxa("compare", one, other, "--at-n", 100)
    assert code == 2
    assert err == "neuronxa: at_n must be from 2 to 50, the pairs of both reports, got 100\n"


def test_names_in_a_record_cannot_steer_the_terminal(neuronxa, tmp_path):
    hostile = "x\x1b[2Jy\u202ez\x9b1m"
    report = make_report(scores={hostile: 0.5}, model={"states": hostile})
    one = write_reports(tmp_path, "one.json", report)
    other = write_reports(tmp_path, "other.json", make_report(scores={hostile: 0.4}))
    broken = write_reports(tmp_path, f"{hostile}.json", report)
    broken.write_text(broken.read_text() + "no report\n")
    for arguments in ((one, other), (broken, other, "--fail-on-drop"), (one, "--json", other)):
        _, out, err = neuronxa("compare", *arguments)
        assert all(letter.isprintable() or letter == "\n" for letter in out + err)
    assert list(json.loads(out)["languages"]) == [hostile]
    _, out, err = neuronxa("compare", f"{tmp_path}/{hostile}", other)
    assert "x[2Jyz1m" in err or "\\x1b" in err
    assert all(letter.isprintable() or letter == "\n" for letter in out + err)


def test_groups_of_languages_are_compared(neuronxa, tmp_path):
    for name, score in (("high", 0.8), ("low", 0.4)):
        report = make_report(scores={"a": score, "b": score}, groups={"mine": ("a", "b")})
        (tmp_path / f"{name}.json").write_text(report.to_json())
    code, out, _ = neuronxa("compare", tmp_path / "high.json", tmp_path / "low.json")
    assert code == 0
    assert "nasca of groups of languages" in out
    code, out, _ = neuronxa("compare", tmp_path / "high.json", tmp_path / "low.json", "--json")
    assert json.loads(out)["groups"]["mine"]["difference"] == pytest.approx(-0.4)


def test_groups_of_runs_are_compared(neuronxa, tmp_path):
    for name, scores in {"a": (0.5, 0.52, 0.54), "b": (0.3, 0.31, 0.33)}.items():
        for seed, score in enumerate(scores):
            write_reports(tmp_path, f"{name}{seed}.jsonl", make_report(5, {"deu": score}))
    groups = ("--group", f"A={tmp_path}/a*", "--group", f"B={tmp_path}/b*@last")
    code, out, _ = neuronxa("compare", *groups)
    assert code == 0
    assert "nasca of B against A, runs as the unit" in out
    code, out, err = neuronxa("compare", *groups, "--json", "--fail-on-drop")
    assert code == 1
    assert "deu: significantly lower, by 0.207" in err
    found = json.loads(out)
    assert [run["step"] for run in found["runs"]["A"]] == [5, 5, 5]
    assert found["differences"]["deu"]["A"]["mean"] == pytest.approx(0.52)
    assert found["differences"]["mean"]["difference"] == pytest.approx(-0.2067, abs=1e-4)


def test_groups_of_runs_that_cannot_be_compared_are_refused(neuronxa, run, tmp_path):
    for arguments, message in (
        ((run,), "compare needs two reports, or two groups of runs"),
        ((run, run, "--group", f"A={run}"), "compare needs two reports, or two groups of runs"),
        (("--group", f"A={run}", "--group", f"B={run}"), "a group needs at least 2 runs"),
        (("--group", f"A={run}", "--group", f"A={run}"), "names that differ, got 'A' twice"),
        (("--group", f"A={run}", "--group", str(run)), "--group must be a name and a pattern"),
        (("--group", f"A={run}", "--group", f"B={tmp_path}/z*"), "must match at least one run"),
        (("--group", f"A={run}", "--group", f"B={run}", "--at-n", "5"), "leave it out"),
    ):
        code, _, err = neuronxa("compare", *arguments)
        assert code == 2
        assert message in err


NAMES = ("exp@v2", "lr[1e-3]", "a,b", "c,d@1", "plain")


@pytest.fixture
def odd(tmp_path):
    """Runs of two reports in folders whose names have a meaning in a pattern."""
    for name in NAMES:
        (tmp_path / name / "neuronxa").mkdir(parents=True)
        reports = [make_report(step, {"deu": 0.5 + step / 100}) for step in (1, 5)]
        write_reports(tmp_path / name / "neuronxa", "reports.jsonl", *reports)
    return tmp_path


@pytest.mark.parametrize(
    ("group", "runs"),
    [
        ("exp@v2,plain", {"exp@v2": 5, "plain": 5}),
        ("exp@v2@1,plain@first", {"exp@v2": 1, "plain": 1}),
        ("lr[1e-3],plain", {"lr[1e-3]": 5, "plain": 5}),
        ("lr[1e-3]@first,plain", {"lr[1e-3]": 1, "plain": 5}),
        ("a,b,plain", {"a,b": 5, "plain": 5}),
        ("plain,a,b@1", {"plain": 5, "a,b": 1}),
        ("c,d@1,a,b", {"c,d@1": 5, "a,b": 5}),
        ("exp@*,pl*@1", {"exp@v2": 5, "plain": 1}),
        ("exp*@1,lr*", {"exp@v2": 1, "lr[1e-3]": 5}),
    ],
)
def test_a_path_of_a_group_is_tried_as_it_is_written(neuronxa, odd, monkeypatch, group, runs):
    monkeypatch.chdir(odd)
    code, out, err = neuronxa(
        "compare", "--group", f"A={group}", "--group", "B=plain,exp@v2", "--json"
    )
    assert (code, err) == (0, "")
    found = {run["run"]: run["step"] for run in json.loads(out)["runs"]["A"]}
    assert found == runs


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_is_an_error_of_a_command(neuronxa_on_full_disk, run, options):
    code, _, err = neuronxa_on_full_disk("compare", f"{run}@first", run, *options)
    assert code == 2
    assert err == (
        "neuronxa: the result must be printed to standard output, which fails: No space left on"
        " device; send it where all of it can be written\n"
    )


def test_a_full_disk_is_an_error_before_a_drop(neuronxa_on_full_disk, tmp_path):
    for name, score in (("high", 0.8), ("low", 0.4)):
        report = make_report(scores={"deu_Latn": score})
        (tmp_path / f"{name}.json").write_text(report.to_json())
    high, low = tmp_path / "high.json", tmp_path / "low.json"
    assert neuronxa_on_full_disk("compare", high, low, "--fail-on-drop")[0] == 2
