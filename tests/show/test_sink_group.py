"""The sinks of a run: a disk that fails stops nothing; two runs in one folder write two files."""

import json
import logging
import os
import subprocess
import sys

import pytest

from neuronxa_callback import MemorySink, NeuronXACallback, ProbeConfig, read_reports
from neuronxa_callback.history.history import History
from neuronxa_callback.show.record_lock import RecordLock
from neuronxa_callback.show.sink_group import SinkGroup
from tests.helpers.reports import make_report
from tests.helpers.runs import SHELL, tokenizer_for, trainer_of
from tests.helpers.tiny import parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


def blocked_output(folder):
    """A file in place of the output folder."""
    (folder / "out").write_text("")


def blocked_room(folder):
    """A file in place of the folder of the record."""
    (folder / "out").mkdir()
    (folder / "out" / "neuronxa").write_text("")


def blocked_tensorboard(folder):
    """A file in place of the folder of TensorBoard."""
    (folder / "out" / "neuronxa").mkdir(parents=True)
    (folder / "out" / "neuronxa" / "tensorboard").write_text("")


def dangling(folder):
    """An output folder that is a link to nowhere that can be made."""
    (folder / "file").write_text("")
    (folder / "out").symlink_to(folder / "file" / "deeper")


@pytest.mark.parametrize(
    "block", [blocked_output, blocked_room, blocked_tensorboard, dangling], ids=lambda b: b.__name__
)
def test_a_sink_that_cannot_be_made_stops_no_other(block, tmp_path, caplog):
    block(tmp_path)
    memory = MemorySink()
    with caplog.at_level(logging.WARNING):
        for given in ([memory], None):
            group = SinkGroup.open(tmp_path / "out", ["tensorboard"], given)
            group.write(make_report(0))
            group.write(make_report(10))
            group.close()
    assert [report.step for report in memory.reports] == [0, 10]
    assert "a sink failed, training goes on: " in caplog.text


def test_a_run_trains_with_a_file_in_place_of_its_folder(tmp_path, caplog):
    memory = MemorySink()
    callback = NeuronXACallback(CONFIG, every=3, sinks=[memory])
    trainer = trainer_of(tokenizer_for(CORPUS), tmp_path / "out", [callback])
    (tmp_path / "out" / "neuronxa").parent.mkdir(exist_ok=True)
    (tmp_path / "out" / "neuronxa").write_text("")
    trainer.train()
    assert [report.step for report in memory.reports] == [0, 3, 6]
    assert [report.run.get("sink_seconds") is not None for report in memory.reports] == [
        False,
        True,
        True,
    ]


def test_every_report_carries_the_id_of_its_run(tmp_path):
    groups = [SinkGroup.open(tmp_path / name, ()) for name in "ab"]
    for group in groups:
        group.write(make_report(0))
        group.close()
    ids = [read_reports(tmp_path / name)[0].run["id"] for name in "ab"]
    assert ids == [group.run for group in groups]
    assert len({*ids}) == 2


def test_a_second_live_run_writes_a_file_of_its_own(tmp_path, caplog):
    first = SinkGroup.open(tmp_path, ())
    first.write(make_report(0))
    second = SinkGroup.open(tmp_path, ())
    for step in (10, 20):
        first.write(make_report(step))
        second.write(make_report(step + 5))
    own = tmp_path / "neuronxa" / f"reports-{second.run}.jsonl"
    assert [report.step for report in read_reports(tmp_path)] == [0, 10, 20]
    assert [report.step for report in read_reports(own)] == [15, 25]
    (message,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "neuronxa" / "reports.jsonl") in message
    assert str(own) in message
    second.close()
    first.close()
    third = SinkGroup.open(tmp_path, ())
    third.write(make_report(7))
    assert [report.step for report in read_reports(tmp_path)] == [7]


