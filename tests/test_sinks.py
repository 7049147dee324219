"""Where reports are written, read back: the record, W&B's own file, TensorBoard's."""

import csv
import io

import pytest
import wandb_file
from conftest import llama, parallel, sentences, tokenizer_of
from reports import make_report

from neuronxa_callback import AlignmentReport, NeuronXACallback, ProbeConfig
from neuronxa_callback.show import sinks

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


def test_the_long_table_has_every_cell():
    made = reports(2)
    rows = list(csv.DictReader(io.StringIO(sinks.long_table(made))))
    assert len(rows) == sum(len(report.rows()) for report in made)
    assert list(rows[0]) == ["step", "language", "layer", "metric", "score", "low", "high"]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Reads the W&B file of what runs in between."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    yield lambda: next(iter(sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))))
    wandb.teardown()


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


def test_the_number_of_keys_is_bounded():
    many = tuple(f"l{k}" for k in range(40))
    report = make_report(1, dict.fromkeys(many, 0.5), metrics=("nasca", "navca"), layers=80)
    assert len(report.scalars()) <= 400 - 4


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


def test_sinks_follow_report_to(tmp_path):
    assert sinks.sinks_for([], tmp_path) == ()
    (one,) = sinks.sinks_for(["wandb"], tmp_path, last_step=3)
    assert isinstance(one, sinks.WandbSink)
    assert one.last_step == 3
