"""``neuronxa page``."""

import base64
import re
import zlib

import pytest

from neuronxa_callback import ParallelCorpus
from tests.helpers import browser
from tests.helpers.pages import unpacked
from tests.helpers.reports import make_report


def write_record_with_a_bad_line(record):
    lines = [make_report(step).to_json() for step in (0, 5, 10)]
    lines[1] = lines[1][: len(lines[1]) // 2]
    record.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_page_names_lines_that_are_not_reports(neuronxa, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    record, page = tmp_path / "reports.jsonl", tmp_path / "page.html"
    write_record_with_a_bad_line(record)
    code, out, err = neuronxa("page", record, "-o", page)
    assert (code, out) == (0, f"{page}\n")
    assert err.startswith(f"neuronxa: {record}:2 is left out: not an alignment report")
    assert page.stat().st_size > 10_000


@pytest.mark.browser
def test_a_browser_shows_runs_by_their_folders_and_bad_lines(neuronxa, run, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    if browser.find() is None:
        pytest.skip("no Chromium here (`apt-get install chromium`)")
    other = tmp_path / "other" / "out"
    other.mkdir(parents=True)
    write_record_with_a_bad_line(other / "reports.jsonl")
    code, _, _ = neuronxa("page", run, other, "-o", tmp_path / "both.html")
    assert code == 0
    with browser.Browser() as chromium:
        chromium.open(tmp_path / "both.html")
        text = chromium.value("document.body.textContent")
    assert run.name in text
    assert "out" in text.split()
    assert "reports.jsonl:2 is left out" in text


def test_page_refuses_an_output_that_cannot_be_written(neuronxa, tmp_path):
    out = tmp_path / "nowhere" / "page.html"
    code, _, err = neuronxa("page", tmp_path, "-o", out)
    message = f"neuronxa: the folder of --out must exist, there is no {str(out.parent)!r}\n"
    assert (code, err) == (2, message)
    code, _, err = neuronxa("page", tmp_path, "-o", tmp_path)
    assert code == 2
    assert "Invalid value for '--out'" in err


def test_page_refuses_mixed_measurements_and_empty_records(neuronxa, tmp_path):
    record = tmp_path / "reports.jsonl"
    mixed = (make_report(0), make_report(5, n_pairs=50))
    record.write_text("".join(f"{report.to_json()}\n" for report in mixed), encoding="utf-8")
    code, _, err = neuronxa("page", record)
    assert code == 2
    assert "must agree in definition, but n_pairs is 100 in one and 50 in the other" in err
    record.write_text("", encoding="utf-8")
    code, _, err = neuronxa("page", record)
    assert (code, err) == (2, f"neuronxa: a run must have at least one report, {record} has none\n")
    code, _, err = neuronxa("page", tmp_path / "none")
    assert code == 2
    assert err.startswith("neuronxa: a run must be a JSONL file of reports or a folder that holds")


def write_run(folder, *reports):
    folder.mkdir(parents=True)
    lines = "".join(f"{report.to_json()}\n" for report in reports)
    (folder / "reports.jsonl").write_text(lines, encoding="utf-8")
    return folder


def page_data(path):
    return unpacked(path.read_text(encoding="utf-8"))[0]


def test_page_warns_that_runs_are_not_comparable(neuronxa, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    one = write_run(tmp_path / "one", make_report())
    same = write_run(tmp_path / "same", make_report(10))
    other = write_run(tmp_path / "other", make_report(n_pairs=50))
    out = tmp_path / "page.html"
    code, _, err = neuronxa("page", one, same, other, "-o", out)
    note = (
        "one and other do not measure the same thing, so their scores are not comparable"
        " (different: n_pairs)"
    )
    assert (code, err) == (0, f"neuronxa: {note}\n")
    assert page_data(out)["notes"] == [note]
    assert [run["measurement"] for run in page_data(out)["runs"]] == [0, 0, 1]
    assert neuronxa("page", one, same, "-o", out) == (0, f"{out}\n", "")


def test_page_takes_groups_of_runs(neuronxa, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    for name in ("a/seed0", "a/seed1", "b/seed0", "b/seed1"):
        write_run(tmp_path / name, make_report(0), make_report(10))
    out = tmp_path / "page.html"
    groups = [f"{name}={tmp_path}/{name.lower()}/*" for name in "AB"]
    options = (f"--group={groups[0]}", f"--group={groups[1]}", "-o", out)
    code, _, err = neuronxa("page", tmp_path / "a" / "seed0", *options)
    assert (code, err) == (0, "")
    data = page_data(out)
    assert [run["name"] for run in data["runs"]] == ["a/seed0", "a/seed1", "b/seed0", "b/seed1"]
    assert {each["name"]: each["runs"] for each in data["run_groups"]["groups"]} == {
        "A": ["a/seed0", "a/seed1"],
        "B": ["b/seed0", "b/seed1"],
    }
    code, _, err = neuronxa("page", f"--group=A={tmp_path}/a/*", f"--group=A={tmp_path}/b/*")
    assert code == 2
    assert err.startswith("neuronxa: the groups must have names that differ, got A=")
    code, _, err = neuronxa("page", f"--group=A={tmp_path}/a/seed0", "-o", out)
    assert (code, err) == (
        2,
        "neuronxa: a group needs at least 2 runs to know how runs differ, got 1\n",
    )
    code, _, err = neuronxa("page")
    assert (code, err) == (
        2,
        "neuronxa: page needs at least one run, or groups of runs: --group A=runs/a*\n",
    )


def test_page_takes_downstream_scores(neuronxa, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    codes = ("deu", "fra", "spa", "swh", "tur", "vie", "ces", "ind")
    levels = {f"{code}_Latn": (k + 1) / 10 for k, code in enumerate(codes)}
    early = {name: 1 - level for name, level in levels.items()}
    run = write_run(tmp_path / "run", make_report(0, levels), make_report(10, early))
    scores = tmp_path / "scores.csv"
    rows = [
        f"{code},{task},{k + k % 2},0" for task in ("xnli", "mmlu") for k, code in enumerate(codes)
    ]
    scores.write_text("\n".join(["language,task,score,step", *rows, "eng,xnli,9,0"]) + "\n")
    out = tmp_path / "page.html"
    code, _, err = neuronxa("page", run, "--scores", scores, "-o", out)
    assert (code, err) == (0, "")
    found = page_data(out)["scatter"]
    assert [(each["task"], each["step"], each["run"]) for each in found["found"][::2]] == [
        ("xnli", 0, "run"),
        ("mmlu", 0, "run"),
    ]
    assert found["found"][0]["r"] > 0.9, "the scores are those of step 0"
    assert any("eng" in note for note in found["notes"])
    code, _, _ = neuronxa("page", run, "--scores", scores, "--task", "mm", "-o", out)
    assert {each["task"] for each in page_data(out)["scatter"]["found"]} == {"mmlu"}
    code, _, err = neuronxa("page", run, "--task", "mm", "-o", out)
    assert (code, err) == (
        2,
        "neuronxa: --task chooses among downstream scores, name their file with --scores\n",
    )
    scores.write_text("language,task,score\nde,xnli,1\nfr,xnli,2\n")
    code, _, err = neuronxa("page", run, "--scores", scores, "-o", out)
    assert code == 2
    assert err.startswith(
        "neuronxa: xnli needs scores of at least 8 languages of the report of run"
    )


def test_the_sentences_of_pairs_are_in_the_page_only_with_text(neuronxa, run, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    pairs = ParallelCorpus.builtin(languages=("deu_Latn",)).pairs["deu_Latn"][:10]
    for options, has_text in (((), False), (("--with-text",), True)):
        code, _, err = neuronxa("page", run, *options, "-o", tmp_path / "page.html")
        assert (code, err) == (0, "")
        html = (tmp_path / "page.html").read_text(encoding="utf-8")
        packed = re.search(r'\{"zlib": "([^"]+)"\}', html)[1]
        data = zlib.decompress(base64.b64decode(packed))
        # A hub of the built-in sentences is named in the notes.
        assert all(target.encode() in data for _, target in pairs) == has_text
        assert (b'"sentences": {' in data) == has_text


def test_sentences_that_are_not_at_hand_are_named(neuronxa, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    (tmp_path / "reports.jsonl").write_text(make_report(0).to_json() + "\n", encoding="utf-8")
    code, _, err = neuronxa("page", tmp_path, "--with-text", "-o", tmp_path / "page.html")
    assert code == 0
    assert "the sentences of custom are shown with --corpus" in err
