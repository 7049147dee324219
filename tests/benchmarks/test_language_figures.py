"""The figures of the documents about pairs of languages and perturbations, from made reports."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

from tests.helpers.output.language_pairs import with_pairs
from tests.helpers.reports import make_report

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "languages" / "figures.py"


def test_the_tables_hold_the_scores_of_the_reports(tmp_path, monkeypatch, capsys):
    report = with_pairs(make_report(0, {"a": 0.5, "b": 0.3, "c": 0.1}), ("nasca",))
    entry = {"clean": 0.5, "perturbed": 0.4, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.0}
    costs = {"a": entry, "b": None, "c": None, "mean": entry}
    report = replace(report, diagnostics={"perturbed": {"case": {"nasca": costs}}})
    file, picture = tmp_path / "report.json", tmp_path / "languages.png"
    file.write_text(report.to_json(), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["figures.py", str(file), "--picture", str(picture)])
    monkeypatch.setattr(sys, "exit", lambda code: None)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert ["| eng_Latn", "a", rows[0][2]] == rows[0]
    assert rows[0][2].startswith("0.500 [")
    assert ["| a", "0.500", "0.100 [0.050, 0.150] |"] in rows
    assert ["| b", "0.300", "n/a |"] in rows
    assert picture.read_bytes().startswith(b"\x89PNG")
