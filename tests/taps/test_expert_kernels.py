"""Kernels that compute the rows of all experts in one call: the module's own states are read."""

from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn

from neuronxa_callback.taps import discover
from neuronxa_callback.taps.experts import hooks as expert_hooks
from neuronxa_callback.taps.experts import stacked as stacked_experts
from neuronxa_callback.taps.experts.rows import watch_product
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import eager, ids, run, tiny
from tests.helpers.ffn.formulas import same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, read

pytestmark = pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) < 5,
    reason="experts are a list of modules before transformers 5",
)
STACKED = ("mixtral", "qwen3_moe", "qwen2_moe", "gpt_oss", "deepseek_v3", "olmoe", "glm4_moe")


def rows_computed(monkeypatch):
    """The number of rows that each call of ``project`` has computed."""
    computed, original = [], stacked_experts.project

    def watched(hidden, *args):
        computed.append(len(hidden))
        return original(hidden, *args)

    monkeypatch.setattr(stacked_experts, "project", watched)
    return computed


class TestOwnStates:
    """Kernels that compute all rows in one call: the module's own states are read."""

    @pytest.mark.parametrize("how", ["grouped_mm", "batched_mm"])
    @pytest.mark.parametrize("family", STACKED)
    def test_they_are_read_and_not_computed_again(self, family, how, monkeypatch):
        _, expected = read(eager(family))
        model = tiny(family)
        model.set_experts_implementation(how)
        plan = discover(model, lambda: run(model, ids(1, 4)))
        routed = sum(part.experts > 0 for part in plan.parts)
        computed = rows_computed(monkeypatch)
        _, states = read(model, plan=plan)
        # Few rows are computed, to confirm the order of all.
        assert len(computed) <= expert_hooks.ROWS_CHECKED * routed
        assert set(computed) == {1}
        assert same_states(states, expected, 1e-5)

    def test_the_gate_has_the_bits_of_the_kernel(self):
        model, seen = tiny("mixtral"), []
        for layer in model.model.layers:
            layer.mlp.experts.act_fn.register_forward_hook(lambda _, args, out: seen.append(out))
        plan = discover(model, lambda: run(model, ids(1, 4)))
        seen.clear()
        _, states = read(model, plan=plan)
        # Each of both layers is called with all rows, and with those that confirm their order.
        gates = [gate for gate in seen if len(gate) == 2 * BATCH * TOKENS]
        for found, gate in zip(states, gates, strict=True):
            rows = found["gate"].view(-1, 88)
            rows = rows[rows.abs().sum(dim=1) > 0]
            assert sorted(rows.tolist()) == sorted(gate.tolist())

    @pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
    def test_a_wrong_order_is_refuted_and_the_states_are_computed(self, family, monkeypatch):
        model = tiny(family)
        plan = discover(model, lambda: run(model, ids(1, 4)))
        _, expected = read(model, plan=plan)

        def token_by_token(tap):
            one_call = replace(tap.recipe.one_call, by_expert=False)
            return replace(tap, recipe=replace(tap.recipe, one_call=one_call))

        wrong = replace(plan, taps=tuple(map(token_by_token, plan.taps)))
        computed = rows_computed(monkeypatch)
        _, states = read(model, plan=wrong)
        assert same_states(states, expected, 1e-5)
        assert sum(computed) > 2 * BATCH * TOKENS

    @pytest.mark.parametrize("how", ["eager", "batched_mm"])
    def test_another_kernel_after_discovery(self, how):
        _, expected = read(model := tiny("qwen3_moe"))
        plan = discover(model, lambda: run(model, ids(1, 4)))
        model.set_experts_implementation(how)
        assert same_states(read(model, plan=plan)[1], expected, 1e-5)

    def test_plans_with_and_without_them_are_equal(self):
        plans = []
        for how in ("eager", "grouped_mm"):
            model = tiny("mixtral")
            model.set_experts_implementation(how)
            plans.append(discover(model, lambda model=model: run(model, ids(1, 4))))
        one, other = plans
        assert [tap.recipe.one_call is None for plan in plans for tap in plan.taps] == [
            True, True, False, False,
        ]  # fmt: skip
        assert one.difference(other) == ""

    def test_a_kernel_that_computes_the_rows_in_parts(self):
        _, expected = read(model := tiny("mixtral"))
        plan = discover(model, lambda: run(model, ids(1, 4)))
        for layer in model.model.layers:
            experts = layer.mlp.experts

            def forward(hidden, index, weight, experts=experts):
                call = type(experts).forward
                halves = (slice(None, len(hidden) // 2), slice(len(hidden) // 2, None))
                return torch.cat(
                    [call(experts, hidden[half], index[half], weight[half]) for half in halves]
                )

            experts.forward = forward
        assert same_states(read(model, plan=plan)[1], expected, 1e-5)

    def test_nothing_is_left_behind(self):
        model = tiny("mixtral")
        experts = model.model.layers[0].mlp.experts
        before = dict(vars(experts))
        plan = discover(model, lambda: run(model, ids(1, 4)))
        assert vars(experts) == before
        with (
            suppress(ZeroDivisionError),
            plan.attach(model, SITES, None, lambda: (1, 4)),
        ):
            assert "_apply_gate" in vars(experts)
            raise ZeroDivisionError
        assert vars(experts) == before
        experts._apply_gate = own = type(experts)._apply_gate.__get__(experts)
        with plan.attach(model, SITES, None, lambda: (1, 4)):
            assert experts._apply_gate is not own
        assert experts._apply_gate is own

    def test_a_network_without_a_second_projection(self):
        class Plain(nn.Module):
            def __init__(self):
                super().__init__()
                self.act_fn, self.has_gate = nn.ReLU(), False
                self._apply_gate = None

            def forward(self, rows):
                return self.act_fn(rows)

        module, calls = Plain(), []
        with ExitStack() as stack:
            watch_product(module, lambda *call: calls.append(call), stack)
            rows = torch.tensor([[-1.0, 2.0]])
            module(rows)
        module(rows)
        ((projected, product, activated),) = calls
        assert projected is rows
        assert product.tolist() == activated.tolist() == [[0.0, 2.0]]
