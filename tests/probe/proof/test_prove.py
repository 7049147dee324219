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
from tests.helpers.attacks.models import (
    HIDDEN,
    Block,
    Decoder,
    GatedNetwork,
    PlainNetwork,
    decoder,
    stirred,
)
from tests.helpers.attacks.networks import OwnLayer
from tests.helpers.attacks.proofs import SEEN_BY_ONE, Mixed, mixing
from tests.helpers.attacks.scores import difference
from tests.helpers.families import adapted, tiny
from tests.helpers.probes import config_of
from tests.helpers.tiny import parallel


def probe_of(tokenizer, proofs=PROOFS, n=12, **options):
    probe = Probe(config_of(parallel(n, ("deu_Latn",)), **options), tokenizer)
    probe.proofs = proofs
    return probe


def without(proof):
    return tuple(name for name in PROOFS if name != proof)


@pytest.mark.parametrize(
    ("proof", "attack"), [(proof, name) for proof, named in SEEN_BY_ONE.items() for name in named]
)
def test_each_proof_sees_what_no_other_does(tokenizer, proof, attack):
    model, probe = SEEN_BY_ONE[proof][attack](), probe_of(tokenizer, without(proof))
    assert difference(probe.run(model), model, probe), "without it, a wrong score and no word"
    for proofs in (PROOFS, (proof,)):
        model, probe = SEEN_BY_ONE[proof][attack](), probe_of(tokenizer, proofs)
        if proof != INVARIANT:
            with pytest.raises(TapError, match=r"layers\.\d"):
                probe.run(model)
            continue
        report = probe.run(model)
        assert report.run["proof"]["batching"] == "one sentence at a time"
        assert report.fingerprint["environment"]["batching"] == "one sentence at a time"
        assert difference(report, model, probe) == ""


def test_random_states_are_refused(tokenizer):
    class Noise(nn.Module):
        def forward(self, x):
            return torch.rand_like(x)

    with pytest.raises(TapError, match="must be the same in every forward pass"):
        probe_of(tokenizer).run(mixing(Noise)())


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


class DecoderForSequenceClassification(Decoder):
    """Refuses more than one sentence, as classifiers without a padding token do."""

    def forward(self, input_ids, **options):
        assert len(input_ids) == 1
        return super().forward(input_ids, **options)


@pytest.mark.parametrize("network", [GatedNetwork, lambda: PlainNetwork(act=torch.relu)])
def test_models_that_refuse_batches_are_proved(tokenizer, network):
    model = stirred(DecoderForSequenceClassification(lambda _: Block(network())))
    probe = probe_of(tokenizer)
    report = probe.run(model)
    proof = report.run["proof"]
    assert proof["proofs"] == list(PROOFS)
    assert proof["not_recomputed"] == {}
    assert proof["forwards"] <= MAX_FORWARDS
    assert proof["batching"] == "one sentence at a time"
    assert difference(report, model, probe) == ""


@pytest.mark.parametrize("attack", SEEN_BY_ONE[RECOMPUTED])
def test_models_that_refuse_batches_are_recomputed(tokenizer, attack):
    layers = SEEN_BY_ONE[RECOMPUTED][attack]().layers
    model = stirred(DecoderForSequenceClassification(lambda number: layers[number]))
    with pytest.raises(TapError, match="must be its gate"):
        probe_of(tokenizer).run(model)


def test_states_kept_between_forwards_are_refused(tokenizer):
    class Kept(nn.Module):
        before = 0.0

        def forward(self, x):
            now, self.before = x.mean() + self.before, x.mean()
            return x * now

    model = stirred(DecoderForSequenceClassification(lambda _: Mixed(Kept())))
    with pytest.raises(TapError, match="must be the same in every forward pass"):
        probe_of(tokenizer).run(model)


def append_layer(model):
    model.layers.append(copy.deepcopy(model.layers[0]))


def remove_layer(model):
    del model.layers[2]


def reorder_layers(model):
    model.layers.insert(0, model.layers.pop(2))


def replace_network(model):
    model.layers[1].ffn = GatedNetwork()
    model.eval()


def replace_weights(model):
    first, other = (model.layers[k].ffn for k in (0, 2))
    first.up.weight, other.up.weight = other.up.weight, first.up.weight


def load_weights(model):
    other = {name: 2 * value.flip(0) for name, value in model.state_dict().items()}
    model.load_state_dict(other, assign=True)


def widen(model):
    network = model.layers[0].ffn
    network.gate, network.up = nn.Linear(HIDDEN, 96), nn.Linear(HIDDEN, 96)
    network.down = nn.Linear(96, HIDDEN)


def cut_in_place(model):
    network = model.layers[0].ffn
    for layer in (network.gate, network.up):
        layer.weight, layer.bias = nn.Parameter(layer.weight[:9]), nn.Parameter(layer.bias[:9])
    network.down.weight = nn.Parameter(network.down.weight[:, :9])


def replace_activation(model):
    model.layers[1].ffn.act = nn.ReLU()


def add_hook(model):
    model.layers[1].ffn.up.register_forward_hook(lambda module, args, output: 2 - output)


def add_adapter(model):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["up", "down"], init_lora_weights=False)
    torch.manual_seed(0)
    peft.inject_adapter_in_model(config, model).eval()


def offload(model):
    accelerate = pytest.importorskip("accelerate")
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


CHANGES = (
    append_layer,
    remove_layer,
    reorder_layers,
    replace_network,
    replace_weights,
    load_weights,
    widen,
    cut_in_place,
    replace_activation,
    add_hook,
    add_adapter,
    offload,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_proved_again(tokenizer, change):
    model, probe = decoder(GatedNetwork), probe_of(tokenizer)
    probe.run(model)
    first = probe.run(model).run["proof"]
    change(model)
    after = probe.run(model)
    assert after == probe_of(tokenizer).run(model)
    assert after.run["proof"] is not first
    if change not in (add_hook, add_adapter, offload):
        assert difference(after, model, probe) == ""


def test_a_changed_network_is_found_and_proved_again(tokenizer):
    model, probe = decoder(GatedNetwork), probe_of(tokenizer)
    probe.run(model)
    network = model.layers[1].ffn
    weight, network.down = network.down.weight, OwnLayer(*network.down.weight.shape[::-1])
    network.down.weight = weight
    assert probe.run(model).metrics == probe_of(tokenizer).run(model).metrics


def test_warn_goes_on_and_says_so(tokenizer, caplog):
    model = SEEN_BY_ONE[RECOMPUTED]["a norm"]()
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
