"""Where reports are written, read back: the record, TensorBoard, MLflow, trackio."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from neuronxa_callback import AlignmentReport, NeuronXACallback, ProbeConfig
from neuronxa_callback.history import read_reports
from neuronxa_callback.show import sinks
from tests.helpers.reports import make_report
from tests.helpers.runs import TEXTS, trainer_of
from tests.helpers.tiny import parallel, tokenizer_of

LANGUAGES = tuple(f"l{k}" for k in range(8))


def reports(steps=5):
    return [make_report(step * 10, dict.fromkeys(LANGUAGES, 0.1 * step)) for step in range(steps)]


def steps_of(path):
    return [AlignmentReport.from_json(line).step for line in path.read_text().splitlines()]


def test_the_record_goes_on_where_a_run_goes_on(tmp_path):
    record = sinks.JsonlSink(tmp_path / "deep" / "reports.jsonl")
    for report in reports():
        record.write(report)
    assert steps_of(record.path) == [0, 10, 20, 30, 40]
    record.truncate_after(20)
    assert steps_of(record.path) == [0, 10, 20]
    record.write(reports()[3])
    assert steps_of(record.path) == [0, 10, 20, 30]
    record.rotate()
    assert not record.path.exists()
    assert steps_of(tmp_path / "deep" / "reports-1.jsonl") == [0, 10, 20, 30]


CUTS = (
    pytest.param(lambda line: line[: len(line) // 2], id="inside a line"),
    pytest.param(lambda line: line[: line.index("é".encode()) + 1], id="inside a character"),
    pytest.param(lambda line: b"{" * 9999, id="no JSON"),
    pytest.param(lambda line: b'{"step": 10}', id="a step that is no report"),
    pytest.param(lambda line: b'{"step": "ten"}', id="a step that is no number"),
)


@pytest.mark.parametrize("cut", CUTS)
def test_a_line_that_was_cut_costs_no_other(tmp_path, cut):
    record = sinks.JsonlSink(tmp_path / "reports.jsonl")
    made = [make_report(step, warnings=("é",)) for step in (0, 10, 20, 30)]
    record.write(made[0])
    with record.path.open("ab") as file:
        file.write(cut(made[1].to_json().encode()))
    for report in made[1:]:
        record.write(report)
    assert read_reports(record.path) == made
    record.truncate_after(20)
    assert read_reports(record.path) == made[:3]
    assert len(record.path.read_bytes().split(b"\n")) == 5


def test_a_record_that_ends_inside_a_line_is_cut_back_and_goes_on(tmp_path):
    record = sinks.JsonlSink(tmp_path / "reports.jsonl")
    made = [make_report(step, warnings=("é",)) for step in (0, 10, 20)]
    for report in made:
        record.write(report)
    whole = record.path.read_bytes()
    for end in (whole.rindex("é".encode()) + 1, len(whole) - 1):
        record.path.write_bytes(whole[:end])
        record.truncate_after(0)
        record.write(made[1])
        assert read_reports(record.path) == made[:2]


def test_the_long_table_has_every_cell():
    made = reports(2)
    rows = list(csv.DictReader(io.StringIO(sinks.long_table(made))))
    assert len(rows) == sum(len(report.rows()) for report in made)
    assert list(rows[0]) == ["step", "language", "layer", "metric", "score", "low", "high"]


def scalars_of(folder):
    """What TensorBoard reads below a folder: key -> {step: value}."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    keys = events.Tags()["scalars"]
    return {key: {each.step: each.value for each in events.Scalars(key)} for key in keys}


def trained(tracker, folder):
    """A short real run that reports to a tracker: its reports by step."""
    corpus = parallel(10)
    tokenizer = tokenizer_of(TEXTS + [t for ps in corpus.pairs.values() for p in ps for t in p])
    callback = NeuronXACallback(ProbeConfig(corpus=corpus, n_pairs=10), every=2)
    trainer_of(tokenizer, folder, [callback], args={"report_to": [tracker]}).train()
    return {report.step: report for report in read_reports(folder)}


def test_tensorboard_holds_the_same_keys_beside_the_loss(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "out" / "runs"))
    found = trained("tensorboard", tmp_path / "out")
    logged = scalars_of(tmp_path / "out" / "neuronxa" / "tensorboard")
    assert logged == {
        key: {step: pytest.approx(report.scalars()[key]) for step, report in found.items()}
        for key in found[0].scalars()
    }
    losses = scalars_of(tmp_path / "out" / "runs")["train/loss"]
    assert list(losses) == [1, 2, 3, 4, 5, 6]


def test_mlflow_holds_the_same_keys_beside_the_loss(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow's database needs sqlalchemy")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    found = trained("mlflow", tmp_path / "out")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    for key in found[0].scalars():
        logged = {each.step: each.value for each in client.get_metric_history(run.info.run_id, key)}
        assert logged == {step: report.scalars()[key] for step, report in found.items()}
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [each.step for each in losses] == [1, 2, 3, 4, 5, 6]


def test_trackio_holds_the_same_keys_at_the_same_steps(tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed")
    code = (
        f"from tests.show.test_sinks import *; trained('trackio', Path({str(tmp_path / 'out')!r}))"
    )
    paths = {"TRACKIO_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **paths}, check=True, timeout=120
    )
    with sqlite3.connect(tmp_path / "huggingface.db") as database:
        texts = database.execute("select metrics from metrics order by id").fetchall()
    rows = [json.loads(text) for (text,) in texts]
    probes = {row["train/global_step"]: row for row in rows if "neuronxa/nasca/mean" in row}
    found = {report.step: report for report in read_reports(tmp_path / "out")}
    assert list(probes) == list(found) == [0, 2, 4, 6]
    for step, report in found.items():
        assert report.scalars().items() <= probes[step].items()
    losses = [row["train/global_step"] for row in rows if "train/loss" in row]
    assert losses == [1, 2, 3, 4, 5, 6]


def test_sinks_follow_report_to(tmp_path):
    assert sinks.sinks_for([], tmp_path) == ()
    (one,) = sinks.sinks_for(["wandb"], tmp_path, last_step=3)
    assert isinstance(one, sinks.WandbSink)
    assert one.last_step == 3
