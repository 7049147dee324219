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
