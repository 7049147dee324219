"""Ends of a run: early stops, exceptions, requeued jobs, and callbacks that travel."""

import pickle

import cloudpickle
import pytest
import torch
from transformers import TrainerCallback

from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig, StopRule, read_reports
from neuronxa_callback.errors import ConfigError
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10, diagnostics=())


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


class StopAt(TrainerCallback):
    """Asks to save and stop at a step, as an emergency stop does; notes the order of events."""

    def __init__(self, step, event="on_step_end"):
        self.step, self.events = step, []
        setattr(self, event, self._stop)

    def _stop(self, args, state, control, **kwargs):
        if state.global_step >= self.step:
            control.should_training_stop = control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        self.events.append(("save", len(steps_of(state))))


def steps_of(state):
    return [row["step"] for row in state.log_history if "neuronxa/nasca/mean" in row]


@pytest.mark.parametrize("event", ["on_step_end", "on_log"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_an_emergency_stop_saves_first_and_is_probed_at_the_end(
    event, ours_first, tokenizer, tmp_path
):
    ours, stop = NeuronXACallback(CONFIG, every=100), StopAt(3, event)
    callbacks = [ours, stop] if ours_first else [stop, ours]
    trainer = trainer_of(tokenizer, tmp_path, callbacks)
    trainer.train()
    assert trainer.state.global_step == 3
    assert stop.events == [("save", 1)]
    assert steps_of(trainer.state) == [0, 3]


def test_a_stream_that_ends_early_is_probed_at_the_end(tokenizer, tmp_path):
    from datasets import IterableDataset

    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in ("one two", "three") * 4]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    trainer = trainer_of(
        tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=100)], train_dataset=stream,
        args={"max_steps": 50, "ignore_data_skip": True, "num_train_epochs": 1},
    )  # fmt: skip
    trainer.train()
    assert steps_of(trainer.state)[-1] == trainer.state.global_step


def test_the_loaded_best_model_is_not_taken_for_the_last_step(tokenizer, tmp_path):
    args = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    args |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "max_steps": 10}
    trainer = trainer_of(
        tokenizer, tmp_path, [NeuronXACallback(CONFIG), StopAt(5, "on_log")], args=args
    )
    trainer.train()
    assert steps_of(trainer.state) == [0, 2, 4]


class FailAt(TrainerCallback):
    def __init__(self, error):
        self.error = error

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("planned"), KeyboardInterrupt()])
def test_after_an_exception_an_evaluation_measures_the_weights_it_has(error, tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=1), FailAt(error)])
    with pytest.raises(type(error)):
        trainer.train()
    before = steps_of(trainer.state)
    trainer.model.load_state_dict(llama(seed=9).state_dict())
    found = trainer.evaluate()
    own = trainer_of(tokenizer, tmp_path / "b", [NeuronXACallback(CONFIG)], model=trainer.model)
    assert found["eval_nasca"] == own.evaluate()["eval_nasca"]
    assert steps_of(trainer.state) == before
    assert [report.step for report in read_reports(tmp_path)] == before


def test_outside_of_training_scores_have_the_prefix_of_the_evaluation(tokenizer, tmp_path, capsys):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)])
    capsys.readouterr()
    first = trainer.evaluate()
    second = trainer.evaluate(metric_key_prefix="test_de")
    lines = [line for line in capsys.readouterr().out.splitlines() if "NeuronXA step" in line]
    assert [line.rpartition(" · ")[2] for line in lines] == ["eval", "test_de"]
    assert second["test_de_nasca"] == first["eval_nasca"]
    assert "eval_nasca" not in second