HOLDER = """
import sys, time
from neuronxa_callback.show.sink_group import SinkGroup
from tests.helpers.reports import make_report
group = SinkGroup.open(sys.argv[1], ())
group.write(make_report(0))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kill", [True, False])
def test_a_run_in_another_process_holds_its_record_until_it_dies(tmp_path, kill, caplog):
    command = (sys.executable, "-c", HOLDER, str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=SHELL, text=True, **pipes) as holder:
        assert holder.stdout.readline() == "ready\n"
        second = SinkGroup.open(tmp_path, ())
        assert second.record_path.endswith(f"reports-{second.run}.jsonl")
        holder.kill() if kill else holder.stdin.close()
        holder.wait(60)
    third = SinkGroup.open(tmp_path, ())
    assert third.record_path.endswith("reports.jsonl")
    assert len(caplog.records) == 1
    second.close()
    third.close()


def test_a_forked_worker_does_not_keep_the_record(tmp_path):
    code = """
import os, sys
from pathlib import Path
from neuronxa_callback.show.record_lock import RecordLock
lock = RecordLock.acquire(Path(sys.argv[1]), "a")
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, b".")
    os.close(write)
    sys.stdin.close()
    os.read(os.open(sys.argv[2], os.O_RDONLY), 1)  # until the test opens the pipe to write
    os._exit(0)
os.read(read, 1)
print("forked", flush=True)
os._exit(0)
"""
    record = tmp_path / "reports.jsonl"
    os.mkfifo(tmp_path / "fifo")
    command = (sys.executable, "-c", code, str(record), str(tmp_path / "fifo"))
    subprocess.run(command, env=SHELL, timeout=60, check=True)
    lock = RecordLock.acquire(record, "b")
    (tmp_path / "fifo").open("wb").close()
    assert lock is not None
    lock.close()


def test_a_run_that_resumes_keeps_its_id_and_drops_its_own_later_reports_only(tmp_path):
    first = SinkGroup.open(tmp_path, (), run="aaa")
    for step in (0, 10, 20):
        first.write(make_report(step))
    first.close()
    path = tmp_path / "neuronxa" / "reports.jsonl"
    with path.open("a") as file:
        file.write(make_report(30, run={"id": "bbb"}).to_json() + "\n" + "[" * 200_000 + "\n")
    again = SinkGroup.open(tmp_path, (), resumed_at=10, run="aaa", previous_record=str(path))
    again.write(make_report(12))
    again.close()
    assert [report.step for report in read_reports(path, "aaa")] == [0, 10, 12]
    assert [report.step for report in read_reports(path, "bbb")] == [30]
    assert again.record_path == str(path)


def test_a_resume_beside_a_live_run_copies_its_reports(tmp_path):
    first = SinkGroup.open(tmp_path, (), run="aaa")
    for step in (0, 10, 20):
        first.write(make_report(step))
    path = first.record_path
    code = "import sys\nfrom neuronxa_callback.show.sink_group import SinkGroup\n"
    code += "group = SinkGroup.open(sys.argv[1], (), resumed_at=10, run='aaa',"
    code += " previous_record=sys.argv[2])\nprint(group.record_path)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), path], env=SHELL, capture_output=True, text=True
    )
    own = done.stdout.strip()
    assert own == path.replace("reports", "reports-aaa")
    assert [report.step for report in read_reports(own)] == [0, 10]
    assert [report.step for report in read_reports(path)] == [0, 10, 20]


def test_readers_tell_runs_apart(tmp_path, caplog):
    path = tmp_path / "reports.jsonl"
    lines = [(0, "aaa", 0.1), (0, "bbb", 0.5), (10, "aaa", 0.2), (10, "bbb", 0.6), (20, "bbb", 0.7)]
    texts = [make_report(k, {"a": score}, run={"id": run}).to_json() for k, run, score in lines]
    path.write_text("\n".join(texts))
    last = read_reports(path)
    assert [(report.step, report.score("nasca")) for report in last] == [
        (0, 0.5),
        (10, 0.6),
        (20, 0.7),
    ]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        f"{path} has the reports of 2 runs; those of run 'bbb' are read, others are 'aaa'"
    )
    assert [report.score("nasca") for report in read_reports(path, "aaa")] == [0.1, 0.2]
    assert [point.step for point in History.read(path, "aaa").points] == [0, 10]
    assert json.loads(texts[0])["run"] == {"id": "aaa"}
