"""Evaluations in a training run that its loop does not run itself: in callbacks, after the loop."""

import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from neuronxa_callback import NeuronXACallback, Probe, read_reports
from tests.helpers.runs import TEXTS, tokenizer_for
from tests.helpers.scripted import ScriptedCallback, with_score
from tests.helpers.trainer.evaluations import (
    BEST,
    CONFIG,
    CORPUS,
    EVALUATING,
    NESTED,
    SAVING,
    Evaluate,
    Numbered,
    Watch,
    adapted,
    scores_in,
    steps_of,
    train,
)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS[:4]]


@pytest.mark.parametrize("nested_first", [True, False])
@pytest.mark.parametrize("event", ["on_step_end", "on_epoch_end", "on_evaluate", "on_log"])
@pytest.mark.parametrize("options", NESTED.values(), ids=NESTED)
def test_a_nested_evaluation_has_its_own_keys_and_training_goes_on(
    options, event, nested_first, tokenizer, tmp_path
):
    nested, watch = Evaluate(event, **options), Watch()
    ours = NeuronXACallback(CONFIG)
    first = [nested, ours] if nested_first else [ours, nested]
    train(tokenizer, tmp_path, *first, watch, EarlyStoppingCallback(9), args=BEST)
    prefix = options.get("metric_key_prefix", "eval")
    assert nested.found
    assert all(set(scores_in(found)) == {f"{prefix}_nasca"} for _, found in nested.found)
    by_step = {report.step: report.score("nasca") for report in read_reports(tmp_path)}
    assert list(by_step) == [0, 2, 4]
    own = [(step, found) for step, name, found in watch.seen if name == "eval"]
    assert {step for step, _ in own} >= {2, 4}
    for step, found in own:
        assert set(found) == {"eval_nasca"}
        if step in (2, 4):
            assert found["eval_nasca"] == by_step[step]


@pytest.mark.parametrize("event", ["on_step_end", "on_evaluate"])
def test_nested_sets_have_their_own_keys_and_those_of_the_loop_carry_the_scores_once(
    event, tokenizer, tmp_path, rows
):
    sets = {"a": rows, "b": rows}
    nested, watch = Evaluate(event, eval_dataset={"x": rows, "a": rows}), Watch()
    ours = Numbered()
    train(tokenizer, tmp_path, nested, ours, watch, args=BEST, eval_dataset=sets)
    for _, found in nested.found:
        assert set(scores_in(found)) == {"eval_x_nasca", "eval_a_nasca"}
        assert len(set(scores_in(found).values())) == 1
    own = [(step, name) for step, name, found in watch.seen if "eval_nasca" in found]
    assert own == [(2, "eval_a"), (4, "eval_a")]
    assert steps_of(tmp_path) == [0, 2, 4]


def test_early_stopping_counts_the_evaluations_of_the_loop(tokenizer, tmp_path, caplog):
    ours = ScriptedCallback(CONFIG, lambda report: with_score(report, 0.5))
    nested = Evaluate("on_epoch_end", metric_key_prefix="train")
    args = {"max_steps": -1, "num_train_epochs": 5, "eval_strategy": "epoch"}
    args |= {"metric_for_best_model": "eval_nasca", "save_strategy": "epoch"}
    trainer = train(tokenizer, tmp_path, ours, nested, EarlyStoppingCallback(1), args=args)
    assert trainer.state.epoch == 2
    assert [set(scores_in(found)) for _, found in nested.found] == [{"train_nasca"}] * 2


@pytest.mark.parametrize("options", NESTED.values(), ids=NESTED)
def test_a_nested_evaluation_measures_the_model_as_it_is_and_is_no_point(
    options, tokenizer, tmp_path
):
    nested = Evaluate("on_step_end", lambda model: model.disable_adapter(), **options)
    ours = Numbered(every=2)
    train(tokenizer, tmp_path, nested, ours, model=adapted(), args={"max_steps": 2})
    # Measured: step 0, then nested at step 1 and at step 2, then step 2.
    assert [list(scores_in(found).values()) for _, found in nested.found] == [[0.2], [0.3]]
    scores = [(report.step, round(report.score("nasca"), 3)) for report in read_reports(tmp_path)]
    assert scores == [(0, 0.1), (2, 0.4)]


