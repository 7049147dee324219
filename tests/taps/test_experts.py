"""Routed experts: their neurons, their states, and the memory that reading them takes."""

import pytest
import torch
import transformers
from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps import discover
from neuronxa_callback.taps.experts import stacked as stacked_experts
from neuronxa_callback.taps.experts.rows import TokenMatcher
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import eager as computing
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn.formulas import close, same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, read

pytestmark = pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) < 5,
    reason="experts are a list of modules before transformers 5",
)
STACKED = ("mixtral", "qwen3_moe", "qwen2_moe", "gpt_oss", "deepseek_v3", "olmoe", "glm4_moe")


def by_hand(block, x):
    """Mixtral's router and experts as two loops: gate and product [tokens, experts * d_ff]."""
    flat = x.reshape(-1, x.shape[-1])
    up = block.experts.gate_up_proj
    width = up.shape[1] // 2
    gates, products = torch.zeros(2, len(flat), up.shape[0], width).unbind(0)
    chosen = (flat @ block.gate.weight.T).topk(2, dim=-1).indices
    for token, row in enumerate(chosen.tolist()):
        for expert in row:
            both = up[expert] @ flat[token]
            gate = both[:width] / (1 + torch.exp(-both[:width]))
            gates[token, expert] = gate
            products[token, expert] = gate * both[width:]
    return gates.flatten(1), products.flatten(1)


@torch.no_grad()
def test_states_of_mixtral_equal_two_loops():
    model, inputs = tiny("mixtral"), []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    plan, states = read(model)
    assert [(p.kind, p.width, p.experts) for p in plan.parts] == [("routed", 352, 4)] * 2
    for layer, x, found in zip(model.model.layers, inputs[2:], states, strict=True):
        for site, wanted in zip(SITES, by_hand(layer.mlp, x), strict=True):
            assert close(found[site], wanted)
            routed = found[site].view(-1, 4, 88).abs().sum(2) > 0
            assert (routed.sum(1) == 2).all()


@pytest.mark.parametrize("family", STACKED)
def test_states_do_not_depend_on_the_experts_implementation(family):
    found = []
    for how in ("eager", "batched_mm", "grouped_mm"):
        model = tiny(family)
        model.set_experts_implementation(how)
        found.append(read(model)[1])
    assert same_states(found[1], found[0], 1e-5)
    assert same_states(found[2], found[0], 1e-5)


@pytest.mark.parametrize("family", [*STACKED, "jetmoe", "llama4"])
def test_states_do_not_depend_on_the_batch(family):
    model, tokens = tiny(family), ids(4, TOKENS)
    _, alone = read(model, tokens=tokens[:1])
    _, among = read(model, tokens=tokens)
    for one, other in zip(alone, among, strict=True):
        assert all(close(one[site], other[site][:TOKENS], 1e-5) for site in SITES)


@pytest.mark.parametrize("family", STACKED)
@pytest.mark.parametrize("make", [tiny, computing])
def test_portions_give_the_states_of_one_computation(family, make, monkeypatch):
    _, whole = read(make(family))
    monkeypatch.setattr(stacked_experts, "ELEMENTS", 1)
    _, portions = read(make(family))
    assert same_states(portions, whole, 1e-6)


@pytest.mark.parametrize("family", STACKED)
def test_computing_one_expert_at_a_time_changes_no_state(family, monkeypatch):
    computed = []
    original = stacked_experts.project

    def watched(hidden, weights, counts, first, columns):
        computed.append(len([count for count in counts if count]))
        return original(hidden, weights, counts, first, columns)

    _, whole = read(computing(family))
    monkeypatch.setattr(stacked_experts, "CACHED", 1)
    model = computing(family)
    plan = discover(model, lambda: run(model, ids(1, 4)))
    monkeypatch.setattr(stacked_experts, "project", watched)
    _, runs = read(model, plan=plan)
    assert max(computed) == 1
    assert len(computed) > len([part for part in plan.parts if part.experts])
    # The last bit of a sigmoid may differ where a single row is computed (GPT-OSS).
    assert same_states(runs, whole, 1e-6)


def test_the_gate_alone_computes_half_of_the_projections(monkeypatch):
    columns_computed = []
    original = stacked_experts.project

    def watched(hidden, weights, counts, first, columns):
        columns_computed.append(columns)
        return original(hidden, weights, counts, first, columns)

    _, both = read(computing("gpt_oss"))
    monkeypatch.setattr(stacked_experts, "project", watched)
    plan = discover(model := computing("gpt_oss"), lambda: run(model, ids(1, 4)))
    columns_computed.clear()
    _, alone = read(model, plan=plan, sites=("gate",))
    assert columns_computed == [slice(0, None, 2)] * 2
    assert all(close(a["gate"], b["gate"], 1e-6) for a, b in zip(alone, both, strict=True))


def test_a_dropped_token_has_no_states():
    wide, tight = (tiny("switch_transformers", expert_capacity=n) for n in (64, 1))
    tokens = ids(1, TOKENS)

    def routed(model):
        plan, states = read(model, tokens=tokens)
        part = next(k for k, part in enumerate(plan.parts) if part.experts)
        return states[part]["gate"].view(TOKENS, 4, 88).abs().sum((1, 2)) > 0

    assert routed(wide).all()
    assert 0 < routed(tight).sum() <= 4


