"""The record of a run: which lines are read, and from where."""

import logging

import pytest

from neuronxa_callback import read_reports
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from tests.helpers.reports import make_report


def test_a_file_is_read_around_its_bad_lines(tmp_path, caplog):
    path = tmp_path / "reports.jsonl"
    lines = [make_report(step, {"a": score}).to_json() for step, score in ((10, 0.2), (0, 0.1))]
    again = make_report(10, {"a": 0.3}, warnings=("two\u2028lines",)).to_json()
    bad = b'\xff{"schema"'
    cut = lines[0][:99]
    texts = [lines[0].encode(), bad, b"", *(each.encode() for each in (lines[1], again, cut))]
    path.write_bytes(b"\n".join(texts))
    with caplog.at_level(logging.WARNING):
        reports = read_reports(path)
        history = History.read(path)
    assert [(each.step, each.score("nasca")) for each in reports] == [(0, 0.1), (10, 0.3)]
    assert [each.step for each in history.points] == [0, 10]
    words = [record.getMessage() for record in caplog.records]
    assert words[:2] == words[2:]
    assert words[0].startswith(f"{path}:2 is left out: ")
    assert words[1].startswith(f"{path}:6 is left out: not an alignment report: ")


def test_a_record_is_found_in_the_folder_of_its_run(tmp_path):
    file = tmp_path / "neuronxa" / "reports.jsonl"
    file.parent.mkdir()
    file.write_text(make_report(3).to_json())
    for path in (tmp_path, str(tmp_path), file.parent, file):
        assert read_reports(path) == [make_report(3)]


def test_a_folder_without_a_record_is_named(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_reports(tmp_path)
    assert str(error.value) == (
        "a run must be a JSONL file of reports or a folder that holds neuronxa/reports.jsonl, got"
        f" {str(tmp_path)!r}"
    )


TWO = "{} has step {} twice, and older reports of step {}: it seems to hold two trainings in one"


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((0, 20, 40, 60, 0, 15, 30), (0, "20, 40, 60")),
        ((10, 20, 30, 20), (20, "30")),
        ((10, 20, 30, 20, 30), None),  # resumed at 10, and all later steps were measured again
        ((30, 20, 10), None),
    ],
)
def test_two_trainings_in_one_record_are_noticed(steps, words, tmp_path, caplog):
    path = tmp_path / "reports.jsonl"
    path.write_text("".join(f"{make_report(step).to_json()}\n" for step in steps))
    assert [each.step for each in read_reports(path)] == sorted({*steps})
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (words is not None)
    for message in messages:
        assert message.startswith(TWO.format(path, *words))


def test_a_sweep_may_measure_a_checkpoint_again(tmp_path, caplog):
    path = tmp_path / "sweep.jsonl"
    reports = [make_report(step).with_run(swept={}) for step in (2, 4, 2)]
    path.write_text("".join(f"{report.to_json()}\n" for report in reports))
    assert len(read_reports(path)) == 2
    assert not caplog.records


def test_a_run_that_was_only_swept_is_told_apart(tmp_path):
    file = tmp_path / "neuronxa" / "sweep.jsonl"
    file.parent.mkdir()
    file.write_text(make_report(3).to_json())
    with pytest.raises(ConfigError, match=f"; the record of its sweep is '{file}'$"):
        read_reports(tmp_path)
    assert read_reports(file) == [make_report(3)]
