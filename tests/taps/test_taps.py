"""Taps on dense models: what is read, through what, and what it says where it cannot."""

import contextlib
import copy
import gc
import types
import weakref

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.plan import discover
from neuronxa_callback.taps.trace import Call, Node
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn_oracle import close
from tests.helpers.survey import BATCH, SITES, TOKENS, Collect, read


def same(one, other, tolerance=2e-5):
    return len(one) == len(other) and all(
        close(a[site], b[site], tolerance) for a, b in zip(one, other, strict=True) for site in a
    )


def layers_of(model):
    return model.model.layers


class TestStates:
    def test_llama_by_hand_exactly(self):
        model, tokens = tiny("llama"), ids(BATCH, TOKENS)
        inputs = []
        for layer in layers_of(model):
            layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        _, states = read(model, tokens=tokens)
        with torch.no_grad():
            for layer, x, found in zip(layers_of(model), inputs[2:], states, strict=True):
                gate = nn.functional.silu(nn.functional.linear(x, layer.mlp.gate_proj.weight))
                product = gate * nn.functional.linear(x, layer.mlp.up_proj.weight)
                assert torch.equal(found["gate"], gate.flatten(0, 1))
                assert torch.equal(found["product"], product.flatten(0, 1))

    @pytest.mark.parametrize("sites", [("gate",), ("product",)])
    @pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "lfm2", "mixtral"])
    def test_a_site_alone_is_what_it_is_beside_the_other(self, family, sites):
        _, both = read(tiny(family))
        _, one = read(tiny(family), sites=sites)
        assert all(list(each) == list(sites) for each in one)
        assert all(close(a[sites[0]], b[sites[0]], 1e-6) for a, b in zip(one, both, strict=True))

    def test_bf16_is_read_as_it_is(self):
        _, full = read(tiny("llama"))
        model = tiny("llama").bfloat16()
        plan, half = read(model)
        assert same(half, full, 0.1)
        assert plan.layers == (0, 1)

    def test_nan_comes_through(self):
        model = tiny("llama")
        model.model.layers[1].mlp.gate_proj.weight.data[3] = torch.nan
        _, states = read(model)
        assert states[1]["gate"][:, 3].isnan().all()
        assert not states[0]["gate"].isnan().any()


class TestLayers:
    def test_albert_has_a_layer_for_each_pass(self):
        plan, states = read(tiny("albert"))
        assert plan.layers == (0, 1, 2)
        assert len({part.path for part in plan.parts}) == 1
        assert not close(states[0]["gate"], states[1]["gate"])

    @pytest.mark.parametrize(
        ("stack", "layers"),
        [
            ("encoder", (0, 1)),
            ("decoder", (0, 1)),
            ("both", ("encoder.0", "encoder.1", "decoder.0", "decoder.1")),
        ],
    )
    @pytest.mark.parametrize("family", ["t5", "bart"])
    def test_stacks_of_an_encoder_decoder(self, family, stack, layers):
        plan, _ = read(tiny(family), stack=stack)
        assert plan.layers == layers
        if stack != "both":
            assert all(f"{stack}." in part.path for part in plan.parts)

    def test_networks_of_one_block_are_parts_of_one_layer(self):
        plan, _ = read(tiny("qwen2_moe"))
        assert plan.layers == (0, 1)
        assert [part.layer for part in plan.parts] == [0, 0, 1, 1]

    def test_chunks_of_tokens_are_one_pass(self):
        plan, chunked = read(tiny("bert", chunk_size_feed_forward=2))
        _, whole = read(tiny("bert"))
        assert plan.layers == (0, 1)
        assert same(chunked, whole)


