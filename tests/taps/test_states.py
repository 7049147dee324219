"""The states that taps read, layer by layer, against states computed by hand."""

import pytest
import torch
from torch import nn

from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, tiny
from tests.helpers.ffn.formulas import close, same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, read


class TestStates:
    def test_states_of_llama_equal_its_formula_exactly(self):
        model, tokens = tiny("llama"), ids(BATCH, TOKENS)
        inputs = []
        for layer in model.model.layers:
            layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        _, states = read(model, tokens=tokens)
        with torch.no_grad():
            for layer, x, found in zip(model.model.layers, inputs[2:], states, strict=True):
                gate = nn.functional.silu(nn.functional.linear(x, layer.mlp.gate_proj.weight))
                product = gate * nn.functional.linear(x, layer.mlp.up_proj.weight)
                assert torch.equal(found["gate"], gate.flatten(0, 1))
                assert torch.equal(found["product"], product.flatten(0, 1))

    @pytest.mark.parametrize("sites", [("gate",), ("product",)])
    @pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "lfm2", "mixtral"])
    def test_a_site_read_alone_equals_the_site_read_with_the_other(self, family, sites):
        _, both = read(tiny(family))
        _, one = read(tiny(family), sites=sites)
        assert all(list(part) == list(sites) for part in one)
        assert all(close(a[sites[0]], b[sites[0]], 1e-6) for a, b in zip(one, both, strict=True))

    def test_bf16_states_are_close_to_fp32(self):
        _, full = read(tiny("llama"))
        model = tiny("llama").bfloat16()
        plan, half = read(model)
        assert same_states(half, full, 0.1)
        assert plan.layers == (0, 1)

    def test_nan_is_passed_on(self):
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
        assert same_states(chunked, whole)


def test_the_states_of_a_sentence_do_not_depend_on_the_batch():
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
