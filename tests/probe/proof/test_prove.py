"""What the first probe of a model proves, what it costs, and when it is done again."""

import copy
import logging

import pytest
import torch
from torch import nn

from neuronxa_callback import Probe, TapError
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.proof.prove import (
    INVARIANT,
    MAX_FORWARDS,
    PROOFS,
    RECOMPUTED,
)
from tests.helpers import hostile
from tests.helpers.families import adapted, tiny
from tests.helpers.probes import config_of
from tests.helpers.tiny import parallel

ATTACKS = {
    RECOMPUTED: {
        "a scale of either sign": lambda: hostile.uniform(join=hostile.signed_scale, gated=False),
        "a norm of the product": lambda: hostile.uniform(join=hostile.hidden_norm),
    },
}
"""Models that discovery reads wrong, so that only a proof sees it."""
MIXES = {"fourier": hostile.Fourier, "window": hostile.Window, "batch": hostile.BatchScale}


def probe_of(tokenizer, proofs=PROOFS, n=12, **options):
    probe = Probe(config_of(parallel(n, ("deu_Latn",)), **options), tokenizer)
    probe.proofs = proofs
    return probe


def without(proof):
    return tuple(name for name in PROOFS if name != proof)


@pytest.mark.parametrize(
    ("proof", "attack"), [(proof, name) for proof, attacks in ATTACKS.items() for name in attacks]
)
def test_each_proof_refuses_what_no_other_sees(tokenizer, proof, attack):
    make = ATTACKS[proof][attack]
    with pytest.raises(TapError, match=r"layers\.\d"):
        probe_of(tokenizer, (proof,)).run(make())
    # Without it, the same model gets a score, and nothing warns.
    report = probe_of(tokenizer, without(proof)).run(make())
    assert 0 <= report.score("nasca") <= 1


@pytest.mark.parametrize("mix", MIXES)
def test_sentences_run_one_at_a_time_if_others_change_them(tokenizer, mix):
    model = hostile.mixed_by(MIXES[mix])
    report = probe_of(tokenizer).run(model)
    assert report.run["proof"]["batching"] == "one sentence at a time"
    assert report.fingerprint["environment"]["batching"] == "one sentence at a time"
    alone = probe_of(tokenizer, (), batch_tokens=1).run(model)
    together = probe_of(tokenizer, without(INVARIANT)).run(model)
    assert report.metrics == alone.metrics
    assert report.diagnostics["margins"] != together.diagnostics["margins"]


def test_random_states_are_refused(tokenizer):
    class Noise(nn.Module):
        def forward(self, x):
            return torch.rand_like(x)

    with pytest.raises(TapError, match="must be the same in every forward pass"):
        probe_of(tokenizer).run(hostile.mixed_by(Noise))


@pytest.mark.parametrize(
    "family", ["llama", "phi3", "bitnet", "gpt2", "bert", "albert", "t5", "mixtral", "qwen2_moe"]
)
def test_ordinary_models_are_proved(tokenizer, family):
    forwards = []
    model = tiny(family, vocab_size=400)
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    probe = probe_of(tokenizer)
    report = probe.run(model)
    proof = report.run["proof"]
    assert proof["proofs"] == list(PROOFS)
    assert proof["unproved"] == []
    assert proof["batching"] == "together"
    assert proof["not_recomputed"] == {}
    assert proof["flipped"] <= 1e-3
    assert proof["difference"] <= 1e-5
    first, probe_forwards = len(forwards), len(forwards) - proof["forwards"]
    assert proof["forwards"] <= MAX_FORWARDS == 8
    assert probe.run(model) == report
    assert len(forwards) - first == probe_forwards, "a second probe proves nothing again"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_proved(tokenizer, dtype):
    report = probe_of(tokenizer).run(tiny("llama", vocab_size=400).to(dtype))
    assert report.run["proof"]["batching"] == "together"


def test_adapters_are_proved(tokenizer):
    model = adapted("llama", target_modules=["gate_proj", "up_proj", "down_proj"])
    model.get_base_model().resize_token_embeddings(400)
    assert probe_of(tokenizer).run(model).run["proof"]["not_recomputed"] == {}


def change_layers(model):
    model.layers.append(copy.deepcopy(model.layers[0]))


def remove_layer(model):
    del model.layers[2]


def replace_network(model):
    model.layers[1].mlp = hostile.Network()
    model.eval()


def widen(model):
    network = model.layers[0].mlp
    for name in ("gate_proj", "up_proj"):
        setattr(network, name, nn.Linear(hostile.HIDDEN, 96, bias=False))
    network.down_proj = nn.Linear(96, hostile.HIDDEN, bias=False)


def replace_activation(model):
    model.layers[1].mlp.act_fn = nn.GELU()


@pytest.mark.parametrize(
    "change", [change_layers, remove_layer, replace_network, widen, replace_activation]
)
def test_a_changed_model_is_proved_again(tokenizer, change):
    model, probe = hostile.uniform(), probe_of(tokenizer)
    before = probe.run(model)
    change(model)
    after = probe.run(model)
    assert after == probe_of(tokenizer).run(model)
    assert after != before


def test_a_changed_network_is_found_and_proved_again(tokenizer):
    model, probe = hostile.uniform(), probe_of(tokenizer)
    probe.run(model)
    network = model.layers[1].mlp
    network.down_proj = hostile.Bare(network.down_proj)
    assert probe.run(model).metrics == probe_of(tokenizer).run(model).metrics


def test_warn_goes_on_and_says_so(tokenizer, caplog):
    model = hostile.uniform(join=hostile.hidden_norm)
    probe = probe_of(tokenizer, on_unproved="warn")
    with caplog.at_level(logging.WARNING):
        first, second = probe.run(model), probe.run(model)
    assert len(caplog.records) == 1
    assert first == second
    (problem,) = first.run["proof"]["unproved"]
    assert problem.startswith(RECOMPUTED)
    assert problem in first.warnings
    assert first.fingerprint["environment"]["on_unproved"] == "warn"


def test_on_unproved_is_checked():
    with pytest.raises(ConfigError, match="on_unproved"):
        config_of(parallel(4), on_unproved="ignore")