class TestReplacedForwards:
    @staticmethod
    def patch(model, forward):
        for layer in layers_of(model):
            layer.mlp.forward = types.MethodType(forward, layer.mlp)
        return model

    def test_liger_like_kernels_are_seen_through(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: self.down_proj(_Kernel.apply(self.gate_proj(x), self.up_proj(x))),
        )
        plan, states = read(model)
        assert same(states, read(tiny("llama"))[1])
        assert "computed from the output of model.layers.0.mlp.gate_proj" in plan.parts[0].how
        gc.collect()
        assert not any(type(each) in (Node, Call) for each in gc.get_objects())

    def test_a_kernel_put_in_after_the_taps_were_found_is_an_error(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        self.patch(
            model, lambda self, x: self.down_proj(_Kernel.apply(self.gate_proj(x), self.up_proj(x)))
        )
        with pytest.raises(TapError) as error:
            read(model, plan=plan)
        assert str(error.value) == (
            "every feed-forward network must be read exactly once in each of its passes, got no "
            "gate at model.layers.0.mlp.down_proj since model.layers.0.mlp.act_fn did not run; no "
            "gate at model.layers.1.mlp.down_proj since model.layers.1.mlp.act_fn did not run; was "
            "a module replaced, compiled or fused after the taps were found? Find them again, or "
            "say where the neurons are by neuron_modules="
        )

    def test_networks_that_call_no_layer_are_computed_from_their_input(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: (
                (nn.functional.silu(x @ self.gate_proj.weight.T) * (x @ self.up_proj.weight.T))
                @ self.down_proj.weight.T
            ),
        )
        plan, states = read(model)
        assert same(states, read(tiny("llama"))[1])
        assert plan.parts[0].how == (
            "computed from the input of model.layers.0.mlp: silu of gate_proj"
        )

    def test_networks_that_compute_something_else_are_refused(self):
        model = self.patch(
            tiny("llama"),
            lambda self, x: torch.sin(x @ self.gate_proj.weight.T) @ self.down_proj.weight.T,
        )
        with pytest.raises(TapError) as error:
            read(model)
        assert str(error.value) == (
            "the feed-forward network model.layers.0.mlp must call its linear layers, or compute "
            "what they would; it does neither (a fused kernel?): switch that off, or name what can "
            "be read with neuron_modules="
        )


class _Kernel(torch.autograd.Function):
    """Writes silu(a) * b where no trace can look, as a Triton kernel does."""

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
                    layers_of(model)[number], backend="eager"
                )
            called = model
        tokens = ids(BATCH, TOKENS)
        with torch.no_grad():
            called(input_ids=tokens)
        with torch.compiler.set_stance("force_eager"):
            plan, states = read(called, lambda each: called(input_ids=each))
        assert same(states, read(tiny("llama"))[1])
        assert plan.parts[0].path == "model.layers.0.mlp.down_proj"


