"""W&B, offline: the file of a run, read back."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest

from neuronxa_callback import JsonlSink
from neuronxa_callback.history import read_reports
from neuronxa_callback.show import sinks
from neuronxa_callback.show.long_table import long_table
from tests.helpers.output import wandb_file
from tests.helpers.reports import make_report
from tests.helpers.runs import train_with

RECIPES = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
LANGUAGES = tuple(f"l{k}" for k in range(8))


@pytest.mark.parametrize("character", ["\u2028", "\u0085"])
def test_other_ends_of_lines_are_part_of_a_report(tmp_path, character, offline):
    import wandb

    record = JsonlSink(tmp_path / "reports.jsonl")
    reports = [make_report(step, warnings=(f"a{character}b",)) for step in (0, 10, 20)]
    for report in reports:
        record.write(report)
    record.truncate_after(10)
    assert read_reports(record.path) == reports[:2]
    with record.path.open("ab") as file:
        file.write(b'{"step": 5}\n')
    with wandb.init(project="p"):
        sinks.WandbSink(record.path).close()
    wandb.teardown()
    assert wandb_file.text(offline(), "neuronxa", "scores.csv") == long_table(reports[:2])


def train(folder, **options):
    """A real run that reports to W&B; returns the id of the W&B run."""
    import wandb

    train_with("wandb", folder, **options)
    run = wandb.run.id
    wandb.finish()
    wandb.teardown()
    return run


def test_a_real_run_holds_loss_and_alignment_at_the_right_steps(offline, tmp_path, capfd):
    train(tmp_path / "out")
    path = offline()
    rows = wandb_file.history(path)
    losses = [row["train/global_step"] for row in rows if "train/loss" in row]
    probes = {row["train/global_step"]: row for row in rows if "neuronxa/nasca/mean" in row}
    assert losses == [1, 2, 3, 4, 5, 6]
    assert list(probes) == [0, 2, 4, 6]
    for report in read_reports(tmp_path / "out"):
        for key, value in report.scalars().items():
            assert probes[report.step][key] == pytest.approx(value)
    assert any(key.startswith("neuronxa_charts/nasca_heat_map") for key in probes[6])
    assert any(key.startswith("neuronxa_charts/nasca_by_layer") for key in probes[6])
    best = max(row["neuronxa/nasca/mean"] for row in probes.values())
    summary = wandb_file.summary(path)
    assert summary["neuronxa_best/nasca/mean"] == pytest.approx(best)
    assert "artifact" in wandb_file.kinds(path)
    output = "".join(capfd.readouterr())
    assert "Tried to log to step" not in output


def test_a_long_run_is_in_the_file_record_by_record(offline, tmp_path, capfd):
    import wandb

    reports = [
        make_report(
            step=50 * k, scores=dict.fromkeys(LANGUAGES, 0.04 * k), layers=12, metrics=("nasca",),
            diagnostics={"tokens": {"languages": {"l0": {"target": {"per_sentence": 9.5}}}}},
        )
        for k in range(6)
    ]  # fmt: skip
    record = JsonlSink(tmp_path / "reports.jsonl")
    with wandb.init(project="p"):
        sink = sinks.WandbSink(record.path)
        for report in reports:
            record.write(report)
            sink.write(report)
        sink.close()
    wandb.teardown()
    path = offline()
    *rows, pictures = wandb_file.history(path)
    assert [row["train/global_step"] for row in rows] == [50 * k for k in range(6)]
    assert pictures["train/global_step"] == 250
    assert "neuronxa_charts/nasca_curve/sha256" in pictures
    for row, report in zip(rows, reports, strict=True):
        scalars = report.scalars()
        assert {key: row[key] for key in scalars} == pytest.approx(scalars)
        assert any(key.startswith("neuronxa_charts/nasca_by_layer") for key in row)
    defined = wandb_file.metrics(path)
    for key in reports[0].scalars():
        assert defined[key] == "train/global_step"
    config = wandb_file.config(path)["neuronxa"]
    assert config["definition"]["n_pairs"] == 100
    assert config["corpus"][0] == {
        "language": "l0", "name": "l0", "pairs": 100, "tokens": 9.5, "pivot_tokens": None,
    }  # fmt: skip
    names = {Path(file.path).name for file in wandb_file.artifact(path, "neuronxa")}
    assert names == {"reports.jsonl", "scores.csv"}
    assert "warn" not in "".join(capfd.readouterr()).lower()


def curve_in_wandb(offline, layers):
    """A report of two layers, and the rows (layer, line, score) of W&B's own chart of it."""
    report = make_report(5, {"l0": [0.1, 0.2], "l1": [0.3, 0.4]}, metrics=("nasca",))
    scores = dataclasses.replace(report.metrics["nasca"], layers=layers)
    report = dataclasses.replace(report, metrics={"nasca": scores})
    wandb_file.log(report)
    path = offline()
    (row,) = wandb_file.history(path)
    table = wandb_file.media(path, row, "neuronxa_charts/nasca_by_layer_table").read_text()
    return report, [tuple(row) for row in json.loads(table)["data"]]


