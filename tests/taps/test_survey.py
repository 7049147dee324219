"""Every language model that transformers ships, against the oracle (slow), and one per family."""

import warnings
from pathlib import Path

import pytest
import torch

from neuronxa_callback.errors import TapError
from tests.helpers import remote, zoo
from tests.helpers.families import ids, stir
from tests.helpers.ffn_oracle import close
from tests.helpers.survey import BATCH, SITES, TOKENS, examine, read, table

DOCS = Path(__file__).parents[2] / "docs" / "architectures.md"

FAMILY_HEADS = (
    "llama/causal",
    "gpt2/causal",
    "phi3/causal",
    "lfm2/causal",
    "bitnet/causal",
    "gemma3n_text/causal",
    "zamba2/causal",
    "falcon_h1/causal",
    "cpmant/causal",
    "hrm_text/causal",
    "xlnet/causal",
    "rwkv/causal",
    "bert/masked",
    "modernbert/masked",
    "albert/masked",
    "xlm/masked",
    "mobilebert/masked",
    "squeezebert/masked",
    "longformer/masked",
    "reformer/masked",
    "t5/seq2seq",
    "bart/seq2seq",
    "pegasus_x/seq2seq",
    "mixtral/causal",
    "gpt_oss/causal",
    "qwen2_moe/causal",
    "deepseek_v4/causal",
    "longcat_flash/causal",
    "llama4_text/causal",
    "dbrx/causal",
    "jetmoe/causal",
    "inkling_text/causal",
    "inkling2_text/causal",
    "minimax_m3_vl_text/causal",
    "switch_transformers+capacity/seq2seq",
    "nllb-moe+sparse/seq2seq",
    "bert+chunked/masked",
    "mixtral+dff=half/causal",
)
"""One model for each way in which feed-forward networks are written."""

ENTRIES = {entry.name: entry for entry in [*zoo.entries(), *zoo.variants()]}


def tokens_of(name):
    if name.startswith("musicgen"):
        return torch.randint(0, 50, (BATCH, 4, TOKENS), generator=torch.Generator().manual_seed(0))
    return ids(BATCH, TOKENS)


@pytest.mark.parametrize("name", FAMILY_HEADS)
def test_gate_and_product_are_those_of_the_weights(name):
    verdict = examine(name, zoo.build(ENTRIES[name]), tokens_of(name))
    assert verdict.parts
    assert verdict.wrong == []


@pytest.mark.parametrize("kind", remote.REMOTE)
def test_remote_code_is_read_as_it_says_itself(kind):
    model = remote.RemoteModel(kind).eval()
    stir(model)
    inputs = []
    for layer in model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    plan, states = read(model, lambda tokens: model(input_ids=tokens))
    assert plan.layers == (0, 1)
    for layer, x, found in zip(model.layers, inputs[2:], states, strict=True):
        with torch.no_grad():
            by_hand = layer.mlp.by_hand(x)
        for site, wanted in zip(SITES, by_hand, strict=True):
            wanted = wanted.transpose(0, 1) if model.time_first else wanted
            assert close(found[site], wanted.reshape(found[site].shape))


@pytest.mark.parametrize("name", ["mamba/causal", "mamba2/causal", "falcon_mamba/causal"])
def test_a_model_without_such_networks_is_refused_by_name(name):
    with pytest.raises(TapError) as error:
        examine(name, zoo.build(ENTRIES[name]), tokens_of(name))
    assert str(error.value) == (
        f"no feed-forward network found in {ENTRIES[name].cls}: no linear layer of a numbered "
        "block reads a pointwise non-linear function of other linear layers; say where its neurons "
        "are by neuron_modules="
    )


def test_pooled_tokens_are_refused_by_name_and_the_others_can_be_named():
    name = "funnel/masked"
    with pytest.raises(TapError) as error:
        examine(name, zoo.build(ENTRIES[name]), tokens_of(name))
    assert str(error.value) == (
        "a feed-forward network must run on every token, funnel.encoder.blocks.1.0.ffn.linear_2 "
        "runs on 3 positions where there are 6 tokens (pooled, packed or latent); name those that "
        "do with neuron_modules="
    )
    unpooled = r"blocks\.0\..*linear_2|decoder.*linear_2"
    plan, _ = read(zoo.build(ENTRIES[name]), neuron_modules=unpooled)
    assert len(plan.parts) == 6


def test_experts_from_tables_are_refused_by_name_and_the_shared_ones_can_be_named():
    model, tokens = zoo.build(ENTRIES["doge+moe/causal"]), ids(BATCH, TOKENS)
    with pytest.raises(TapError) as error:
        examine("doge", model, tokens)
    assert str(error.value) == (
        "experts must be linear layers or 3-D weights, and the tokens of "
        "model.layers.0.mlp.down_embed pick theirs from the rows of a table, one neuron each "
        "(retrieved experts, product keys); name the feed-forward networks that can be read with "
        "neuron_modules="
    )
    shared = r"mlp\.down_proj$"
    # What is read is right, and the oracle knows that it is not all.
    verdict = examine("doge", model, tokens, neuron_modules=shared)
    assert verdict.wrong == [f"model.layers.{layer}.mlp is missing" for layer in (0, 1)]
    _, alone = read(model, tokens=tokens[:1], neuron_modules=shared)
    _, among = read(model, tokens=tokens, neuron_modules=shared)
    same = [close(a["gate"], b["gate"][:TOKENS], 1e-4) for a, b in zip(alone, among, strict=True)]
    assert same == [True, False]


@pytest.mark.slow
def test_the_whole_zoo_is_right_or_refused_and_the_page_says_so():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page, right, refused, wrong = table()
    assert wrong == {}
    assert right >= 297
    assert sorted(refused) == ["blt/causal", "doge+moe/causal", "funnel/masked", "perceiver/masked"]
    assert DOCS.read_text(encoding="utf-8") == page, "run `python tests/survey.py` to write it anew"