class TestCheckpointing:
    """Activation checkpointing runs blocks again on the way back; no state is read there."""

    @staticmethod
    def made(how):
        model = tiny("llama").train()
        if how == "wrapped":
            for number, layer in enumerate(layers_of(model)):
                model.model.layers[number] = checkpoint_wrapper(layer)
        elif how is not None:
            model.gradient_checkpointing_enable({"use_reentrant": how == "reentrant"})
        runs = []
        for layer in layers_of(model):
            layer.mlp.register_forward_pre_hook(lambda *_: runs.append(1))
        return model, runs

    @staticmethod
    def gradients(model):
        model.zero_grad()
        tokens = ids(BATCH, TOKENS)
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        return [each.grad.clone() for each in model.parameters()]

    @pytest.mark.parametrize("gradients", [False, True])
    @pytest.mark.parametrize("how", ["reentrant", "not reentrant", "wrapped"])
    def test_states_and_gradients_are_those_without(self, how, gradients):
        plain, _ = self.made(None)
        model, runs = self.made(how)
        before = self.gradients(model)
        assert len(runs) == 4, "two blocks run forth, and once more on the way back"

        def call(tokens):
            with torch.set_grad_enabled(gradients):
                model(input_ids=tokens, use_cache=False)

        plan, states = read(model, call)
        assert same(states, read(tiny("llama"))[1])
        assert [part.path for part in plan.parts] == [
            f"model.layers.{layer}.mlp.down_proj" for layer in (0, 1)
        ]
        for after in (before, self.gradients(model)):
            assert all(map(torch.equal, after, self.gradients(plain)))

    @pytest.mark.parametrize("how", ["reentrant", "not reentrant"])
    def test_a_block_that_runs_again_while_it_is_read_is_an_error(self, how):
        model, _ = self.made(how)
        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Collect(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            self.gradients(model)
            reader.end()
        assert "gate at model.layers.0.mlp.down_proj 2 of 1 times" in str(reader.error)


class TestAdapters:
    @staticmethod
    def adapted(family, **options):
        import peft

        model = peft.get_peft_model(tiny(family), peft.LoraConfig(r=4, **options)).eval()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.3)
        return model

    @pytest.mark.parametrize("dora", [False, True])
    @pytest.mark.parametrize(
        ("family", "targets"),
        [
            ("llama", ["gate_proj"]),
            ("llama", ["up_proj"]),
            ("llama", ["down_proj", "q_proj"]),
            ("llama", ["gate_proj", "up_proj", "down_proj"]),
            ("lfm2", ["w1", "w2", "w3"]),
            ("phi3", ["gate_up_proj", "down_proj"]),
            ("bert", ["intermediate.dense", "output.dense"]),
        ],
    )
    def test_states_are_those_of_the_merged_model(self, family, targets, dora):
        model = self.adapted(family, target_modules=targets, use_dora=dora)
        plan, states = read(model, lambda tokens: model(input_ids=tokens))
        merged = copy.deepcopy(model).merge_and_unload()
        plan_merged, expected = read(merged)
        assert same(states, expected, 1e-4)
        assert not same(states, read(tiny(family))[1], 1e-3)
        assert [part.path for part in plan.parts] == [part.path for part in plan_merged.parts]

    def test_tokens_behind_a_soft_prompt_are_the_sentences_own(self):
        import peft

        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model = peft.get_peft_model(tiny("llama"), config).eval()
        tokens, inputs = ids(BATCH, TOKENS), []
        hook = layers_of(model.base_model)[0].mlp.register_forward_pre_hook
        hook(lambda _, args: inputs.append(args[0]))
        _, states = read(model, lambda each: model(input_ids=each), tokens=tokens)
        with torch.no_grad():
            gate = layers_of(model.base_model)[0].mlp.gate_proj(inputs[-1])
        assert gate.shape[1] == TOKENS + 3
        assert close(states[0]["gate"], nn.functional.silu(gate)[:, 3:].flatten(0, 1))

    def test_the_base_layer_would_be_wrong(self):
        model = self.adapted("lfm2", target_modules=["w1", "w3"])
        _, states = read(model, lambda tokens: model(input_ids=tokens))
        base = []
        for name, module in model.named_modules():
            if name.endswith("w1.base_layer"):
                module.register_forward_hook(lambda m, a, out: base.append(nn.functional.silu(out)))
        with torch.no_grad():
            model(input_ids=ids(BATCH, TOKENS))
        assert len(base) == 2
        assert not close(states[0]["gate"], base[0].flatten(0, 1), 1e-3)


