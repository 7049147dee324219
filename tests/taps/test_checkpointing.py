"""Activation checkpointing runs blocks again in the backward pass; no state is read there."""

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from neuronxa_callback.taps import discover
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn.formulas import same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, Collect, read


def build(how):
    model = tiny("llama").train()
    if how == "wrapped":
        for number, layer in enumerate(model.model.layers):
            model.model.layers[number] = checkpoint_wrapper(layer)
    elif how is not None:
        model.gradient_checkpointing_enable({"use_reentrant": how == "reentrant"})
    runs = []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    return model, runs


def gradients_of(model):
    model.zero_grad()
    tokens = ids(BATCH, TOKENS)
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("how", ["reentrant", "not reentrant", "wrapped"])
def test_states_and_gradients_do_not_depend_on_checkpointing(how, gradients):
    plain, _ = build(None)
    model, runs = build(how)
    before = gradients_of(model)
    assert len(runs) == 4, "two blocks run once forward and once more in the backward pass"

    def call(tokens):
        with torch.set_grad_enabled(gradients):
            model(input_ids=tokens, use_cache=False)

    plan, states = read(model, call)
    assert same_states(states, read(tiny("llama"))[1])
    assert [part.path for part in plan.parts] == [
        f"model.layers.{layer}.mlp.down_proj" for layer in (0, 1)
    ]
    for after in (before, gradients_of(model)):
        assert all(map(torch.equal, after, gradients_of(plain)))


@pytest.mark.parametrize("how", ["reentrant", "not reentrant"])
def test_a_backward_pass_while_reading_is_an_error(how):
    model, _ = build(how)
    plan = discover(model, lambda: run(model, ids(1, 4)))
    with plan.attach(model, SITES, Collect(plan), lambda: (BATCH, TOKENS)) as reader:
        reader.begin()
        gradients_of(model)
        reader.end()
    assert "gate at model.layers.0.mlp.down_proj 2 of 1 times" in str(reader.error)
