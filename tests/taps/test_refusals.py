"""Networks that cannot be read are refused by name; networks that the user names are read."""

import pytest
import torch

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps import discover
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn.formulas import same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, Collect, read


class TestRefusals:
    def test_a_layer_that_does_not_run_is_named(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        model.model.layers[1].forward = lambda hidden, *args, **kwargs: hidden
        with pytest.raises(TapError) as error:
            read(model, plan=plan)
        assert str(error.value).startswith(
            "every feed-forward network must be read exactly once in each of its passes, got gate "
            "at model.layers.1.mlp.down_proj 0 of 1 times; if a module was replaced"
        )

    def test_a_layer_that_runs_twice_is_named(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        mlp = model.model.layers[1].mlp
        once = mlp.forward
        mlp.forward = lambda x: once(x) + once(x)
        with pytest.raises(
            TapError, match=r"gate at model\.layers\.1\.mlp\.down_proj 2 of 1 times"
        ):
            read(model, plan=plan)

    def test_packed_tokens_are_named(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        sink = Collect(plan)
        with torch.no_grad(), plan.attach(model, SITES, sink, lambda: (3, 5)) as reader:
            reader.begin()
            run(model, ids(BATCH, TOKENS))
            reader.end()
        assert str(reader.error) == (
            "states must belong to 3 x 5 tokens, got shape (2, 8, 88); tokens that are packed, "
            "pooled or sharded over ranks cannot be measured"
        )

    def test_another_model_is_named(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        with pytest.raises(TapError) as error:
            read(tiny("gpt2"), plan=plan)
        assert str(error.value) == (
            "the model must have the modules in which its neurons were found, but "
            "'model.layers.0.mlp.act_fn' is missing; run discovery again after changing the model"
        )

    def test_unknown_sites_and_stacks(self):
        model = tiny("llama")
        with pytest.raises(TapError) as error:
            read(model, sites=("up",))
        assert str(error.value) == "sites must be among gate, product, got ['up']"
        with pytest.raises(TapError) as error:
            read(model, stack="middle")
        assert str(error.value) == "stack must be one of encoder, decoder, both, got 'middle'"


class TestOverride:
    def test_a_regular_expression_names_down_projections(self):
        plan, states = read(tiny("llama"), neuron_modules=r"layers\.1\..*down_proj")
        assert plan.layers == (1,)
        assert same_states(states, read(tiny("llama"))[1][1:])

    def test_a_function_names_down_projections(self):
        plan, _ = read(tiny("llama"), neuron_modules=lambda m: ["model.layers.0.mlp.down_proj"])
        assert plan.layers == (0,)

    def test_a_function_may_name_the_gates_too(self):
        gates = {f"model.layers.{k}.mlp.down_proj": f"model.layers.{k}.mlp.act_fn" for k in (0, 1)}
        _, states = read(tiny("llama"), neuron_modules=lambda m: gates)
        assert same_states(states, read(tiny("llama"))[1])

    @pytest.mark.parametrize(
        ("override", "problem"),
        [
            ("nowhere", "'nowhere' matches none"),
            (lambda m: ["there"], "'there' does not exist"),
        ],
    )
    def test_unknown_names_are_refused(self, override, problem):
        with pytest.raises(TapError) as error:
            read(tiny("llama"), neuron_modules=override)
        assert str(error.value) == (
            f"neuron_modules must name down projections of LlamaForCausalLM, but {problem}; print "
            "model.named_modules() for the paths"
        )

    def test_only_the_product_of_a_layer_without_a_gate_is_read(self):
        model = tiny("llama")
        with pytest.raises(TapError) as error:
            read(model, neuron_modules=r"o_proj")
        assert str(error.value) == (
            "cannot read the gate of model.layers.0.self_attn.o_proj: its activation is computed "
            "inline; use nas_site='product', or pass a function as neuron_modules= that also names "
            "the module of the gate"
        )
        _, states = read(model, neuron_modules=r"o_proj", sites=("product",))
        assert len(states) == 2