class TestNoTrace:
    def test_hooks_go_even_after_an_error(self):
        model = tiny("mixtral")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        attached = plan.attach(model, SITES, Collect(plan), lambda: (BATCH, TOKENS))
        with contextlib.suppress(KeyError), attached:
            assert _hooks(model) > 0
            raise KeyError
        assert _hooks(model) == 0

    def test_discovery_leaves_none_where_the_forward_fails(self):
        model = tiny("llama")
        with pytest.raises(ZeroDivisionError):
            discover(model, lambda: 1 / 0)
        assert _hooks(model) == 0

    @pytest.mark.parametrize("family", ["llama", "lfm2", "gpt_oss", "switch_transformers", "bart"])
    def test_a_plan_keeps_nothing_of_the_pass_it_was_found_in(self, family):
        model = tiny(family)
        plan = discover(model, lambda: run(model, ids(1, 4)))
        gc.collect()
        kept = [each for each in gc.get_objects() if type(each) in (Node, Call)]
        assert plan.parts
        assert kept == []

    def test_the_output_is_unchanged(self):
        model, tokens = tiny("qwen2_moe"), ids(BATCH, TOKENS)
        before = run(model, tokens).logits
        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Collect(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            during = run(model, tokens).logits
            reader.end()
        assert reader.error is None
        assert torch.equal(before, during)
        assert torch.equal(before, run(model, tokens).logits)

    @pytest.mark.parametrize("family", ["llama", "lfm2", "mixtral", "switch_transformers"])
    def test_no_state_outlives_the_reading(self, family):
        model = tiny(family)
        alive = []

        class Watch(Collect):
            def dense(self, part, site, states, start):
                alive.append(weakref.ref(states))

            def routed(self, part, site, states, token, expert, last):
                alive.append(weakref.ref(states))

        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Watch(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            run(model, ids(BATCH, TOKENS))
            reader.end()
            gc.collect()
            assert alive
            assert [each for each in alive if each() is not None] == []

    def test_a_sink_that_fails_is_noted_and_the_forward_goes_on(self):
        model, tokens = tiny("llama"), ids(BATCH, TOKENS)

        class Broken(Collect):
            def dense(self, part, site, states, start):
                raise ValueError("full")

        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Broken(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            out = run(model, tokens).logits
            reader.end()
            assert str(reader.error) == "full"
            reader.begin()
            assert reader.error is None
        assert torch.equal(out, run(model, tokens).logits)


def _hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class TestRefusals:
    def test_a_layer_that_does_not_run_is_named(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        model.model.layers[1].forward = lambda hidden, *args, **kwargs: hidden
        with pytest.raises(TapError) as error:
            read(model, plan=plan)
        assert str(error.value).startswith(
            "every feed-forward network must be read exactly once in each of its passes, got gate "
            "at model.layers.1.mlp.down_proj 0 of 1 times; was a module replaced"
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
            "pooled or spread over ranks cannot be measured"
        )

    def test_another_model_is_named(self):
        model = tiny("llama")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        with pytest.raises(TapError) as error:
            read(tiny("gpt2"), plan=plan)
        assert str(error.value) == (
            "the model must have the modules that its neurons were found in, "
            "'model.layers.0.mlp.act_fn' is missing; find them again after the model is changed"
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
        assert same(states, read(tiny("llama"))[1][1:])

    def test_a_function_names_down_projections(self):
        plan, _ = read(tiny("llama"), neuron_modules=lambda m: ["model.layers.0.mlp.down_proj"])
        assert plan.layers == (0,)

    def test_a_function_may_name_the_gates_too(self):
        gates = {f"model.layers.{k}.mlp.down_proj": f"model.layers.{k}.mlp.act_fn" for k in (0, 1)}
        _, states = read(tiny("llama"), neuron_modules=lambda m: gates)
        assert same(states, read(tiny("llama"))[1])

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("nowhere", "'nowhere' matches none of them"),
            (lambda m: ["there"], "'there' is none of them"),
        ],
    )
    def test_names_that_are_not_there(self, override, words):
        with pytest.raises(TapError) as error:
            read(tiny("llama"), neuron_modules=override)
        assert str(error.value) == (
            f"neuron_modules must name down projections of LlamaForCausalLM, {words}"
        )

    def test_a_layer_without_a_gate_gives_its_product_alone(self):
        model = tiny("llama")
        with pytest.raises(TapError) as error:
            read(model, neuron_modules=r"o_proj")
        assert str(error.value) == (
            "the gate must be the output of a module, and the activation in front of "
            "model.layers.0.self_attn.o_proj is computed inside of its module; measure the product "
            "(nas_site='product'), or give a function as neuron_modules= that names the module"
        )
        _, states = read(model, neuron_modules=r"o_proj", sites=("product",))
        assert len(states) == 2


def test_sentences_are_read_alike_whatever_stands_beside_them():
    model, tokens = tiny("llama"), ids(3, TOKENS)
    _, alone = read(model, tokens=tokens[:1])
    _, among = read(model, tokens=tokens)
    assert all(
        close(a[site], b[site][:TOKENS], 1e-5)
        for a, b in zip(alone, among, strict=True)
        for site in SITES
    )


def test_attention_and_heads_are_no_neurons():
    model = tiny("llama", tie_word_embeddings=True)
    plan, _ = read(model)
    assert [part.path for part in plan.parts] == [
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.down_proj",
    ]
    assert [(p.kind, p.width, p.experts) for p in plan.parts] == [("gated", 88, 0)] * 2
    assert isinstance(model.lm_head, nn.Linear)
