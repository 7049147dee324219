"""Discoveries that went wrong in small ways: what checks the taps must object to each of them."""

import copy
from dataclasses import replace

import pytest

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.expert_hooks import ExpertsTap, GroupTap
from neuronxa_callback.taps.hooks import DenseTap
from tests.helpers import zoo
from tests.helpers.families import tiny
from tests.helpers.survey import examine, read
from tests.taps import test_taps
from tests.taps.test_survey import ENTRIES, tokens_of
from tests.taps.test_taps import same


def changed(plan, change, last_only=False):
    """The plan with every tap (or the last) as ``change`` makes it."""
    places = [place.__self__ for place in plan.places]
    kept = len(places) - 1 if last_only else 0
    changed = [*places[:kept], *map(change, places[kept:])]
    return replace(plan, places=tuple(tap.install for tap in changed))


def examined(name, change):
    """What the oracle objects to, where ``change`` makes another plan of the right one."""
    model, tokens = zoo.build(ENTRIES[name]), tokens_of(name)
    plan, _ = read(model, stack="both")
    assert examine(name, model, tokens, plan=plan).wrong == []
    return plan, examine(name, model, tokens, plan=change(plan)).wrong


def product_for_gate(tap):
    assert isinstance(tap, DenseTap)
    assert tap.watched
    return replace(tap, gate="", formula=None, sources=())


@pytest.mark.parametrize("name", ["llama/causal", "phi3/causal", "lfm2/causal", "bitnet/causal"])
def test_the_product_for_the_gate(name):
    plan, wrong = examined(name, lambda plan: changed(plan, product_for_gate, last_only=True))
    assert wrong == [f"gate of {plan.parts[-1].path} (layer 1)"]


def base_layer_for_wrapper(tap):
    below = {path: f"{path}.base_layer" for path in tap.sources}

    def formula(outputs):
        return tap.formula({path: outputs[there] for path, there in below.items()})

    return replace(tap, sources=tuple(below.values()), formula=formula)


def test_the_base_layer_for_the_wrapper():
    model = test_taps.TestAdapters.adapted("lfm2", target_modules=["w1", "w3"])
    plan, states = read(model, lambda tokens: model(input_ids=tokens))
    mutant = changed(plan, base_layer_for_wrapper)
    _, wrong = read(model, lambda tokens: model(input_ids=tokens), plan=mutant)
    _, merged = read(copy.deepcopy(model).merge_and_unload())
    gates = [[{"gate": each["gate"]} for each in found] for found in (states, wrong, merged)]
    assert same(gates[0], gates[2], 1e-4)
    assert not same(gates[1], gates[2], 1e-3)


def one_expert_too_few(tap):
    if isinstance(tap, ExpertsTap):
        return replace(tap, recipe=replace(tap.recipe, experts=tap.recipe.experts - 1))
    if isinstance(tap, GroupTap):
        return replace(tap, experts=tap.experts[:-1], inward=tap.inward[:-1])
    return tap


def three_of_four(part):
    return replace(part, experts=3, width=part.width // 4 * 3) if part.experts else part


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize(
    "name", ["mixtral/causal", "gpt_oss/causal", "switch_transformers+sparse/seq2seq"]
)
def test_one_expert_too_few(name, stated):
    """Whether the plan says so or not."""

    def change(plan):
        parts = tuple(map(three_of_four, plan.parts)) if stated else plan.parts
        return replace(changed(plan, one_expert_too_few), parts=parts)

    _, wrong = examined(name, change)
    assert wrong
    assert all(".experts" in each for each in wrong)


@pytest.mark.parametrize("name", ["llama/causal", "t5/seq2seq", "mixtral/causal", "bert/masked"])
def test_one_layer_too_few(name):
    def change(plan):
        return replace(plan, parts=plan.parts[:-1], places=plan.places[:-1])

    plan, wrong = examined(name, change)
    assert wrong == [f"{plan.parts[-1].path} is missing"]


def test_one_pass_too_few():
    """Passes of one block: the taps count for themselves."""
    model = tiny("albert")
    plan, _ = read(model)
    mutant = changed(plan, lambda tap: replace(tap, parts=tap.parts[:-1]))
    mutant = replace(mutant, parts=plan.parts[:-1])
    with pytest.raises(TapError, match=rf"gate at {plan.parts[0].path} 3 of 2 times"):
        read(model, plan=mutant)
