"""The proofs of a plan by themselves: gate and product by experiment, completeness, signature."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps import discover
from neuronxa_callback.taps.experts.hooks import ExpertGroupTap, ExpertsTap
from neuronxa_callback.taps.flow.signature import ModelSignature
from neuronxa_callback.taps.hooks import Source
from neuronxa_callback.taps.proof import completeness
from neuronxa_callback.taps.proof.experiment import COPIES, Experiment
from neuronxa_callback.taps.proof.factors import FactorProof
from tests.helpers.attacks.models import HIDDEN, WIDTH, GatedNetwork, decoder, one_unusual
from tests.helpers.attacks.networks import with_layers
from tests.helpers.families import ids, run, tiny

TOKENS = 6


def plan_of(model, inspect=None):
    return discover(model, lambda: run(model, ids(1, TOKENS)), inspect=inspect)


def experiment_on(model, plan, sites=("gate", "product")):
    """The experiment on ``plan``: raises what it finds."""
    proof = FactorProof(plan, sites)
    with torch.no_grad(), proof.attach(model, TOKENS) as reader:
        reader.begin()
        run(model, ids(1, TOKENS).repeat(COPIES, 1))
    proof.raise_first()
    return proof


def last_tap(plan, change):
    """The plan with a change in its last network."""
    return replace(plan, taps=(*plan.taps[:-1], change(plan.taps[-1])))


FAMILIES = ("llama", "phi3", "glm", "lfm2", "bitnet", "gpt2", "squeezebert", "albert", "mt5")
EXPERTS = ("mixtral", "gpt_oss", "llama4", "switch_transformers", "jetmoe")


@pytest.mark.parametrize("family", FAMILIES + EXPERTS)
def test_right_plans_stand(family):
    model = tiny(family)
    plan = plan_of(model)
    proof = experiment_on(model, plan)
    assert proof.unchecked == {}
    assert set(proof.checked) == {part.path for part in plan.parts}


def product_for_gate(tap):
    return replace(tap, gate=Source())


def up_for_gate(tap):
    up = next(path for path, _ in tap.projections if "up" in path or "w3" in path)
    return replace(tap, gate=Source(up))


def another_activation(tap):
    source = tap.projections[0][0]
    formula = lambda outputs: nn.functional.gelu(outputs[source])  # noqa: E731
    return replace(tap, gate=Source(formula=formula, layers=(source,)))


@pytest.mark.parametrize("change", [product_for_gate, up_for_gate, another_activation])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_another_gate_is_refused(family, change, dtype):
    model = tiny(family).to(dtype)
    plan = last_tap(plan_of(model), change)
    with pytest.raises(TapError, match=r"layers\.1\.mlp\.down_proj must be its gate"):
        experiment_on(model, plan)
    experiment_on(model, plan, sites=("product",))


@pytest.mark.parametrize("family", ["phi3", "glm"])
def test_the_other_half_of_a_fused_projection_is_refused(family):
    model = tiny(family)
    plan = plan_of(model)

    def other_half(tap):
        ((source, columns),) = tap.projections
        formula = lambda outputs: outputs[source][..., columns // 2 :]  # noqa: E731
        return replace(tap, gate=Source(formula=formula, layers=(source,)))

    with pytest.raises(TapError, match="without an activation function"):
        experiment_on(model, last_tap(plan, other_half))


def test_a_product_behind_its_norm_is_refused():
    model = tiny("bitnet")
    plan = plan_of(model)
    assert plan.taps[-1].product.module != plan.taps[-1].path
    with pytest.raises(TapError, match="behind a norm"):
        experiment_on(model, last_tap(plan, lambda tap: replace(tap, product=Source(tap.path))))


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_the_product_for_the_gate_of_experts_is_refused(family):
    model = tiny(family)

    def change(tap):
        assert isinstance(tap, ExpertsTap)
        return replace(tap, recipe=replace(tap.recipe, gate=None, gate_columns=None))

    with pytest.raises(TapError, match=r"mlp\.experts must be its gate"):
        experiment_on(model, last_tap(plan_of(model), change))


def test_the_product_for_the_gate_of_separate_experts_is_refused():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(HIDDEN, 2, bias=False)
            self.experts = nn.ModuleList(GatedNetwork() for _ in range(2))

        def forward(self, x):
            rows = x.reshape(-1, x.shape[-1])
            chosen, out = self.router(rows).argmax(-1), torch.zeros_like(rows)
            for number, expert in enumerate(self.experts):
                token = torch.where(chosen == number)[0]
                out.index_add_(0, token, expert(rows[token]))
            return out.view_as(x)

    model = decoder(Experts)
    model.config = None

    def call(tokens):
        return model(tokens)

    plan = discover(model, lambda: call(ids(1, TOKENS)))
    assert isinstance(plan.taps[-1], ExpertGroupTap)
    wrong = last_tap(
        plan, lambda tap: replace(tap, experts=tuple(map(product_for_gate, tap.experts)))
    )
    for one, refused in ((plan, False), (wrong, True)):
        proof = FactorProof(one, ("gate", "product"))
        with torch.no_grad(), proof.attach(model, TOKENS) as reader:
            reader.begin()
            call(ids(1, TOKENS).repeat(COPIES, 1))
        assert bool(proof.problems) == refused


def test_the_experiment_leaves_no_hook():
    model = tiny("llama")
    before = ModelSignature(model)
    experiment_on(model, plan_of(model))
    assert before.matches(model)


def test_values_follow_the_copies():
    fused = Experiment({"wi": 8}, 4)
    changed = fused.changed("wi")
    assert changed[:6].int().tolist() == [
        [0] * 8,
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 1],
        [1] * 8,
        [1, 0] * 4,
        [0, 1] * 4,
    ]
    values = fused.values("wi", torch.zeros(1))
    assert (values[0] > 0).all()
    assert torch.equal(values != values[0], changed)
    two = Experiment({"gate": 4, "up": 4}, 4)
    assert [two.changed(path)[:4, 0].tolist() for path in ("gate", "up")] == [
        [False, True, False, True],
        [False, False, True, True],
    ]


def completeness_of(model, drop=None):
    """The proof of completeness, without the part ``drop`` of the plan."""
    kept = []
    plan = discover(
        model,
        lambda: run(model, ids(1, TOKENS)) if hasattr(model, "config") else model(ids(1, TOKENS)),
        inspect=lambda trace, plan: kept.append(trace),
    )
    if drop is not None:
        parts = tuple(part for k, part in enumerate(plan.parts) if k != drop)
        plan = replace(plan, parts=parts, taps=())
    return completeness.check(kept[0], plan, model)


@pytest.mark.parametrize(
    "family", ["llama", "phi3", "gpt2", "bert", "bitnet", "qwen2_moe", "jetmoe", "lfm2", "bart"]
)
def test_complete_plans_stand_and_others_do_not(family):
    model = tiny(family)
    completeness_of(model)
    with pytest.raises(TapError, match=r"must (be read|have the same)"):
        completeness_of(model, drop=0)


@pytest.mark.parametrize("name", ["gate", "up", "down"])
def test_a_bare_linear_layer_is_read_like_the_others(name):
    sizes = (WIDTH, HIDDEN) if name == "down" else (HIDDEN, WIDTH)
    model = one_unusual(GatedNetwork, with_layers(**{name: sizes}))
    completeness_of(model)
    with pytest.raises(TapError, match=r"layers\.1\.ffn\.down"):
        completeness_of(model, drop=1)


def test_a_mixer_is_left_out_for_a_reason():
    left_out = completeness_of(tiny("jetmoe"))
    assert "reads other tokens between its layers" in left_out
    assert all(
        path.endswith(("output_linear", "input_linear"))
        for paths in left_out.values()
        for path in paths
    )


def test_a_signature_sees_what_changes():
    model = tiny("llama")
    signature = ModelSignature(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    model.train()
    model.double().float()
    assert signature.matches(model)

    def changes():
        yield lambda model: setattr(model.model.layers[0].mlp, "act_fn", nn.GELU())
        yield lambda model: model.model.layers[0].register_forward_hook(lambda *_: None)
        yield lambda model: setattr(model.model.layers[1].mlp, "forward", lambda x: x)
        yield lambda model: model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
        yield lambda model: model.model.layers.append(copy.deepcopy(model.model.layers[0]))
        yield lambda model: setattr(model.model.layers[1].mlp, "fused", True)
        yield lambda model: model.half()

    for change in changes():
        signature = ModelSignature(model)
        assert signature.matches(model)
        change(model)
        assert not signature.matches(model)
    assert not ModelSignature(model).matches(tiny("llama"))


def test_a_signature_sees_another_adapter():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny("llama"), peft.LoraConfig(r=2))
    model.add_adapter("other", peft.LoraConfig(r=2))
    signature = ModelSignature(model)
    model.set_adapter("other")
    assert not signature.matches(model)
