"""Output at the terminal: one line per probe, and tables."""

import io
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from neuronxa_callback.errors import NeuronXAError
from neuronxa_callback.history import compare
from neuronxa_callback.history.history import History
from neuronxa_callback.show import probe_line, tables, terminal
from neuronxa_callback.taps.plan import FFNPart, TapPlan
from tests.helpers.reports import make_report


def history_of(*scores):
    history = History()
    reports = [make_report(step=10 * k, scores={"deu_Latn": s}) for k, s in enumerate(scores)]
    for report in reports:
        history.append(report)
    return history, reports[-1]


def text_of(table):
    console = Console(width=160)
    with console.capture() as caught:
        console.print(table)
    return caught.get()


def test_a_line_has_mean_interval_best_worst_and_seconds():
    report = make_report(step=7, scores={"a": 0.5, "b": 0.25}, run={"seconds": 1.26})
    text = probe_line.line(report)
    assert text.startswith("NeuronXA step 7: nasca 0.375 [")
    assert " · best a 0.500, worst b 0.250 · navca 0.375 · 1.3 s" in text
    assert "since" not in text


def test_a_line_names_the_callback_that_has_a_name():
    for run, start in (
        ({"name": "own"}, "NeuronXA own step 1: "),
        ({"name": ""}, "NeuronXA step 1: "),
    ):
        assert probe_line.line(make_report(step=1, run=run)).startswith(f"{start}nasca 0.")


