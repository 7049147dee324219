"""Language models of transformers compared with the oracle: one per kind, and all (slow)."""

import warnings
from pathlib import Path

import pytest
import torch
import transformers

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, stir
from tests.helpers.ffn import remote, zoo
from tests.helpers.ffn.formulas import close
from tests.helpers.ffn.reading import BATCH, TOKENS, read
from tests.helpers.ffn.survey import examine, survey, tokens_of

DOCS = Path(__file__).parents[2] / "docs"

KINDS = (
    "llama/causal",
    "phi3/causal",
    "lfm2/causal",
    "bert/masked",
    "t5/seq2seq",
    "albert/masked",
    "mixtral/causal",
    "switch_transformers+capacity/seq2seq",
    "jetmoe/causal",
)
"""One model per kind of network: gated, fused, by formula, plain, in two stacks, in several passes,
experts as 3-D weights, as separate modules, with rows sorted by expert."""

VARIANTS = (
    "gpt2/causal",
    "bitnet/causal",
    "gemma3n_text/causal",
    "zamba2/causal",
    "falcon_h1/causal",
    "cpmant/causal",
    "hrm_text/causal",
    "xlnet/causal",
    "rwkv/causal",
    "modernbert/masked",
    "xlm/masked",
    "mobilebert/masked",
    "squeezebert/masked",
    "longformer/masked",
    "reformer/masked",
    "bart/seq2seq",
    "pegasus_x/seq2seq",
    "gpt_oss/causal",
    "qwen2_moe/causal",
    "deepseek_v4/causal",
    "longcat_flash/causal",
    "llama4_text/causal",
    "dbrx/causal",
    "inkling_text/causal",
    "inkling2_text/causal",
    "minimax_m3_vl_text/causal",
    "nllb-moe+sparse/seq2seq",
    "bert+chunked/masked",
    "mixtral+dff=half/causal",
)
"""One model for each further way of writing these networks."""


@pytest.mark.parametrize(
    "name", [*KINDS, *(pytest.param(name, marks=pytest.mark.zoo) for name in VARIANTS)]
)
def test_gate_and_product_equal_those_of_the_oracle(name):
    result = examine(name, zoo.build(zoo.ENTRIES[name]), tokens_of(name))
    assert result.parts
    assert result.wrong == []


@pytest.mark.parametrize("kind", remote.REMOTE)
def test_remote_code_is_read_like_its_formula(kind):
    model = remote.RemoteModel(kind).eval()
    stir(model)
    inputs = []
    for layer in model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    plan, states = read(model, lambda tokens: model(input_ids=tokens))
    assert plan.layers == (0, 1)
    for layer, x, part in zip(model.layers, inputs[2:], states, strict=True):
        with torch.no_grad():
            by_hand = layer.mlp.by_hand(x)
        for site, expected in zip(SITES, by_hand, strict=True):
            expected = expected.transpose(0, 1) if model.time_first else expected
            assert close(part[site], expected.reshape(part[site].shape))


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["mamba/causal", "mamba2/causal", "falcon_mamba/causal"])
def test_a_model_without_feed_forward_networks_is_refused_by_name(name):
    entry = zoo.ENTRIES[name]
    with pytest.raises(TapError) as error:
        examine(name, zoo.build(entry), tokens_of(name))
    assert str(error.value) == (
        f"no feed-forward network found in {entry.cls}: no linear layer of a numbered block reads "
        "a pointwise non-linear function of other linear layers; pass the down projections as "
        "neuron_modules="
    )


def test_pooled_tokens_are_refused_by_name_and_other_networks_can_be_named():
    entry = zoo.ENTRIES["funnel/masked"]
    with pytest.raises(TapError) as error:
        examine(entry.name, zoo.build(entry), tokens_of(entry.name))
    assert str(error.value) == (
        "every feed-forward network must run on every token, but "
        "funnel.encoder.blocks.1.0.ffn.linear_2 runs on 3 positions for 6 tokens (pooled, packed "
        "or latent); pass the networks that run on every token as neuron_modules="
    )
    unpooled = r"blocks\.0\..*linear_2|decoder.*linear_2"
    plan, _ = read(zoo.build(entry), neuron_modules=unpooled)
    assert len(plan.parts) == 6


@pytest.mark.zoo
def test_retrieved_experts_are_refused_by_name_and_shared_experts_can_be_named():
    model, tokens = zoo.build(zoo.ENTRIES["doge+moe/causal"]), ids(BATCH, TOKENS)
    with pytest.raises(TapError) as error:
        examine("doge", model, tokens)
    assert str(error.value) == (
        "experts must be linear layers or 3-D weights, but each token of "
        "model.layers.0.mlp.down_embed selects single neurons from a table of rows (retrieved "
        "experts, product keys); pass the networks that can be read as neuron_modules="
    )
    shared = r"mlp\.down_proj$"
    # The states that are read are right, and the oracle reports that others are missing.
    result = examine("doge", model, tokens, neuron_modules=shared)
    assert result.wrong == [f"model.layers.{layer}.mlp is missing" for layer in (0, 1)]
    _, alone = read(model, tokens=tokens[:1], neuron_modules=shared)
    _, batch = read(model, tokens=tokens, neuron_modules=shared)
    equal = [close(a["gate"], b["gate"][:TOKENS], 1e-4) for a, b in zip(alone, batch, strict=True)]
    assert equal == [True, False]


@pytest.mark.slow
@pytest.mark.zoo
def test_every_model_is_right_or_refused_and_the_table_is_current():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, right, refused, wrong = survey()
    assert wrong == {}
    assert right >= 297
    assert sorted(refused) == ["blt/causal", "doge+moe/causal", "funnel/masked", "perceiver/masked"]
    assert (DOCS / "architectures.csv").read_text(encoding="utf-8") == table, (
        "docs/architectures.csv is not current; run `python -m tests.helpers.ffn.survey`"
    )
    page = (DOCS / "architectures.md").read_text(encoding="utf-8")
    assert f"transformers {transformers.__version__}" in page
    assert f"{right} models are read right ({len(remote.REMOTE)} of them" in page
