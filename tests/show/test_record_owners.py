"""Which run may write the record of a folder: failed starts, interrupted and nested trainings."""

import gc
import os
import threading
import weakref

import pytest
from transformers import TrainerCallback

from neuronxa_callback import JsonlSink, NeuronXACallback, ProbeConfig, read_reports
from neuronxa_callback.errors import CorpusError
from neuronxa_callback.show.record_lock import RecordLock
from neuronxa_callback.show.sink_group import SinkGroup
from tests.helpers.reports import make_report
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)
TOO_MANY = ProbeConfig(corpus=CORPUS, n_pairs=11)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


class At(TrainerCallback):
    """Does something at the start (step 0) or at the end of a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_train_begin(self, args, state, control, **kwargs):
        if self.step == 0:
            self.action()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def interrupt():
    raise KeyboardInterrupt


def steps(folder):
    return [report.step for report in read_reports(folder)]


def files(folder):
    return sorted(path.name for path in (folder / "neuronxa").glob("*.jsonl"))


class Trainer:
    """Looks like the Trainer of transformers to whoever reads the call stack."""

    def train(self, action):
        self.state = At(0, None)
        return action()


class Interrupted(NeuronXACallback):
    """Is interrupted in its first probe."""

    def make_probe(self, tokenizer):
        interrupt()


def failed_start(kind):
    if kind == "refused":
        return NeuronXACallback(TOO_MANY), CorpusError
    return Interrupted(CONFIG), KeyboardInterrupt


@pytest.mark.parametrize("kind", ["refused", "interrupted"])
def test_a_failed_start_leaves_the_record_of_the_folder(kind, tokenizer, tmp_path, caplog):
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)]).train()
    callback, error = failed_start(kind)
    with pytest.raises(error):
        trainer_of(tokenizer, tmp_path, [callback]).train()
    assert steps(tmp_path) == [0, 3, 6]
    assert files(tmp_path) == ["reports.jsonl"]
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=2)]).train()
    assert steps(tmp_path) == [0, 2, 4, 6]
    assert files(tmp_path) == ["reports-1.jsonl", "reports.jsonl"]
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["refused", "interrupted"])
def test_a_failed_start_in_a_fresh_folder_leaves_no_record(kind, tokenizer, tmp_path, caplog):
    callback, error = failed_start(kind)
    failed = trainer_of(tokenizer, tmp_path, [callback])
    with pytest.raises(error) as kept:
        failed.train()
    assert files(tmp_path) == []
    again = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    again.train()
    assert steps(tmp_path) == [0, 3, 6]
    assert files(tmp_path) == ["reports.jsonl"]
    assert caplog.messages == []
    assert kept.value is not None


@pytest.mark.parametrize("kind", ["refused", "interrupted"])
def test_a_failed_start_that_is_kept_does_not_hinder_another_process(kind, tokenizer, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    callback, error = failed_start(kind)
    with pytest.raises(error):
        trainer_of(tokenizer, tmp_path, [callback]).train()
    # As a process of its own opens it.
    with (tmp_path / "neuronxa" / "reports.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_two_runs_that_start_at_the_same_time_write_two_files(tmp_path):
    old = SinkGroup.open(tmp_path, ())
    old.write(make_report(1))
    old.close()
    first, second = SinkGroup.open(tmp_path, ()), SinkGroup.open(tmp_path, ())
    for group, step in ((second, 5), (first, 3), (second, 6), (first, 4)):
        group.write(make_report(step))
    assert steps(tmp_path) == [3, 4]
    assert steps(tmp_path / "neuronxa" / f"reports-{second.run}.jsonl") == [5, 6]
    assert steps(tmp_path / "neuronxa" / "reports-1.jsonl") == [1]
    first.close()
    second.close()


def test_a_run_without_a_report_renames_nothing(tmp_path):
    old = SinkGroup.open(tmp_path, ())
    old.write(make_report(1))
    old.close()
    SinkGroup.open(tmp_path, ()).close()
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize("step", [0, 3])
def test_a_new_run_takes_over_from_one_that_was_interrupted_and_is_kept(
    step, tokenizer, tmp_path, caplog
):
    dead = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=2), At(step, interrupt)])
    with pytest.raises(KeyboardInterrupt):
        dead.train()
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)]).train()
    assert steps(tmp_path) == [0, 3, 6]
    assert files(tmp_path) == ["reports-1.jsonl", "reports.jsonl"]
    assert caplog.messages == []
    assert dead.state.global_step == step


def test_the_same_trainer_takes_over_from_its_earlier_callback(tokenizer, tmp_path, caplog):
    kept, stopper = NeuronXACallback(CONFIG, every=2), At(3, interrupt)
    trainer = trainer_of(tokenizer, tmp_path, [kept, stopper])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(kept)
    trainer.remove_callback(stopper)
    trainer.add_callback(NeuronXACallback(CONFIG, every=3))
    trainer.train()
    assert steps(tmp_path) == [0, 3, 6]
    assert files(tmp_path) == ["reports-1.jsonl", "reports.jsonl"]
    assert caplog.messages == []


def test_a_training_inside_another_one_writes_a_file_of_its_own(tokenizer, tmp_path, caplog):
    inner = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    outer = [NeuronXACallback(CONFIG, every=2), At(3, inner.train)]
    trainer_of(tokenizer, tmp_path, outer).train()
    assert steps(tmp_path) == [0, 2, 4, 6]
    (own,) = set(files(tmp_path)) - {"reports.jsonl"}
    assert steps(tmp_path / "neuronxa" / own) == [0, 3, 6]
    assert "another run is writing" in caplog.text


def test_a_lock_of_a_running_training_is_not_taken_by_a_loop_of_its_callback(tmp_path):
    record = tmp_path / "reports.jsonl"

    def train():
        held = RecordLock.acquire(record, "a")
        assert RecordLock.acquire(record, "b") is None
        return held

    held = Trainer().train(train)
    # Its training has ended without closing it.
    taken = RecordLock.acquire(record, "b")
    assert taken is not None
    held.close()
    assert RecordLock.acquire(record, "c") is None
    taken.close()


def test_a_lock_that_no_trainer_holds_is_never_taken(tmp_path):
    record = tmp_path / "reports.jsonl"
    held = RecordLock.acquire(record, "a")
    assert Trainer().train(lambda: RecordLock.acquire(record, "b")) is None
    held.close()


def test_a_lock_of_another_thread_is_taken_only_if_the_thread_is_dead(tmp_path):
    record, held = tmp_path / "reports.jsonl", []
    ready, go = threading.Event(), threading.Event()
    trainer = Trainer()

    def work():
        held.append(trainer.train(lambda: RecordLock.acquire(record, "a")))
        ready.set()
        go.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(60)
    # That training has ended, but only its own thread can be sure of it.
    assert Trainer().train(lambda: RecordLock.acquire(record, "b")) is None
    go.set()
    thread.join(60)
    taken = Trainer().train(lambda: RecordLock.acquire(record, "b"))
    assert taken is not None
    taken.close()


def test_a_lock_that_was_resumed_belongs_to_the_training_that_resumed(tmp_path):
    record = tmp_path / "reports.jsonl"
    first = Trainer().train(lambda: RecordLock.acquire(record, "a"))

    def resumed():
        assert RecordLock.acquire(record, "a") is first
        return Trainer().train(lambda: RecordLock.acquire(record, "b"))

    assert Trainer().train(resumed) is None
    first.close()


def test_a_lock_keeps_no_trainer_alive(tmp_path):
    trainer = Trainer()
    held = trainer.train(lambda: RecordLock.acquire(tmp_path / "reports.jsonl", "a"))
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None
    taken = RecordLock.acquire(tmp_path / "reports.jsonl", "b")
    assert taken is not None
    assert held is not taken
    taken.close()


def test_the_record_stays_one_file_if_a_training_changes_the_working_folder(
    tokenizer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    callbacks = [NeuronXACallback(CONFIG, every=2), At(3, lambda: os.chdir("sub"))]
    trainer_of(tokenizer, "out", callbacks).train()
    assert steps(tmp_path / "out") == [0, 2, 4, 6]
    assert not list((tmp_path / "sub").rglob("*.jsonl"))


@pytest.mark.parametrize("events", [None, "events"])
def test_all_files_of_a_run_stay_in_its_folder(events, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    group = SinkGroup.open("out", ["tensorboard"], events=events)
    os.chdir("sub")
    for step in (1, 2):
        group.write(make_report(step))
    group.close()
    assert steps(tmp_path / "out") == [1, 2]
    assert list((tmp_path / "sub").iterdir()) == []
    assert len(list(tmp_path.rglob("events.out.*"))) == 1
    assert caplog.messages == []


def test_a_sink_of_a_users_loop_stays_one_file_and_shows_the_path_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    record = JsonlSink("reports.jsonl")
    record.write(make_report(1))
    os.chdir("sub")
    record.write(make_report(2))
    record.truncate_after(1)
    assert steps(tmp_path / "reports.jsonl") == [1]
    record.rotate()
    assert str(record.path) == "reports.jsonl"
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["reports-1.jsonl"]


def test_a_working_folder_that_was_deleted_stops_no_run(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    group = SinkGroup.open("out", ())
    group.write(make_report(0))
    group.close()