class Full(io.TextIOWrapper):
    """An output on a disk that is full."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_an_output_that_fails_stops_no_training(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(io.BytesIO()))
    terminal.say("a line")
    terminal.show(tables.one_report(make_report()))
    terminal.show_text("a text")


def test_an_output_that_fails_is_an_error_of_a_command_but_not_for_its_progress(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(io.BytesIO()))
    terminal.make_streams_printable()
    terminal.say("a line of a sweep")
    for show in (
        lambda: terminal.show(tables.one_report(make_report())),
        lambda: terminal.show_text("a"),
    ):
        with pytest.raises(NeuronXAError, match="No space left on device"):
            show()


def test_a_line_has_the_changes_since_the_last_the_first_and_the_best():
    history, report = history_of(0.1, 0.8, 0.3, 0.31)
    assert probe_line.changes(history, "nasca") == (
        "significant: +0.210 since the first, -0.490 since the best; "
        "not significant: +0.010 since the last"
    )
    assert f"({probe_line.changes(history, 'nasca')})" in probe_line.line(report, history)


def test_a_probe_that_is_both_last_and_best_is_named_once():
    assert (
        probe_line.changes(history_of(0.1, 0.8)[0], "nasca") == "significant: +0.700 since the last"
    )
    assert probe_line.changes(history_of(0.1)[0], "nasca") == ""


def test_a_change_from_or_to_nan_is_unknown():
    assert probe_line.changes(history_of(0.1, math.nan)[0], "nasca") == "change unknown"


def test_the_table_of_a_report_has_every_language_and_the_mean():
    text = text_of(tables.one_report(make_report(step=4, scores={"a": 0.2, "b": 0.7})))
    rows = [line.split() for line in text.splitlines()]
    order = [row[0] for row in rows if row and row[0] in ("a", "b", "mean")]
    assert order == ["b", "a", "mean"]
    assert "chance is 0.005" in text


def test_the_score_beyond_spelling_is_beside_the_first_metric_if_it_was_measured():
    known = {"score": 0.25, "pairs": 36, "low": 0.14, "high": 0.4}
    few = {"score": None, "pairs": 12, "low": None, "high": None}
    beyond = {"beyond_surface": {"nasca": {"a": known, "b": few}}}
    report = make_report(step=4, scores={"a": 0.2, "b": 0.7}, diagnostics=beyond)
    text = text_of(tables.one_report(report))
    assert "beyond spelling" in text
    assert "0.250 (0.140 - 0.400, 36 pairs)" in text
    assert "n/a (12 pairs)" in text
    assert "beyond" not in text_of(tables.one_report(make_report(scores={"a": 0.2})))


def test_a_table_over_steps_shows_nan_as_nan():
    reports = [make_report(step=k, scores={"a": s}) for k, s in ((0, 0.1), (5, math.nan))]
    rows = [line.split() for line in text_of(tables.over_steps(reports)).splitlines()]
    means = {row[0]: row[1] for row in rows if row and row[0] in ("0", "5")}
    assert means == {"0": "0.100", "5": "nan"}


def test_differences_are_sorted_and_marked():
    before = make_report(step=1, scores={"a": 0.5, "b": 0.5})
    after = make_report(step=2, scores={"a": 0.52, "b": 0.1})
    text = text_of(tables.differences(before, after, "nasca", compare(before, after, "nasca")))
    rows = [line.split() for line in text.splitlines() if line.strip()[:2] in ("a ", "b ")]
    assert [row[:4] for row in rows] == [
        ["b", "0.500", "0.100", "-0.400"],
        ["a", "0.500", "0.520", "+0.020"],
    ]
    assert rows[0][-1] == "significant"
    assert rows[1][-1] != "significant"


def test_neighbours_that_differ_in_numbers_only_are_shortened():
    parts = [FFNPart(k, f"h.{k}.mlp", "gated", 8, f"input of h.{k}.mlp") for k in range(12)]
    parts.append(FFNPart(12, "h.12.moe", "routed", 32, "experts", experts=4))
    text = text_of(tables.neurons(TapPlan(tuple(parts))))
    assert "10 more like these" in text
    assert "h.11.mlp" in text
    assert "h.5.mlp" not in text
    assert "13 layers, 128 neurons" in text


def test_languages_with_nan_come_after_the_others():
    report = make_report(scores={"a": math.nan, "b": 0.0, "c": 0.7})
    rows = [line.split() for line in text_of(tables.one_report(report)).splitlines()]
    order = [row[0] for row in rows if row and row[0] in ("a", "b", "c", "mean")]
    assert order == ["c", "b", "a", "mean"]


def test_square_brackets_are_not_markup():
    report = make_report(scores={"[red]a": 0.2}, metrics=("[bold]m", "[red]n"))
    text = text_of(tables.one_report(report)) + text_of(tables.over_steps([report]))
    for name in ("[red]a", "[bold]m", "[red]n"):
        assert text.count(name) >= 2


def test_an_interval_that_a_hub_makes_worthless_is_said_in_words():
    report = make_report(scores={"a": 0.5, "b": 0.4})
    scores = {
        name: replace(each, hub_limited=("b", "mean")) for name, each in report.metrics.items()
    }
    report = replace(report, metrics=scores)
    assert probe_line.line(report).startswith(
        "NeuronXA step 0: nasca 0.450 [unknown: a hub decides]"
    )
    rows = {
        line.split()[0]: line
        for line in text_of(tables.one_report(report)).splitlines()
        if line.split()
    }
    assert "unknown: a hub decides" in rows["b"]
    assert "unknown" not in rows["a"]
    assert "unknown: a hub decides" in text_of(tables.over_steps([report]))


def test_a_change_within_the_margin_is_not_significant():
    # 8 of 2,000 pairs moved: more than by chance, but less than 0.005 of the score.
    hits = np.tile(np.arange(2000) < 1000, (4, 1))
    within, beyond = hits.copy(), hits.copy()
    within[:, 1000:1008] = True
    beyond[:, 1000:1030] = True
    words = []
    for after in (within, beyond):
        history = History()
        for step, rows in enumerate((hits, after)):
            history.append(make_report(step, hits={"a": rows}))
        assert history.change("nasca").p < 0.02
        words.append(probe_line.changes(history, "nasca"))
    assert words == [
        "not significant: +0.004 since the last",
        "significant: +0.015 since the last",
    ]


def test_significant_spends_alpha_over_the_looks_of_a_run():
    # Look k may spend 0.05 / (k (k + 1)): half of it at the first look, 0.0006 at the ninth.
    early, late = history_of(0.5, 0.57)[0], history_of(*[0.5] * 9, 0.57)[0]
    assert probe_line.changes(early, "nasca").startswith("significant: +0.070 since the last")
    assert probe_line.changes(late, "nasca").startswith("not significant: +0.070 since the last")


HOSTILE = "x\x1b]0;t\x07\x1b[2Jy\u202ez\x9b1m\u2028\r\b"


def test_what_is_printed_has_no_control_characters(capsys):
    report = make_report(scores={"deu_Latn": 0.5, HOSTILE: 0.25}, metrics=(HOSTILE,))
    terminal.say(probe_line.line(report))
    terminal.show(tables.one_report(report))
    terminal.show_text(HOSTILE, "red")
    out = capsys.readouterr().out
    assert "x]0;t[2Jyz1m" in out
    assert all(letter.isprintable() or letter in "\n\t" for letter in out)


def test_json_with_escaped_controls_says_the_same():
    text = json.dumps({"name": HOSTILE}, ensure_ascii=False)
    assert json.loads(terminal.escape_controls(text)) == {"name": HOSTILE}
    assert terminal.escape_controls(text).isprintable()


def test_a_pipe_gets_all_columns_of_a_wide_table(capsys):
    metrics = ("nasca", "navca", "mexa", "mexa_last", "another_one", "the_last_one")
    terminal.show(tables.one_report(make_report(metrics=metrics)))
    out = capsys.readouterr().out
    assert all(metric in out for metric in metrics)
    assert out.count("0.500") == 1 + 1 + len(metrics) - 1
