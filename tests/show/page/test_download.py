"""CSV files of what the page shows, in a real browser."""

import csv
import io
import json
import math
from contextlib import contextmanager

import pytest

from neuronxa_callback.show.long_table import plain_cell
from neuronxa_callback.show.page.page import write_page
from tests.helpers.pages import LANGUAGES, rising
from tests.helpers.reports import make_report

pytestmark = pytest.mark.browser


@contextmanager
def downloads(tab, folder):
    """Lets the tab write files into a folder."""
    tab.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    yield
    tab.send("Browser.setDownloadBehavior", behavior="default")


def downloaded(tab, folder, selector, name):
    """The rows of the file that a button writes."""
    with downloads(tab, folder):
        tab.click(selector)
        file = folder / name
        tab.wait("new Promise((done) => setTimeout(() => done(true), 300))")
        for _ in range(50):
            if file.exists() and file.stat().st_size:
                break
            tab.wait("new Promise((done) => setTimeout(() => done(true), 100))")
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))


def number(text):
    return math.nan if text == "" else float(text)


def test_the_heat_map_is_downloaded_as_it_is_shown(tab, one, tmp_path):
    tab.open(one)
    tab.click("#chips [data-code=fra_Latn]")
    tab.wait("document.querySelector('#heat').data[0].z.length === 3")
    tab.click("#before")
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '100'")
    rows = downloaded(tab, tmp_path, "#heat-options .csv", "nasca-by-layer.csv")
    report = rising()[1]
    shown = [name for name in LANGUAGES if name != "fra_Latn"]
    assert [(row["language"], row["layer"]) for row in rows] == [
        (name, str(layer)) for name in (*shown, "mean") for layer in report.layers("nasca")
    ]
    for row in rows:
        name, layer = row["language"], int(row["layer"])
        assert (row["run"], row["step"], row["metric"]) == ("main", "100", "nasca")
        curve = report.curve("nasca", None if name == "mean" else name)
        assert number(row["score"]) == pytest.approx(curve[layer], nan_ok=True)
        if name != "mean":
            ends = report.layer_interval("nasca", name, layer)
            found = [number(row[end]) for end in ("low", "high")]
            assert found == pytest.approx(ends, abs=0.0021, nan_ok=True)


def test_differences_are_downloaded_with_what_was_subtracted(tab, one, tmp_path):
    tab.open(one)
    tab.value("minus.value = 'first'; minus.dispatchEvent(new Event('change'))")
    tab.wait("document.querySelector('#heat').data.length === 2")
    rows = downloaded(tab, tmp_path, "#heat-options .csv", "nasca-by-layer.csv")
    first, *_, last = rising()
    row = next(row for row in rows if (row["language"], row["layer"]) == ("deu_Latn", "2"))
    assert (row["minus_run"], row["minus_step"]) == ("main", "0")
    wanted = last.curve("nasca", "deu_Latn")[2] - first.curve("nasca", "deu_Latn")[2]
    assert float(row["difference"]) == pytest.approx(wanted)
    assert float(row["low"]) < wanted < float(row["high"])


def test_scores_over_steps_and_the_table_are_downloaded(tab, one, tmp_path):
    tab.open(one)
    rows = downloaded(tab, tmp_path, "#over-steps-options .csv", "nasca-over-steps.csv")
    reports = rising()
    assert len(rows) == len(reports) * (len(LANGUAGES) + 1)
    for row in rows:
        report = next(each for each in reports if each.step == int(row["step"]))
        name = None if row["language"] == "mean" else row["language"]
        assert number(row["score"]) == pytest.approx(report.score("nasca", name), nan_ok=True)
        ends = [number(row[end]) for end in ("low", "high")]
        assert ends == pytest.approx(report.interval("nasca", name), abs=1e-6, nan_ok=True)
        assert float(row["loss"]) == report.run["loss"]
    tab.click("th[data-key=code] button")
    tab.click("th[data-key=code] button")
    rows = downloaded(tab, tmp_path, "#languages-options .csv", "nasca-languages.csv")
    assert [row["code"] for row in rows] == [*sorted(LANGUAGES)[::-1], "mean"]
    last = reports[-1]
    assert [number(row["score"]) for row in rows] == pytest.approx(
        [last.score("nasca", name) for name in (*sorted(LANGUAGES)[::-1], None)]
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx", "\rx", 'a"b,c', "x\ny", "plain"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(tab, one, text):
    tab.open(one)
    found = tab.value(f"neuronxa.csv(['t', 'n'], [[{json.dumps(text)}, -0.5], [null, 1]])")
    rows = list(csv.reader(io.StringIO(found, newline="")))
    assert rows == [["t", "n"], [plain_cell(text), "-0.5"], ["", "1"]]


def test_a_name_like_a_formula_is_text_in_the_file(tab, folder, tmp_path):
    name = '=HYPERLINK("http://127.0.0.1:9/")'
    report = make_report(scores={name: 0.5, "deu_Latn": 0.25}, warnings=[f"{name}: @odd"])
    write_page({"-run": [report]}, folder / "formula.html")
    tab.open(folder / "formula.html")
    rows = downloaded(tab, tmp_path, "#languages-options .csv", "nasca-languages.csv")
    assert rows[0]["code"] == f"'{name}"
    assert rows[0]["run"] == "'-run"
    assert rows[0]["warnings"] == "'@odd"
    assert "change" not in rows[0]
