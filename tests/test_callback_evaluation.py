"""Scores in the metrics of every evaluation, and what the Trainer makes of them."""

import pytest
from transformers import EarlyStoppingCallback, TrainerCallback

from neuronxa_callback import NeuronXACallback, ProbeConfig, read_reports
from tests.helpers.runs import TEXTS, tokenizer_for, trainer_of
from tests.helpers.scripted import ScriptedCallback, with_score
from tests.helpers.tiny import parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


EVALUATING = {"eval_strategy": "steps", "eval_steps": 2}


def test_every_evaluation_carries_the_scores(tokenizer, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            seen.append((state.global_step, {k: v for k, v in metrics.items() if "nasca" in k}))

    callbacks = [NeuronXACallback(CONFIG), Watch()]
    trainer_of(tokenizer, tmp_path, callbacks, args=EVALUATING).train()
    reports = {report.step: report for report in read_reports(tmp_path)}
    assert [step for step, _ in seen] == [2, 4, 6]
    assert sorted(reports) == [0, 2, 4, 6]
    for step, metrics in seen:
        assert metrics == {
            "eval_nasca": reports[step].score("nasca"),
            "eval_nasca_deu_Latn": reports[step].score("nasca", "deu_Latn"),
            "eval_nasca_fra_Latn": reports[step].score("nasca", "fra_Latn"),
        }


def test_several_evaluation_sets_carry_them_once_a_step(tokenizer, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            seen.append((state.global_step, "eval_nasca" in metrics))

    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS[:4]]
    trainer_of(
        tokenizer,
        tmp_path,
        [NeuronXACallback(CONFIG), Watch()],
        args=EVALUATING,
        eval_dataset={"a": rows, "b": rows},
    ).train()
    assert seen == [(2, True), (2, False), (4, True), (4, False), (6, True), (6, False)]
    assert [report.step for report in read_reports(tmp_path)] == [0, 2, 4, 6]


SCORES = {0: 0.0, 2: 0.3, 4: 0.8, 6: 0.5, 8: 0.4, 10: 0.3, 12: 0.2}
BEST = {
    **EVALUATING,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_nasca",
    "max_steps": 12,
}


def planned():
    return ScriptedCallback(CONFIG, lambda report: with_score(report, SCORES[report.step]))


def test_the_best_checkpoint_by_alignment_is_loaded_at_the_end(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [planned()], args=BEST | {"max_steps": 6})
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert trainer.state.best_metric == 0.8


def test_early_stopping_of_transformers_stops_on_it(tokenizer, tmp_path):
    callbacks = [planned(), EarlyStoppingCallback(2)]
    trainer = trainer_of(tokenizer, tmp_path, callbacks, args=BEST)
    trainer.train()
    assert trainer.state.global_step == 8


def test_evaluate_outside_of_training_carries_the_scores_and_adds_no_point(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    assert "eval_nasca" in trainer.evaluate()
    trainer.train()
    before = read_reports(tmp_path)
    metrics = trainer.evaluate()
    assert metrics["eval_nasca"] == before[-1].score("nasca")
    assert read_reports(tmp_path) == before
