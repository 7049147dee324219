"""``sweep --watch`` beside a training process: killed, started again, and W&B read back."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuronxa_callback.history import read_reports
from tests.helpers import wandb_file
from tests.helpers.runs import SHELL

ROOT = Path(__file__).parents[2]
SECONDS = 240
"""A limit for a process that hangs."""


@pytest.fixture
def start(tmp_path):
    """Starts Python processes that end with the test."""
    running = []
    environment = {**SHELL, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for(condition, process):
    for _ in range(10 * SECONDS):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("it takes too long")


def lines_of(record):
    return record.read_bytes().count(b"\n") if record.exists() else 0


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_watch_that_is_ended_and_goes_on_scores_every_checkpoint_once(how, start, tmp_path):
    run = tmp_path / "run"
    record = run / "neuronxa" / "sweep.jsonl"
    options = ("--watch", "--poll", 0.2, "--wandb", "team/llm/abc", "--until-step", 8)
    command = ("-m", "neuronxa_callback", "sweep", run, *options)
    training = start("tests/workers/saving_training.py", run)
    first = start(*command)
    wait_for(lambda: lines_of(record) >= 1, first)
    first.send_signal(how)
    output = first.communicate(timeout=SECONDS)[0]
    if how == signal.SIGTERM:
        assert first.returncode == 0, output
        assert "ended by a signal; the same command goes on from here" in output
    else:
        assert first.returncode == -how
    assert 1 <= lines_of(record) < 4
    second = start(*command)
    output = second.communicate(timeout=SECONDS)[0]
    assert second.returncode == 0, output
    assert training.wait(timeout=SECONDS) == 0
    assert lines_of(record) == 4
    assert read_reports(record) == [report for report in read_reports(run) if report.step]
    rows = [
        row["train/global_step"]
        for path in sorted((tmp_path / "wandb").glob("offline-run-*-abc/*.wandb"))
        for row in wandb_file.history(path)
        if "neuronxa/nasca/mean" in row
    ]
    assert sorted(rows) == [2, 4, 6, 8]