def test_a_requeued_run_that_was_stopped_changes_and_saves_nothing(tokenizer, tmp_path, capsys):
    rule = StopRule.plateau(patience=1, min_delta=0.9)
    args = {"save_strategy": "steps", "save_steps": 1, "max_steps": 9}

    def run():
        callback = NeuronXACallback(CONFIG, every=1, stop=rule)
        return trainer_of(tokenizer, tmp_path, [callback], args=args)

    whole = run()
    whole.train()
    stopped = whole.state.global_step
    assert stopped < 9
    weights = {k: v.clone() for k, v in whole.model.state_dict().items()}
    points = [report.step for report in read_reports(tmp_path)]
    for _ in range(2):
        again = run()
        again.train(resume_from_checkpoint=True)
        assert "this run had been stopped: " in capsys.readouterr().out
        for name, tensor in again.model.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
        assert not (tmp_path / f"checkpoint-{stopped + 1}").exists()
        assert [report.step for report in read_reports(tmp_path)] == points


def test_a_resume_in_another_folder_carries_the_record_over(tokenizer, tmp_path):
    args = {"save_strategy": "steps", "save_steps": 4, "max_steps": 6}
    first = trainer_of(tokenizer, tmp_path / "a", [NeuronXACallback(CONFIG, every=2)], args=args)
    first.train()
    second = trainer_of(tokenizer, tmp_path / "b", [NeuronXACallback(CONFIG, every=2)], args=args)
    second.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert read_reports(tmp_path / "b") == read_reports(tmp_path / "a")
    assert [report.step for report in read_reports(tmp_path / "b")] == [0, 2, 4, 6]


def test_two_callbacks_have_their_own_keys_records_and_states(tokenizer, tmp_path):
    other = ProbeConfig(corpus=parallel(8, ("fra_Latn",)), n_pairs=8, diagnostics=())
    callbacks = [NeuronXACallback(CONFIG, every=3), NeuronXACallback(other, every=3, name="own")]
    args = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    trainer = trainer_of(tokenizer, tmp_path, callbacks, args=args)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "neuronxa/own/nasca/mean" in row]
    assert [row["step"] for row in rows] == steps_of(trainer.state) == [0, 3, 6]
    metrics = trainer.evaluate()
    assert {"eval_nasca", "eval_own_nasca", "eval_own_nasca_fra_Latn"} <= metrics.keys()
    assert read_reports(tmp_path / "neuronxa" / "own")[0].languages == ("fra_Latn",)
    assert read_reports(tmp_path)[0].languages == CORPUS.languages
    again = trainer_of(
        tokenizer, tmp_path,
        [NeuronXACallback(CONFIG, every=3), NeuronXACallback(other, every=3, name="own")],
        args=args | {"max_steps": 9},
    )  # fmt: skip
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert steps_of(again.state) == [0, 3, 6, 9]


def test_two_callbacks_without_names_are_refused_before_the_first_step(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG), NeuronXACallback(CONFIG)])
    with pytest.raises(ConfigError) as error:
        trainer.train()
    assert str(error.value) == (
        "two NeuronXA callbacks in one Trainer need different names, both have name=''; pass name="
        " to one of them"
    )
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("name", ["a/b", "nasca", "seconds", "ä", " ", "x" * 61])
def test_a_name_that_cannot_be_a_key_is_refused(name):
    with pytest.raises(ConfigError, match="name must be made of at most 60 letters"):
        NeuronXACallback(CONFIG, name=name)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_used_callback_travels(pickler, tokenizer, tmp_path):
    used = NeuronXACallback(CONFIG, every=3, stop=StopRule.collapse(drop=0.5))
    trainer_of(tokenizer, tmp_path / "a", [used]).train()
    arrived = pickler.loads(pickler.dumps(used))
    assert arrived.schedule.every == 3
    assert arrived.stop == used.stop
    trainer_of(tokenizer, tmp_path / "b", [arrived]).train()
    assert read_reports(tmp_path / "a") == read_reports(tmp_path / "b")


def test_the_corpus_of_a_pickled_callback_is_the_same():
    corpus = ParallelCorpus.builtin(languages=["deu_Latn"])
    arrived = pickle.loads(pickle.dumps(NeuronXACallback(corpus)))
    assert arrived.config.load().digest == corpus.digest
