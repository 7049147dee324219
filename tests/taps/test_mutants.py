"""Slightly wrong tap plans: the oracle, or the taps' own counts, must object to each."""

import copy
from dataclasses import replace

import pytest

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.hooks import ExpertGroupTap, ExpertsTap
from neuronxa_callback.taps.hooks import DenseTap, Source
from tests.helpers.families import adapted, tiny
from tests.helpers.ffn import zoo
from tests.helpers.ffn.formulas import same_states
from tests.helpers.ffn.reading import read
from tests.helpers.ffn.survey import examine, tokens_of


def with_zoo(first, *others):
    """Names of models, all but the first marked as ``zoo``."""
    return [first, *(pytest.param(name, marks=pytest.mark.zoo) for name in others)]


def changed(plan, change, last_only=False):
    """The plan with ``change`` applied to every tap, or to the last only."""
    kept = len(plan.taps) - 1 if last_only else 0
    return replace(plan, taps=(*plan.taps[:kept], *map(change, plan.taps[kept:])))


def examined(name, change):
    """The right plan, and the oracle's objections to the plan that ``change`` makes of it."""
    model, tokens = zoo.build(zoo.ENTRIES[name]), tokens_of(name)
    plan, _ = read(model, stack="both")
    assert examine(name, model, tokens, plan=plan).wrong == []
    return plan, examine(name, model, tokens, plan=change(plan)).wrong


def product_for_gate(tap):
    assert isinstance(tap, DenseTap)
    assert tap.gate_modules
    return replace(tap, gate=Source())


@pytest.mark.parametrize(
    "name", with_zoo("llama/causal", "phi3/causal", "lfm2/causal", "bitnet/causal")
)
def test_the_product_for_the_gate(name):
    plan, wrong = examined(name, lambda plan: changed(plan, product_for_gate, last_only=True))
    assert wrong == [f"gate of {plan.parts[-1].path} (layer 1)"]


def base_layer_for_wrapper(tap):
    below = {path: f"{path}.base_layer" for path in tap.gate.layers}

    def formula(outputs):
        return tap.gate.formula({path: outputs[there] for path, there in below.items()})

    return replace(tap, gate=Source(formula=formula, layers=tuple(below.values())))


def test_the_base_layer_for_the_wrapper():
    model = adapted("lfm2", target_modules=["w1", "w3"])
    plan, states = read(model, lambda tokens: model(input_ids=tokens))
    mutant = changed(plan, base_layer_for_wrapper)
    _, wrong = read(model, lambda tokens: model(input_ids=tokens), plan=mutant)
    _, merged = read(copy.deepcopy(model).merge_and_unload())
    gates = [[{"gate": part["gate"]} for part in parts] for parts in (states, wrong, merged)]
    assert same_states(gates[0], gates[2], 1e-4)
    assert not same_states(gates[1], gates[2], 1e-3)


def one_expert_too_few(tap):
    if isinstance(tap, ExpertsTap):
        return replace(tap, recipe=replace(tap.recipe, experts=tap.recipe.experts - 1))
    if isinstance(tap, ExpertGroupTap):
        return replace(tap, experts=tap.experts[:-1], row_modules=tap.row_modules[:-1])
    return tap


def three_of_four(part):
    return replace(part, experts=3, width=part.width // 4 * 3) if part.experts else part


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    "name", with_zoo("switch_transformers+sparse/seq2seq", "mixtral/causal", "gpt_oss/causal")
)
def test_one_expert_too_few(name, declared):
    """``declared``: whether the parts of the plan have one expert less, too."""

    def change(plan):
        parts = tuple(map(three_of_four, plan.parts)) if declared else plan.parts
        return replace(changed(plan, one_expert_too_few), parts=parts)

    _, wrong = examined(name, change)
    assert wrong
    assert all(".experts" in objection for objection in wrong)


@pytest.mark.parametrize(
    "name", with_zoo("llama/causal", "t5/seq2seq", "mixtral/causal", "bert/masked")
)
def test_one_layer_too_few(name):
    def change(plan):
        return replace(plan, parts=plan.parts[:-1], taps=plan.taps[:-1])

    plan, wrong = examined(name, change)
    assert wrong == [f"{plan.parts[-1].path} is missing"]


def test_one_pass_too_few():
    """Passes of one block: the taps' own counts object."""
    model = tiny("albert")
    plan, _ = read(model)
    mutant = changed(plan, lambda tap: replace(tap, parts=tap.parts[:-1]))
    mutant = replace(mutant, parts=plan.parts[:-1])
    with pytest.raises(TapError, match=rf"gate at {plan.parts[0].path} 3 of 2 times"):
        read(model, plan=mutant)
