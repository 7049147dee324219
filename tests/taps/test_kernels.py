"""Replaced forwards, fused kernels and compiled models."""

import gc
import types

import pytest
import torch
from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps import discover
from neuronxa_callback.taps.graph import Call, Node
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn.formulas import close, same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, read


class TestReplacedForwards:
    @staticmethod
    def patch(model, forward):
        for layer in model.model.layers:
            layer.mlp.forward = types.MethodType(forward, layer.mlp)
        return model

    def test_the_gate_of_a_fused_kernel_is_computed(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: self.down_proj(_Kernel.apply(self.gate_proj(x), self.up_proj(x))),
        )
        plan, states = read(model)
        assert same_states(states, read(tiny("llama"))[1])
        assert "computed from the output of model.layers.0.mlp.gate_proj" in plan.parts[0].how
        gc.collect()
        assert not any(type(item) in (Node, Call) for item in gc.get_objects())

    def test_a_gate_that_the_user_names_is_read_instead_of_the_formula_of_a_kernel(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: self.down_proj(_Kernel.apply(self.gate_proj(x), self.up_proj(x))),
        )
        gates = {
            f"model.layers.{k}.mlp.down_proj": f"model.layers.{k}.mlp.gate_proj" for k in (0, 1)
        }
        _, states = read(model, neuron_modules=lambda _: gates)
        expected = read(tiny("llama"))[1]
        for named, right in zip(states, expected, strict=True):
            assert close(nn.functional.silu(named["gate"]), right["gate"])
            assert close(named["product"], right["product"])

    def test_a_kernel_added_after_discovery_is_an_error(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        self.patch(
            model, lambda self, x: self.down_proj(_Kernel.apply(self.gate_proj(x), self.up_proj(x)))
        )
        with pytest.raises(TapError) as error:
            read(model, plan=plan)
        assert str(error.value) == (
            "every feed-forward network must be read exactly once in each of its passes, got no "
            "gate at model.layers.0.mlp.down_proj because model.layers.0.mlp.act_fn did not run; "
            "no gate at model.layers.1.mlp.down_proj because model.layers.1.mlp.act_fn did not "
            "run; if a module was replaced, compiled or fused after discovery, run discovery "
            "again, or pass neuron_modules="
        )

    def test_a_network_that_calls_no_layer_is_computed_from_its_input(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: (
                (nn.functional.silu(x @ self.gate_proj.weight.T) * (x @ self.up_proj.weight.T))
                @ self.down_proj.weight.T
            ),
        )
        plan, states = read(model)
        assert same_states(states, read(tiny("llama"))[1])
        assert plan.parts[0].how == (
            "computed from the input of model.layers.0.mlp: silu of gate_proj"
        )

    def test_a_network_with_an_unknown_formula_is_refused(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: torch.sin(x @ self.gate_proj.weight.T) @ self.down_proj.weight.T,
        )
        with pytest.raises(TapError) as error:
            read(model)
        assert str(error.value) == (
            "the feed-forward network model.layers.0.mlp must call its linear layers or give the "
            "same output as they would, but does neither; if it is a fused kernel, switch it off, "
            "or pass the networks that can be read as neuron_modules="
        )


class _Kernel(torch.autograd.Function):
    """Computes silu(a) * b outside of the trace, as a Triton kernel does."""

    @staticmethod
    def forward(ctx, a, b):
        out = torch.empty_like(a)
        out.numpy()[...] = (nn.functional.silu(a) * b).numpy()
        return out


class TestCompiled:
    @pytest.mark.parametrize("how", ["whole", "in place", "regional"])
    def test_compiled_models_run_eagerly_under_the_taps(self, how):
        model = tiny("llama")
        if how == "whole":
            called = torch.compile(model, backend="eager")
        elif how == "in place":
            model.compile(backend="eager")
            called = model
        else:
            for number in range(2):
                model.model.layers[number] = torch.compile(
                    model.model.layers[number], backend="eager"
                )
            called = model
        tokens = ids(BATCH, TOKENS)
        with torch.no_grad():
            called(input_ids=tokens)
        with torch.compiler.set_stance("force_eager"):
            plan, states = read(called, lambda ids: called(input_ids=ids))
        assert same_states(states, read(tiny("llama"))[1])
        assert plan.parts[0].path == "model.layers.0.mlp.down_proj"
