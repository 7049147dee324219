"""How a model is called: its arguments, its hidden states, and what wrappers change."""

import pytest
import torch
from torch import nn

from neuronxa_callback.probe.batching import Sentence, collate
from neuronxa_callback.probe.forward import Forward, base_of, device_of
from tests.helpers.families import tiny
from tests.helpers.tiny import llama

BATCH = collate([Sentence((5, 6, 7), (False,) * 3), Sentence((8, 9), (False,) * 2)], pad=0)


def arguments_of(model, stack="encoder", hidden=False):
    """The arguments of one call, and what ``Forward`` returns."""
    calls = []
    hook = model.register_forward_pre_hook(lambda *call: calls.append(call[2]), with_kwargs=True)
    with torch.no_grad():
        states = Forward(model, stack, hidden)(BATCH)
    hook.remove()
    return calls[0], states


def test_a_causal_model_computes_one_logit_and_no_cache():
    arguments, states = arguments_of(llama())
    assert arguments["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert arguments["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert arguments["logits_to_keep"] == 1
    assert arguments["use_cache"] is False
    assert "output_hidden_states" not in arguments
    assert states == ()


def test_hidden_states_are_those_of_transformers():
    model = llama()
    _, states = arguments_of(model, hidden=True)
    with torch.no_grad():
        expected = model(BATCH.ids, BATCH.mask.long(), output_hidden_states=True).hidden_states
    assert len(states) == 4
    assert all(torch.equal(*pair) for pair in zip(states, expected, strict=True))


@pytest.mark.parametrize(("stack", "decoder_ids"), [("encoder", 1), ("decoder", 3), ("both", 3)])
def test_a_decoder_gets_the_sentence_only_if_it_is_measured(stack, decoder_ids):
    arguments, _ = arguments_of(tiny("bart"), stack)
    assert arguments["decoder_input_ids"].shape == (2, decoder_ids)


def test_the_base_is_the_model_inside_of_wrappers():
    model = llama()
    wrapper = nn.Module()
    wrapper.module = nn.Module()
    wrapper.module._orig_mod = model
    assert base_of(wrapper) is model
    assert device_of(wrapper) == torch.device("cpu")
