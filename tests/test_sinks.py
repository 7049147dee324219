"""Where reports are written, read back: the record, W&B's own file, TensorBoard's."""

import csv
import dataclasses
import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import wandb_file
from conftest import llama, parallel, sentences, tokenizer_of
from reports import make_report
from runs import TEXTS, trainer_of

from neuronxa_callback import AlignmentReport, NeuronXACallback, ProbeConfig
from neuronxa_callback.follow.history import read
from neuronxa_callback.show import sinks

LANGUAGES = tuple(f"l{k}" for k in range(8))


def reports(steps=5):
    return [make_report(step * 10, dict.fromkeys(LANGUAGES, 0.1 * step)) for step in range(steps)]


def steps_of(path):
    return [AlignmentReport.from_json(line).step for line in path.read_text().splitlines()]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Reads the W&B file of what runs in between."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    yield lambda: next(iter(sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))))
    wandb.teardown()


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
    assert read(record.path, faults=[]) == made
    record.truncate_after(20)
    assert read(record.path, faults=[]) == made[:3]
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
        assert read(record.path, faults=[]) == made[:2]


@pytest.mark.parametrize("character", ["\u2028", "\u0085"])
def test_other_ends_of_lines_are_part_of_a_report(tmp_path, character, offline):
    import wandb

    record = sinks.JsonlSink(tmp_path / "reports.jsonl")
    made = [make_report(step, warnings=(f"a{character}b",)) for step in (0, 10, 20)]
    for report in made:
        record.write(report)
    record.truncate_after(10)
    assert read(record.path, faults=[]) == made[:2]
    with record.path.open("ab") as file:
        file.write(b'{"step": 5}\n')
    with wandb.init(project="p"):
        sinks.WandbSink(record.path).close()
    wandb.teardown()
    assert wandb_file.text(offline(), "neuronxa", "scores.csv") == sinks.long_table(made[:2])


def test_the_long_table_has_every_cell():
    made = reports(2)
    rows = list(csv.DictReader(io.StringIO(sinks.long_table(made))))
    assert len(rows) == sum(len(report.rows()) for report in made)
    assert list(rows[0]) == ["step", "language", "layer", "metric", "score", "low", "high"]


def test_a_real_run_holds_loss_and_alignment_at_the_right_steps(offline, tmp_path, capfd):
    import wandb
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    corpus, texts = parallel(10), sentences(32, seed=9)
    tokenizer = tokenizer_of(
        [text for pairs in corpus.pairs.values() for pair in pairs for text in pair] + texts
    )
    Trainer(
        model=llama(),
        args=TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=6,
            per_device_train_batch_size=4,
            logging_steps=1,
            save_strategy="no",
            report_to=["wandb"],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=[{"input_ids": tokenizer(text)["input_ids"]} for text in texts],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[NeuronXACallback(ProbeConfig(corpus=corpus, n_pairs=10), every=2)],
    ).train()
    assert wandb.run is not None
    wandb.finish()
    wandb.teardown()
    path = offline()
    rows = wandb_file.history(path)
    losses = [row["train/global_step"] for row in rows if "train/loss" in row]
    probes = {row["train/global_step"]: row for row in rows if "neuronxa/nasca/mean" in row}
    assert losses == [1, 2, 3, 4, 5, 6]
    assert list(probes) == [0, 2, 4, 6]
    lines = (tmp_path / "out" / "neuronxa" / "reports.jsonl").read_text().splitlines()
    for report in map(AlignmentReport.from_json, lines):
        for key, value in report.scalars().items():
            assert probes[report.step][key] == pytest.approx(value)
    assert any(key.startswith("neuronxa_charts/nasca_heat_map") for key in probes[6])
    assert any(key.startswith("neuronxa_charts/nasca_by_layer") for key in probes[6])
    best = max(row["neuronxa/nasca/mean"] for row in probes.values())
    found = wandb_file.summary(path)
    assert found["neuronxa/nasca/mean"]["max"] == pytest.approx(best)
    assert "artifact" in wandb_file.kinds(path)
    said = capfd.readouterr()
    assert "Tried to log to step" not in said.out + said.err


def test_a_long_run_is_in_the_file_record_by_record(offline, tmp_path, capfd):
    import wandb

    made = [
        make_report(
            step=50 * k, scores=dict.fromkeys(LANGUAGES, 0.04 * k), layers=12,
            diagnostics={"tokens": {"languages": {"l0": {"target": {"per_sentence": 9.5}}}}},
        )
        for k in range(20)
    ]  # fmt: skip
    record = sinks.JsonlSink(tmp_path / "reports.jsonl")
    with wandb.init(project="p"):
        sink = sinks.WandbSink(record.path)
        for report in made:
            record.write(report)
            sink.write(report)
        sink.close()
    wandb.teardown()
    path = offline()
    rows = wandb_file.history(path)
    assert [row["train/global_step"] for row in rows] == [50 * k for k in range(20)]
    for row, report in zip(rows, made, strict=True):
        scalars = report.scalars()
        assert {key: row[key] for key in scalars} == pytest.approx(scalars)
        assert any(key.startswith("neuronxa_charts/navca_by_layer") for key in row)
    defined = wandb_file.metrics(path)
    for key in made[0].scalars():
        assert defined[key] == "train/global_step"
    summary = wandb_file.summary(path)
    assert summary["neuronxa/nasca/mean"]["max"] == pytest.approx(made[-1].score("nasca"))
    config = wandb_file.config(path)["neuronxa"]
    assert config["definition"]["n_pairs"] == 100
    assert config["corpus"][0] == {
        "language": "l0", "name": "l0", "pairs": 100, "tokens": 9.5, "pivot_tokens": None,
    }  # fmt: skip
    names = {Path(file.path).name for file in wandb_file.artifact(path, "neuronxa")}
    assert names == {"reports.jsonl", "scores.csv"}
    said = capfd.readouterr()
    assert "WARN" not in said.out + said.err
    assert "warning" not in (said.out + said.err).lower()


