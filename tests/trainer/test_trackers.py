"""Trackers of ``report_to`` without a sink here get the scalars through their own callbacks.

The packages that are not installed with the tests are run where they are; a stand-in of DVCLive's
interface shows everywhere what the Trainer's real callback hands over.
"""

import json
import logging
import os
import subprocess
import sys
import zipfile
from types import ModuleType

import pytest
from transformers import Trainer
from transformers.integrations import integration_utils

from neuronxa_callback import read_reports
from neuronxa_callback.show.scalar_choice import choose_scalars
from tests.helpers.runs import SHELL, train_with


class Live:
    """Rows (step, name, value), as DVCLive writes them."""

    fails = False

    def __init__(self):
        self.rows, self.step = [], 0
        Live.latest = self

    def log_params(self, params):
        pass

    def log_metric(self, name, value):
        if self.fails and name.startswith("neuronxa"):
            raise OSError("no space")
        self.rows.append((self.step, name, value))

    def next_step(self):
        self.step += 1

    def end(self):
        pass


@pytest.fixture
def dvclive(monkeypatch):
    package, plots, utils = (ModuleType(f"dvclive{name}") for name in ("", ".plots", ".utils"))
    package.Live, utils.standardize_metric_name = Live, lambda name, _: name
    plots.Metric = type("Metric", (), {"could_log": staticmethod(lambda value: True)})
    for module in (package, plots, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(integration_utils, "is_dvclive_available", lambda: True)
    monkeypatch.setattr(Live, "fails", False)
    return Live


def losses(rows):
    return [(step, value) for step, name, value in rows if name == "loss"]


def test_a_tracker_gets_the_scalars_and_the_trainers_rows_keep_their_steps(dvclive, tmp_path):
    train_with("dvclive", tmp_path / "out")
    rows = dvclive.latest.rows
    reports = read_reports(tmp_path / "out")
    assert [report.step for report in reports] == [0, 2, 4, 6]
    own = [(step, name, value) for step, name, value in rows if name.startswith("neuronxa/")]
    assert own == [
        (max(report.step - 1, 0), name, value)  # with the Trainer's row of the same step
        for report in reports
        for name, value in choose_scalars(report, "languages").items()
    ]
    assert [step for step, _ in losses(rows)] == [0, 1, 2, 3, 4, 5]


def test_a_tracker_that_fails_is_one_warning_and_the_loss_goes_on(
    dvclive, tmp_path, caplog, monkeypatch
):
    # Another test may have left a run, which would be a second warning.
    monkeypatch.setattr("wandb.run", None)
    dvclive.fails = True
    with caplog.at_level(logging.WARNING, "neuronxa_callback"):
        train_with("dvclive", tmp_path / "out")
    text = (
        "a sink failed, training goes on: TrainerLogSink: RuntimeError: dvclive: OSError: no space"
    )
    assert [record.getMessage() for record in caplog.records] == [text]
    assert [step for step, _ in losses(dvclive.latest.rows)] == [0, 1, 2, 3, 4, 5]
    assert len(read_reports(tmp_path / "out")) == 4


def test_a_run_with_such_a_tracker_is_not_said_to_have_none(dvclive, tmp_path, capsys):
    train_with("dvclive", tmp_path / "out")
    assert "no tracker is on" not in capsys.readouterr().out


def dvclive_rows(folder):
    """step -> value, in the order of the probes."""
    (file,) = folder.glob("dvclive/plots/metrics/neuronxa/nasca/mean.tsv")
    return [float(line.split("\t")[1]) for line in file.read_text().splitlines()[1:]]


def comet_rows(folder):
    (file,) = folder.glob("*.zip")
    with zipfile.ZipFile(file) as archive:
        lines = archive.read("messages.json").decode().splitlines()
    metrics = [json.loads(line)["payload"].get("metric", {}) for line in lines]
    return [m["metricValue"] for m in metrics if m.get("metricName") == "train/neuronxa/nasca/mean"]


def clearml_rows(folder):
    (file,) = folder.rglob("offline-*.zip")
    with zipfile.ZipFile(file) as archive:
        lines = archive.read("metrics.jsonl").decode().splitlines()
    rows = [row for line in lines for row in json.loads(line)]
    return [row["value"] for row in rows if row["variant"] == "neuronxa/nasca/mean"]


def swanlab_rows(folder):
    """Its file is binary: only that the keys are there can be read."""
    (file,) = folder.rglob("*.swanlab")
    return file.read_bytes().count(b"neuronxa/nasca/mean")


START_SWANLAB = "import swanlab; swanlab.init(project='p', mode='offline', logdir='swanlog')"
OFFLINE = {
    "dvclive": (dvclive_rows, {"DVC_NO_ANALYTICS": "1"}, ""),
    "comet_ml": (comet_rows, {"COMET_START_ONLINE": "0", "COMET_API_KEY": "none"}, ""),
    "clearml": (clearml_rows, {"CLEARML_OFFLINE_MODE": "1"}, ""),
    "swanlab": (swanlab_rows, {"SWANLAB_MODE": "offline"}, START_SWANLAB),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFLINE)
def test_the_package_itself_holds_the_scores(name, tmp_path):
    pytest.importorskip(name, reason=f"{name} is not installed")
    rows_of, environment, first = OFFLINE[name]
    homes = dict.fromkeys(("HOME", "CLEARML_CACHE_DIR", "COMET_OFFLINE_DIRECTORY"), str(tmp_path))
    homes["PYTHONPATH"] = os.pathsep.join([SHELL["PYTHONPATH"], *filter(None, sys.path)])
    code = f"{first}\nfrom tests.helpers.runs import train_with; train_with('{name}', 'out')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**SHELL, **homes, **environment},
        check=True, timeout=500,
    )  # fmt: skip
    scores = [report.score("nasca") for report in read_reports(tmp_path / "out")]
    assert len(scores) == 4
    found = rows_of(tmp_path)
    assert found == pytest.approx(scores) if name != "swanlab" else found >= 4


def test_the_names_with_sinks_are_known_to_the_trainer():
    from neuronxa_callback.trainer_trackers import TABLE, WITH_SINKS

    assert Trainer
    assert {*WITH_SINKS} <= {*sys.modules[TABLE].INTEGRATION_TO_CALLBACK}
