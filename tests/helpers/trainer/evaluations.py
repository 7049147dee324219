"""Evaluations that the training loop does not run itself, and callbacks that note the scores."""

import copy
from contextlib import nullcontext

import pytest
from transformers import TrainerCallback

from neuronxa_callback import ProbeConfig, read_reports
from tests.helpers.runs import trainer_of
from tests.helpers.scripted import ScriptedCallback, with_score
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10, diagnostics=())
NESTED = {
    "train": {"metric_key_prefix": "train"},
    "eval": {},
    "eval_test": {"metric_key_prefix": "eval_test"},
}
"""Options of ``evaluate`` in another callback, by their prefix."""
EVALUATING = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 4}
SAVING = EVALUATING | {"save_strategy": "steps", "save_steps": 2}
BEST = SAVING | {"load_best_model_at_end": True, "metric_for_best_model": "eval_nasca"}


def steps_of(folder):
    return [report.step for report in read_reports(folder)]


def scores_in(metrics):
    """The mean scores by key, without those of single languages."""
    return {key: value for key, value in metrics.items() if key.endswith("_nasca")}


class Numbered(ScriptedCallback):
    """The n-th measurement scores n tenths, so a score tells which measurement it is."""

    def __init__(self, **options):
        super().__init__(CONFIG, self._number, **options)
        self.measured = 0

    def _number(self, report):
        self.measured += 1
        return with_score(report, self.measured / 10)


class Evaluate(TrainerCallback):
    """Evaluates in an event of a training run, inside of a context of its model: a known recipe."""

    def __init__(self, event, context=lambda model: nullcontext(), **options):
        self.context, self.options = context, options
        self.trainer, self.busy, self.found = None, False, []
        setattr(self, event, self._evaluate)

    def _evaluate(self, args, state, control, model=None, **kwargs):
        if self.busy:
            return None
        self.busy = True
        # An evaluation ends with ``should_evaluate = False``, which the loop has yet to read.
        before = copy.copy(control)
        with self.context(model):
            self.found.append((state.global_step, self.trainer.evaluate(**self.options)))
        self.busy = False
        return before


class Watch(TrainerCallback):
    """Notes the scores in the metrics of every evaluation."""

    def __init__(self):
        self.seen = []

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        prefix = next(key for key in metrics if key.endswith("_runtime")).removesuffix("_runtime")
        self.seen.append((state.global_step, prefix, scores_in(metrics)))


def train(tokenizer, folder, *callbacks, **options):
    trainer = trainer_of(tokenizer, folder, callbacks, **options)
    for each in callbacks:
        if isinstance(each, Evaluate):
            each.trainer = trainer
    trainer.train()
    return trainer


def adapted():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["up_proj"], init_lora_weights=False)
    model = peft.get_peft_model(llama(), config)
    model.add_adapter("other", config)
    return model