def test_curve_and_heat_map_are_pictures_of_every_step(offline):
    import wandb

    made = reports(3)
    with wandb.init(project="p"):
        sink = sinks.WandbSink()
        for report in made:
            sink.write(report)
    wandb.teardown()
    path = offline()
    for name in ("nasca_curve", "nasca_heat_map", "navca_curve", "navca_heat_map"):
        key, rows = f"neuronxa_charts/{name}", wandb_file.history(path)
        for row, report in zip(rows, made, strict=True):
            assert row[f"{key}/_type"] == "image-file"
            assert row[f"{key}/caption"] == f"{name.split('_')[0]}, step {report.step}"
            assert wandb_file.media(path, row, key).read_bytes().startswith(b"\x89PNG")
        assert len({row[f"{key}/sha256"] for row in rows}) == len(made)


def curve_in_wandb(offline, layers):
    """A report of two layers, and the rows (layer, line, score) of W&B's own chart of it."""
    import wandb

    report = make_report(5, {"l0": [0.1, 0.2], "l1": [0.3, 0.4]}, metrics=("nasca",))
    scores = dataclasses.replace(report.metrics["nasca"], layers=layers)
    report = dataclasses.replace(report, metrics={"nasca": scores})
    with wandb.init(project="p"):
        sinks.WandbSink().write(report)
    wandb.teardown()
    path = offline()
    (row,) = wandb_file.history(path)
    table = wandb_file.media(path, row, "neuronxa_charts/nasca_by_layer_table").read_text()
    return report, [tuple(each) for each in json.loads(table)["data"]]


@pytest.mark.parametrize(
    ("layers", "shown"), [((3, 7), (3, 7)), (("encoder.0", "decoder.0"), (0, 1))]
)
def test_the_chart_by_layer_has_block_numbers_chance_and_null(offline, layers, shown):
    report, rows = curve_in_wandb(offline, layers)
    curves = {language: report.curve("nasca", language) for language in report.languages}
    curves |= {"chance": [report.chance] * 2, "null": [report.null("nasca")] * 2}
    assert rows == [
        (layer, name, pytest.approx(score))
        for name, curve in curves.items()
        for layer, score in zip(shown, curve, strict=True)
    ]


def test_no_run_is_no_error():
    sinks.WandbSink().write(reports()[0])
    sinks.WandbSink().close()


def test_a_step_that_a_resumed_run_has_logged_is_not_logged_again(offline):
    import wandb

    with wandb.init(project="p"):
        sink = sinks.WandbSink(last_step=20)
        for report in reports():
            sink.write(report)
    wandb.teardown()
    rows = wandb_file.history(offline())
    assert [row["train/global_step"] for row in rows] == [30, 40]


def test_the_number_of_keys_is_bounded(offline, tmp_path):
    import wandb

    many = tuple(f"l{k}" for k in range(40))
    record = sinks.JsonlSink(tmp_path / "reports.jsonl")
    with wandb.init(project="p"):
        sink = sinks.WandbSink(record.path)
        for step in (0, 10):
            report = make_report(step, dict.fromkeys(many, 0.5 + step / 100), layers=80)
            record.write(report)
            sink.write(report)
        sink.close()
    wandb.teardown()
    path = offline()
    logged = dict.fromkeys(key for row in wandb_file.history(path) for key in row)
    assert set(report.scalars()) < set(logged)
    assert len(report.metrics) == 2
    assert len(logged | wandb_file.summary(path)) <= 400


def test_tensorboard_holds_the_same_keys(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    sink = sinks.TensorBoardSink(tmp_path)
    for report in reports():
        sink.write(report)
    sink.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(reports()[0].scalars())
    assert [event.step for event in events.Scalars("neuronxa/nasca/mean")] == [0, 10, 20, 30, 40]


def trained(tracker, folder):
    """A short real run that reports to a tracker: its reports by step."""
    corpus = parallel(10)
    tokenizer = tokenizer_of(TEXTS + [t for ps in corpus.pairs.values() for p in ps for t in p])
    callback = NeuronXACallback(ProbeConfig(corpus=corpus, n_pairs=10), every=2)
    trainer_of(tokenizer, folder, [callback], args={"report_to": [tracker]}).train()
    return {report.step: report for report in read(folder)}


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
    code = f"from test_sinks import *; trained('trackio', Path({str(tmp_path / 'out')!r}))"
    tests = str(Path(__file__).parent)
    paths = {"TRACKIO_DIR": str(tmp_path), "PYTHONPATH": f"{Path(tests).parent}:{tests}"}
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **paths}, check=True, timeout=120
    )
    with sqlite3.connect(tmp_path / "huggingface.db") as database:
        texts = database.execute("select metrics from metrics order by id").fetchall()
    rows = [json.loads(text) for (text,) in texts]
    probes = {row["train/global_step"]: row for row in rows if "neuronxa/nasca/mean" in row}
    found = {report.step: report for report in read(tmp_path / "out")}
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