def test_training_is_the_same_with_nested_evaluations(tokenizer, tmp_path):
    found = []
    for callbacks in ([NeuronXACallback(CONFIG)], []):
        nested = [Evaluate("on_step_end", metric_key_prefix="train"), Evaluate("on_evaluate")]
        trainer = train(tokenizer, tmp_path, *nested, *callbacks, args=EVALUATING)
        found.append(trainer.model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("prefix", ["test", "eval_test"])
@pytest.mark.parametrize("test_first", [True, False])
def test_a_trainer_may_evaluate_a_test_set_with_every_evaluation(
    prefix, test_first, tokenizer, tmp_path, rows, monkeypatch
):
    evaluate, found = Trainer.evaluate, []

    def both(self, *args, **kwargs):
        if test_first:
            evaluate(self, rows, metric_key_prefix=prefix)
        own = evaluate(self, *args, **kwargs)
        if not test_first:
            evaluate(self, rows, metric_key_prefix=prefix)
        found.append(scores_in(own))
        return own

    monkeypatch.setattr(Trainer, "evaluate", both)
    train(tokenizer, tmp_path, NeuronXACallback(CONFIG), args=BEST)
    assert [set(each) for each in found] == [{"eval_nasca"}] * 2
    assert steps_of(tmp_path) == [0, 2, 4]


def test_a_metric_of_ones_own_that_is_called_runtime_is_no_prefix(tokenizer, tmp_path):
    options = {"compute_metrics": lambda prediction: {"model_runtime": 1.0}}
    watch = Watch()
    trainer = train(tokenizer, tmp_path, NeuronXACallback(CONFIG), watch, args=BEST, **options)
    assert [set(found) for _, _, found in watch.seen] == [{"eval_nasca"}] * 2
    found = trainer.evaluate(metric_key_prefix="test")
    assert set(scores_in(found)) == {"test_nasca"}


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


BEST_IS_FIRST = SAVING | {
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": True,
    "max_steps": 6,
}


@pytest.mark.parametrize("stop", [5, 6])
@pytest.mark.parametrize("nested_first", [True, False])
@pytest.mark.parametrize("options", NESTED.values(), ids=NESTED)
def test_an_evaluation_at_the_end_measures_the_best_weights_and_is_no_point(
    options, nested_first, stop, tokenizer, tmp_path
):
    nested, ours = Evaluate("on_train_end", **options), NeuronXACallback(CONFIG)
    order = [nested, ours] if nested_first else [ours, nested]
    trainer = train(tokenizer, tmp_path, StopAt(stop), *order, args=BEST_IS_FIRST)
    assert trainer.state.global_step == stop
    assert trainer.state.best_global_step == 2
    [(_, found)] = nested.found
    prefix = options.get("metric_key_prefix", "eval")
    true = Probe(CONFIG, tokenizer).run(trainer.model)
    for name in CONFIG.metrics:
        assert found[f"{prefix}_{name}"] == true.score(name)
    assert steps_of(tmp_path) == ([0, 2, 4] if stop == 5 else [0, 2, 4, 6])


@pytest.mark.parametrize("stop", [5, 6])
def test_a_trainer_that_evaluates_the_best_model_itself_adds_no_point(
    stop, tokenizer, tmp_path, monkeypatch
):
    load, found = Trainer._load_best_model, []

    def load_and_evaluate(self):
        load(self)
        found.append(self.evaluate())

    monkeypatch.setattr(Trainer, "_load_best_model", load_and_evaluate)
    trainer = train(tokenizer, tmp_path, StopAt(stop), NeuronXACallback(CONFIG), args=BEST_IS_FIRST)
    true = Probe(CONFIG, tokenizer).run(trainer.model)
    assert [each["eval_navca"] for each in found] == [true.score("navca")]
    assert steps_of(tmp_path) == ([0, 2, 4] if stop == 5 else [0, 2, 4, 6])


@pytest.mark.parametrize("nested_first", [True, False])
def test_a_run_that_ends_early_is_probed_beside_an_evaluation_at_its_end(
    nested_first, tokenizer, tmp_path
):
    nested, ours = Evaluate("on_train_end"), NeuronXACallback(CONFIG, every=100)
    order = [nested, ours] if nested_first else [ours, nested]
    train(tokenizer, tmp_path, StopAt(3), *order)
    assert steps_of(tmp_path) == [0, 3]
    assert nested.found[0][1]["eval_nasca"] == read_reports(tmp_path)[-1].score("nasca")