class TestTokenMatcher:
    def test_rows_are_matched(self):
        hidden = torch.randn(6, 5)
        order = torch.tensor([4, 0, 5])
        token, first = TokenMatcher(hidden).match(hidden[order], torch.zeros(3), "experts")
        assert token.tolist() == [4, 0, 5]
        assert first.all()

    def test_equal_tokens_are_assigned_in_order(self):
        hidden = torch.ones(3, 5)
        hidden[1] = 2
        rows = torch.ones(2, 5)
        token, first = TokenMatcher(hidden).match(rows, torch.zeros(2), "experts")
        assert token.tolist() == [0, 2]
        assert first.all()

    def test_every_expert_starts_at_the_first_equal_token(self):
        hidden = torch.ones(2, 5)
        token, first = TokenMatcher(hidden).match(hidden, torch.tensor([0, 1]), "experts")
        assert token.tolist() == [0, 0]
        assert first.all()

    def test_a_token_that_an_expert_gets_twice_counts_once(self):
        hidden = torch.randn(2, 5)
        _, first = TokenMatcher(hidden).match(hidden[[1, 1, 0]], torch.zeros(3), "experts")
        assert first.tolist() == [True, False, True]

    def test_nan_is_matched(self):
        hidden = torch.randn(3, 5)
        hidden[1, 2] = torch.nan
        token, _ = TokenMatcher(hidden).match(hidden[[2, 1]], torch.zeros(2), "experts")
        assert token.tolist() == [2, 1]

    def test_other_rows_are_refused(self):
        hidden = torch.randn(3, 5)
        with pytest.raises(TapError) as error:
            TokenMatcher(hidden).match(hidden[:1] * 2, torch.zeros(1), "layers.0.mlp")
        assert str(error.value) == (
            "the inputs of the experts in layers.0.mlp must be copies of its tokens, got other "
            "rows, which cannot be matched with tokens; leave these experts out with "
            "neuron_modules="
        )


class TestRefusals:
    def test_packed_weights(self):
        model = tiny("mixtral")
        packed = model.model.layers[0].mlp.experts
        packed.down_proj = nn.Parameter(
            torch.zeros(4, 32, 88, dtype=torch.uint8), requires_grad=False
        )
        packed.forward = lambda hidden, index, weight: hidden
        with pytest.raises(TapError) as error:
            read(model)
        assert str(error.value) == (
            "the experts at model.layers.0.mlp.experts (MixtralExperts) must have floating-point "
            "weights, got torch.uint8; load the model dequantized"
        )

    def test_experts_with_an_unknown_formula(self):
        model = tiny("mixtral")
        odd = model.model.layers[1].mlp.experts
        forward = odd.forward
        odd.forward = lambda *args: forward(*args) + 1
        with pytest.raises(TapError) as error:
            read(model)
        assert str(error.value) == (
            "the states computed for the experts at model.layers.1.mlp.experts (MixtralExperts) "
            "must reproduce the module's output, but do not; leave these experts out with "
            "neuron_modules=, or load them as floating-point weights"
        )

    def test_unknown_experts_next_to_shared_experts(self):
        class Mxfp4Experts(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.Parameter(torch.zeros(4, 8), requires_grad=False)

            def forward(self, hidden, index, weight):
                return hidden

        model = tiny("qwen2_moe")
        model.model.layers[1].mlp.experts = Mxfp4Experts()
        with pytest.raises(TapError) as error:
            read(model)
        assert str(error.value) == (
            "experts must be one module with 3-D weights or separate modules, but "
            "model.layers.1.mlp.experts (Mxfp4Experts) is neither (packed weights?); load the "
            "model dequantized, or pass the networks that can be read as neuron_modules="
        )

    @pytest.mark.parametrize("how", ["embedding", "index", "select"])
    def test_neurons_retrieved_from_a_table(self, how):
        class Retrieving(nn.Module):
            def __init__(self, mlp):
                super().__init__()
                self.mlp = mlp
                self.keys = nn.Linear(32, 16, bias=False)
                self.down = nn.Parameter(torch.randn(16, 32))
                self.up = nn.Parameter(torch.randn(16, 32))

            def rows(self, table, best):
                if how == "embedding":
                    return nn.functional.embedding(best, table)
                if how == "index":
                    return table[best]
                return table.index_select(0, best.flatten()).unflatten(0, best.shape)

            def forward(self, x):
                best = self.keys(x).topk(2, dim=-1).indices
                state = (self.rows(self.down, best) @ x[..., None]).relu()
                return self.mlp(x) + (self.rows(self.up, best) * state).sum(dim=-2)

        model = tiny("llama")
        model.model.layers[1].mlp = Retrieving(model.model.layers[1].mlp)
        with pytest.raises(TapError, match=r"token of model\.layers\.1\.mlp selects single"):
            read(model)
        assert len(read(model, neuron_modules=r"down_proj$")[0].parts) == 2

    def test_experts_that_do_not_run(self):
        model = tiny("mixtral")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        block = model.model.layers[1].mlp
        block.forward = lambda hidden: hidden
        with pytest.raises(TapError, match=r"gate at model\.layers\.1\.mlp\.experts 0 of 1 times"):
            read(model, plan=plan)


def test_memory_is_bounded_by_the_portion(monkeypatch):
    monkeypatch.setattr(stacked_experts, "ELEMENTS", 2 * 88 * 8)
    sizes = []
    model = tiny("mixtral")
    plan = discover(model, lambda: run(model, ids(1, 4)))

    class Sizes:
        def dense(self, part, site, states, start):
            raise AssertionError

        def routed(self, part, site, states, token, expert, last):
            sizes.append(len(states))
            assert len(token) == len(expert) == len(states)

    shape = (BATCH, TOKENS)
    with torch.no_grad(), plan.attach(model, SITES, Sizes(), lambda: shape) as reader:
        reader.begin()
        run(model, ids(*shape))
        reader.end()
    assert reader.error is None
    # An expert is never split, and no expert can have more rows than there are tokens.
    assert sum(sizes) == 2 * 2 * 2 * BATCH * TOKENS
    assert max(sizes) <= BATCH * TOKENS
