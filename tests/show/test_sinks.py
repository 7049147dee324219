"""Sinks write what is read back: the record, TensorBoard, MLflow, trackio."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
from functools import partial

import pytest

from neuronxa_callback import AlignmentReport, JsonlSink, NeuronXACallback
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history import read_reports
from neuronxa_callback.show import sinks
from neuronxa_callback.show.long_table import long_table
from neuronxa_callback.show.scalar_choice import choose_scalars
from tests.helpers.reports import make_report
from tests.helpers.runs import SHELL, train_with

LANGUAGES = tuple(f"l{k}" for k in range(8))


def rising_reports(steps=5):
    return [make_report(step * 10, dict.fromkeys(LANGUAGES, 0.1 * step)) for step in range(steps)]


def steps_of(path):
    return [AlignmentReport.from_json(line).step for line in path.read_text().splitlines()]


def test_the_record_goes_on_where_a_run_goes_on(tmp_path):
    record = JsonlSink(tmp_path / "deep" / "reports.jsonl")
    for report in rising_reports():
        record.write(report)
    assert steps_of(record.path) == [0, 10, 20, 30, 40]
    record.truncate_after(20)
    assert steps_of(record.path) == [0, 10, 20]
    record.write(rising_reports()[3])
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
    record = JsonlSink(tmp_path / "reports.jsonl")
    reports = [make_report(step, warnings=("é",)) for step in (0, 10, 20, 30)]
    record.write(reports[0])
    with record.path.open("ab") as file:
        file.write(cut(reports[1].to_json().encode()))
    for report in reports[1:]:
        record.write(report)
    assert read_reports(record.path) == reports
    record.truncate_after(20)
    assert read_reports(record.path) == reports[:3]
    assert len(record.path.read_bytes().split(b"\n")) == 5


def test_a_record_that_ends_inside_a_line_is_cut_back_and_goes_on(tmp_path):
    record = JsonlSink(tmp_path / "reports.jsonl")
    reports = [make_report(step, warnings=("é",)) for step in (0, 10, 20)]
    for report in reports:
        record.write(report)
    whole = record.path.read_bytes()
    for end in (whole.rindex("é".encode()) + 1, len(whole) - 1):
        record.path.write_bytes(whole[:end])
        record.truncate_after(0)
        record.write(reports[1])
        assert read_reports(record.path) == reports[:2]


def test_the_long_table_has_every_cell():
    reports = rising_reports(2)
    rows = list(csv.DictReader(io.StringIO(long_table(reports))))
    assert len(rows) == sum(len(report.rows()) for report in reports)
    assert list(rows[0]) == ["step", "language", "layer", "metric", "score", "low", "high"]


def scalars_of(folder):
    """What TensorBoard reads below a folder: key -> {step: value}."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    keys = events.Tags()["scalars"]
    return {key: {event.step: event.value for event in events.Scalars(key)} for key in keys}


def by_step(folder):
    """step -> report of a run."""
    return {report.step: report for report in read_reports(folder)}


@pytest.mark.parametrize("given", [True, False])
def test_tensorboard_shows_scores_and_pictures_beside_the_loss(tmp_path, monkeypatch, given):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    runs = tmp_path / "out" / "runs"
    if given:
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(runs))
    else:
        monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    train_with("tensorboard", tmp_path / "out")
    trainer_folder = runs if given else next(runs.iterdir())
    reports = by_step(tmp_path / "out")
    logged = scalars_of(trainer_folder / "neuronxa")
    scalars = {step: choose_scalars(report, "languages") for step, report in reports.items()}
    assert logged == {
        key: {step: pytest.approx(scalars[step][key]) for step in reports} for key in scalars[0]
    }
    losses = scalars_of(trainer_folder)["train/loss"]
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    images = images_of(trainer_folder / "neuronxa")
    names = ("nasca_curve", "nasca_heat_map", "navca_curve", "navca_heat_map")
    assert images == {f"neuronxa_charts/{name}": [0, 6] for name in names}


def images_of(folder):
    """key -> steps of the pictures in a folder of events."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    images = {key: events.Images(key) for key in events.Tags()["images"]}
    for each in images.values():
        assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in each)
    return {key: [image.step for image in each] for key, each in images.items()}


@pytest.mark.parametrize(("choice", "keys"), [("mean", 13), ("languages", 63), ("all", 167)])
def test_the_number_of_keys_of_25_languages(choice, keys):
    report = make_report(scores={f"lan{k:02}_Latn": 0.02 * k for k in range(25)})
    chosen = choose_scalars(report, choice)
    assert len(chosen) == keys
    assert chosen.items() <= report.scalars().items()
    assert {"neuronxa/nasca/mean", "neuronxa/navca/middle"} <= set(chosen)
    assert ("neuronxa/nasca/lan03_Latn" in chosen) == (choice != "mean")
    assert ("neuronxa/nasca/mean/low" in chosen) == (choice == "all")


@pytest.mark.parametrize("wrong", ["none", "", None, 1, ["mean"]])
def test_a_wrong_choice_of_scalars_is_named(wrong):
    makers = (
        NeuronXACallback,
        sinks.WandbSink,
        sinks.MlflowSink,
        sinks.TrackioSink,
        partial(sinks.TensorBoardSink, "x"),
    )
    for make in makers:
        with pytest.raises(ConfigError, match="scalars"):
            make(scalars=wrong)


@pytest.mark.slow
def test_mlflow_holds_the_same_keys_beside_the_loss(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow's database needs sqlalchemy")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    train_with("mlflow", tmp_path / "out")
    reports = by_step(tmp_path / "out")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    for key in choose_scalars(reports[0], "languages"):
        logged = {
            event.step: event.value for event in client.get_metric_history(run.info.run_id, key)
        }
        assert logged == {step: report.scalars()[key] for step, report in reports.items()}
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [loss.step for loss in losses] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_trackio_holds_the_same_keys_at_the_same_steps(tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed")
    out = str(tmp_path / "out")
    code = f"from tests.helpers.runs import train_with; train_with('trackio', {out!r})"
    # In a process of its own: trackio keeps its folder and its run for the life of a process.
    environment = {**SHELL, "TRACKIO_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    with sqlite3.connect(tmp_path / "huggingface.db") as database:
        texts = database.execute("select metrics from metrics order by id").fetchall()
    rows = [json.loads(text) for (text,) in texts]
    probes = {row["train/global_step"]: row for row in rows if "neuronxa/nasca/mean" in row}
    reports = by_step(tmp_path / "out")
    assert list(probes) == list(reports) == [0, 2, 4, 6]
    for step, report in reports.items():
        chosen = choose_scalars(reports[0], "languages")
        assert {key: report.scalars()[key] for key in chosen}.items() <= probes[step].items()
        assert not any(key.endswith(("/low", "/high")) for key in probes[step])
    losses = [row["train/global_step"] for row in rows if "train/loss" in row]
    assert losses == [1, 2, 3, 4, 5, 6]


def test_sinks_follow_report_to(tmp_path):
    assert sinks.sinks_for([], tmp_path) == ()
    (one,) = sinks.sinks_for(["wandb"], tmp_path, last_step=3)
    assert isinstance(one, sinks.WandbSink)
    assert one.last_step == 3


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_of_a_csv_is_no_formula_and_a_number_stays_one(start):
    name = f"{start}cmd|' /C calc'!A0"
    report = make_report(-5, {name: 0.5, "deu_Latn": 0.5})
    first, *rows = long_table([report]).split("\n")[:-1]
    assert first.startswith("step,language,")
    assert all(row.startswith(("-5,deu_Latn,", f"-5,'{name},")) for row in rows)