@pytest.mark.parametrize(
    ("layers", "shown"), [((3, 7), (3, 7)), (("encoder.0", "decoder.0"), (0, 1))]
)
def test_the_chart_by_layer_has_block_numbers_chance_and_the_shuffled_baseline(
    offline, layers, shown
):
    report, rows = curve_in_wandb(offline, layers)
    curves = {language: report.curve("nasca", language) for language in report.languages}
    curves |= {
        "chance": [report.chance] * 2,
        "shuffled_baseline": [report.shuffled_baseline("nasca")] * 2,
    }
    assert rows == [
        (layer, name, pytest.approx(score))
        for name, curve in curves.items()
        for layer, score in zip(shown, curve, strict=True)
    ]


def test_no_run_is_no_error():
    sinks.WandbSink().write(make_report())
    sinks.WandbSink().close()


def test_a_step_that_a_resumed_run_has_logged_is_not_logged_again(offline):
    import wandb

    with wandb.init(project="p"):
        sink = sinks.WandbSink(last_step=20)
        for step in (0, 10, 20, 30, 40):
            sink.write(make_report(step))
    wandb.teardown()
    rows = wandb_file.history(offline())
    assert [row["train/global_step"] for row in rows] == [30, 40]


def test_a_sweep_finds_a_plain_number_and_the_summary_the_best_one(offline):
    (metric,) = re.findall(r"metric:\n  name: (\S+)\n  goal: maximize", RECIPES)
    reports = [make_report(step, {"l0": score}) for step, score in enumerate((0.1, 0.4, 0.2))]
    wandb_file.log(*reports)
    means = [report.score("nasca") for report in reports]
    rows = [row for row in wandb_file.history(offline()) if metric in row]
    assert [row[metric] for row in rows] == pytest.approx(means)
    summary = wandb_file.summary(offline())
    assert summary[metric] == pytest.approx(means[-1])
    best = {key for key in summary if key.startswith("neuronxa_best/")}
    assert "`neuronxa_best/nasca/mean`" in RECIPES
    for key in best:
        scalars = [report.scalars()[key.replace("_best", "")] for report in reports]
        assert summary[key] == pytest.approx(max(scalars))
    assert best == {f"neuronxa_best/{m}/{x}" for m in ("nasca", "navca") for x in ("mean", "l0")}


def test_the_best_of_a_run_that_goes_on_may_lie_before(offline, tmp_path):
    import wandb

    record = JsonlSink(tmp_path / "reports.jsonl")
    reports = [make_report(step, {"l0": score}) for step, score in enumerate((0.4, math.nan, 0.2))]
    for report in reports[:2]:
        record.write(report)
    with wandb.init(project="p"):
        sinks.WandbSink(record.path, last_step=1).write(reports[2])
    wandb.teardown()
    best = wandb_file.summary(offline())["neuronxa_best/nasca/mean"]
    assert best == pytest.approx(reports[0].score("nasca"))


@pytest.mark.slow
@pytest.mark.parametrize(("checkpoint", "again"), [(4, []), (2, [4])])
def test_a_run_that_goes_on_is_one_run_of_wandb(offline, tmp_path, monkeypatch, checkpoint, again):
    (line,) = re.findall(r"export (WANDB_RUN_ID.*)", RECIPES)
    for name, value in (pair.split("=") for pair in line.split()):
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    for steps, start in ((4, None), (8, str(out / f"checkpoint-{checkpoint}"))):
        run = train(out, resume_from=start, max_steps=steps, save_strategy="steps", save_steps=2)
        assert run == "my-run"
    rows = [row for k in (0, 1) for row in wandb_file.history(offline(k))]
    for key, expected in (
        ("neuronxa/nasca/mean", [0, 2, 4, *again, 6, 8]),
        ("train/loss", [1, 2, 3, 4, *range(checkpoint + 1, 9)]),
    ):
        assert [row["train/global_step"] for row in rows if key in row] == expected
    assert [report.step for report in read_reports(out)] == [0, 2, 4, 6, 8]
