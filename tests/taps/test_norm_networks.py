"""Norm and feed-forward network in one module, as Transformer Engine has them: a stand-in."""

import pytest
import torch
from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import contains_linear, is_norm, is_single_operation
from neuronxa_callback.taps.norm_networks import NAMES
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn.formulas import close, same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, read
from tests.helpers.ffn.transformer_engine import LayerNormMLP, Linear, fused
from tests.helpers.ranks import measurement, noisy_llama, probe_of_seven


class Around(nn.Module):
    """What a block of one's own does with a module that returns its bias, or its norm, too."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        out, *rest = self.inner(x)
        return out + rest[0] if self.inner.return_bias else out


def with_networks(make):
    """A llama whose networks, behind their norms, are made by a function."""
    model = tiny("llama")
    torch.manual_seed(0)
    for layer in model.model.layers:
        layer.mlp = make()
    return model


def seen(model):
    """Gate and product as the stand-in has computed them in the latest forward, per layer."""
    networks = [m for m in model.modules() if isinstance(m, LayerNormMLP)]
    pairs = [network.seen for network in networks]
    return [{"gate": g.flatten(0, 1), "product": p.flatten(0, 1)} for g, p in pairs]


def disturbed(network):
    """The same with biases and a norm that matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return network


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("activation", NAMES)
def test_states_of_every_activation_are_those_of_the_module(activation, norm):
    options = {"normalization": norm, "activation": activation, "zero_centered_gamma": True}
    model = with_networks(lambda: disturbed(LayerNormMLP(32, 48, **options)))
    plan, states = read(model)
    run(model, ids(BATCH, TOKENS))
    assert same_states(states, seen(model))
    assert [part.path for part in plan.parts] == ["model.layers.0.mlp", "model.layers.1.mlp"]
    assert {part.kind for part in plan.parts} == {"fused" if NAMES[activation][1] else "plain"}
    assert {part.width for part in plan.parts} == {48}


def test_such_a_module_is_no_norm_and_no_linear_layer():
    module = LayerNormMLP(32, 48)
    assert not is_norm(module)
    assert not contains_linear(module)
    assert is_single_operation(module)
    assert is_norm(nn.LayerNorm(32))


def test_linear_layers_of_the_same_library_are_read_like_any_other():
    model = tiny("llama")
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(layer.mlp, name, Linear(getattr(layer.mlp, name)))
    _, states = read(model)
    assert same_states(states, read(tiny("llama"))[1])


@pytest.mark.parametrize("more", ["return_bias", "return_layernorm_output"])
def test_what_the_module_returns_beside_its_output_changes_nothing(more):
    model = with_networks(lambda: Around(disturbed(LayerNormMLP(32, 48, **{more: True}))))
    _, states = read(model)
    run(model, ids(BATCH, TOKENS))
    assert same_states(states, seen(model))


def test_the_report_is_that_of_the_same_model_in_separate_modules():
    apart, one = probe_of_seven().run(noisy_llama()), probe_of_seven().run(fused(noisy_llama()))
    assert {name: scores.hits for name, scores in one.metrics.items()} == {
        name: scores.hits for name, scores in apart.metrics.items()
    }
    assert any(any(hits) for scores in one.metrics.values() for hits in scores.hits.values())
    assert one.run["proof"]["recomputed"] == apart.run["proof"]["recomputed"] == 3
    assert one.run["proof"]["not_recomputed"] == {}


def test_in_bf16_and_under_autocast_states_are_as_near_as_rounding_allows():
    model = fused(tiny("llama"), zero_centered_gamma=True)

    def call(tokens):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run(model, tokens)

    _, states = read(model, call)
    call(ids(BATCH, TOKENS))
    for one, other in zip(states, seen(model), strict=True):
        for site, found in one.items():
            # Both are rounded to bf16; the last bit may differ where formulas differ in fp32.
            rounded = other[site].bfloat16().float()
            assert (found == rounded).float().mean() > 0.99
            assert close(found, rounded, 1e-2)
    assert measurement(probe_of_seven().run(fused(noisy_llama()).bfloat16()))


WHOLE = "the feed-forward network model.layers.0.mlp must be one whose states can be computed, but "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"activation": "clamped_swiglu"},
            f"{WHOLE}its activation is 'clamped_swiglu', expected one of {', '.join(NAMES)}",
        ),
        ({"tp_size": 2}, f"{WHOLE}its neurons are spread over 2 ranks; give it tp_size=1"),
        (
            {"primary_weights_in_fp8": True},
            f"{WHOLE}its weights are kept in FP8; create it without FP8 parameters",
        ),
        (
            {"fp8": True},
            f"{WHOLE}it runs in FP8, where nothing shows its states; let it run in FP8 in training"
            " only (the default of accelerate: use_autocast_during_eval=False)",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(change, message):
    model = fused(tiny("llama"))
    for layer in model.model.layers:
        for name, value in change.items():
            setattr(layer.mlp, name, value)
    with pytest.raises(TapError) as error:
        read(model)
    assert str(error.value) == message


def test_attributes_that_say_something_else_than_the_module_computes_are_refused():
    model = fused(tiny("llama"))
    for layer in model.model.layers:
        layer.mlp.states = swapped
    with pytest.raises(TapError) as error:
        read(model)
    assert str(error.value) == (
        "the attributes of model.layers.0.mlp must say what it computes, but swiglu between its"
        " weights does not give its output; pass the networks that can be read as neuron_modules="
    )


def swapped(inner):
    """The second half as the gate."""
    other, gate = inner.chunk(2, dim=-1)
    return nn.functional.silu(gate), nn.functional.silu(gate) * other
