"""Evaluations outside of training measure the model as it is, also if no weight has changed."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from neuronxa_callback import NeuronXACallback, Probe
from tests.helpers.runs import TEXTS, tokenizer_for, trainer_of
from tests.helpers.tiny import llama
from tests.helpers.trainer.evaluations import CONFIG, CORPUS, Evaluate, Numbered, adapted, scores_in


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS[:4]]


def switch_adapter(model):
    model.set_adapter("other")


def disable_adapter(model):
    model.base_model.disable_adapter_layers()


def scale_adapter(model):
    model.base_model.model.model.layers[0].mlp.up_proj.set_scale("default", 9)


def steer(model):
    model.get_decoder().layers[0].register_forward_hook(lambda module, args, out: out * 0.5 + 1)


def replace_activation(model):
    model.get_decoder().layers[1].mlp.act_fn = nn.ReLU()


def patch_forward(model):
    mlp = model.get_decoder().layers[1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(x) * -1


def change_attribute(model):
    model.get_decoder().layers[1].self_attn.scaling *= 9


def change_weights(model):
    with torch.no_grad():
        model.get_decoder().layers[1].mlp.up_proj.weight.mul_(-1)


STRUCTURE = [switch_adapter, disable_adapter, scale_adapter, steer, replace_activation]
CHANGES = [*STRUCTURE, patch_forward, change_attribute, change_weights]


@pytest.mark.parametrize("change", CHANGES)
def test_outside_of_training_every_evaluation_measures_the_model_as_it_is(
    change, tokenizer, tmp_path
):
    model = adapted() if "adapter" in change.__name__ else llama()
    ours = Numbered()
    trainer = trainer_of(tokenizer, tmp_path, [ours], model=model)
    assert scores_in(trainer.evaluate()) == {"eval_nasca": 0.1}
    change(model)
    assert scores_in(trainer.evaluate()) == {"eval_nasca": 0.2}


def test_with_and_without_an_adapter_are_the_scores_of_a_fresh_probe(tokenizer, tmp_path):
    model = adapted()
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.mul_(20)
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)], model=model)
    found = []
    for context in (nullcontext(), model.disable_adapter()):
        with context:
            report = Probe(CONFIG, tokenizer).run(model)
            metrics = trainer.evaluate()
        found.append([metrics[f"eval_{name}"] for name in CONFIG.metrics])
        assert found[-1] == [report.score(name) for name in CONFIG.metrics]
    assert found[0] != found[1]


def test_what_a_hook_reads_cannot_be_seen_and_is_measured_again(tokenizer, tmp_path):
    ours, strength = Numbered(), {"now": 0.0}
    trainer = trainer_of(tokenizer, tmp_path, [ours])
    layer = trainer.model.model.layers[0]
    layer.register_forward_hook(lambda module, args, out: out + strength["now"])
    trainer.evaluate()
    strength["now"] = 3.0
    assert scores_in(trainer.evaluate()) == {"eval_nasca": 0.2}


def test_the_sets_of_one_evaluation_share_a_measurement(tokenizer, tmp_path, rows):
    trainer = trainer_of(tokenizer, tmp_path, [Numbered()], eval_dataset={"a": rows, "b": rows})
    for call in (0.1, 0.2):
        assert scores_in(trainer.evaluate()) == {"eval_a_nasca": call, "eval_b_nasca": call}
    found = trainer.evaluate({"b": rows, 3: rows, "c": rows}, metric_key_prefix="test")
    assert set(scores_in(found)) == {"test_b_nasca", "test_3_nasca", "test_c_nasca"}
    assert set(scores_in(found).values()) == {0.3}


def test_sets_that_a_trainer_of_ones_own_loops_over_are_measured_each(tokenizer, tmp_path, rows):
    trainer = trainer_of(tokenizer, tmp_path, [Numbered()])
    found = [trainer.evaluate(rows, metric_key_prefix=f"eval_{name}") for name in "ab"]
    assert [scores_in(each) for each in found] == [{"eval_a_nasca": 0.1}, {"eval_b_nasca": 0.2}]


@pytest.mark.parametrize("change", [*STRUCTURE, patch_forward, change_weights])
def test_a_change_between_the_sets_of_one_evaluation_is_measured(change, tokenizer, tmp_path, rows):
    class Change(TrainerCallback):
        def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
            if "eval_b_runtime" in metrics:
                change(model)

    model = adapted() if "adapter" in change.__name__ else llama()
    sets = {"a": rows, "b": rows, "c": rows}
    trainer = trainer_of(
        tokenizer, tmp_path, [Numbered(), Change()], model=model, eval_dataset=sets
    )
    assert list(scores_in(trainer.evaluate()).values()) == [0.1, 0.1, 0.2]


@pytest.mark.parametrize("options", [{}, {"metric_key_prefix": "base"}, {"eval_dataset": "sets"}])
def test_an_evaluation_between_the_sets_of_another_does_not_lend_its_scores(
    options, tokenizer, tmp_path, rows
):
    ours, nested = Numbered(), Evaluate("on_evaluate", **options)
    sets = {"a": rows, "b": rows}
    if "eval_dataset" in options:
        nested.options = {"eval_dataset": sets}
    else:
        nested.options = {"eval_dataset": rows, **options}
    trainer = trainer_of(tokenizer, tmp_path, [ours, nested])
    nested.trainer = trainer
    # Measured: a, nested, b, nested.
    assert scores_in(trainer.evaluate(sets)) == {"eval_a_nasca": 0.1, "eval_b_nasca": 0.3}
    assert [set(scores_in(found).values()) for _, found in nested.found] == [{0.2}, {0.4}]
