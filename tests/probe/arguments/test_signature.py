"""Models of plain PyTorch are called by their signature, or by a function."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from neuronxa_callback import NeuronXACallback, Probe
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.tokenization import longest_sentence
from tests.helpers.own_models import (
    CORPUS,
    TOKENIZER,
    WIDTH,
    NanoGPT,
    Net,
    OneArgument,
    hits_of,
    probed,
    spread,
    verdicts_of_nanogpt,
)
from tests.helpers.probes import config_of


class Titan(Net):
    blocks_name = "layers"

    def forward(self, tokens, start=0):
        return self.logits(tokens)


class PositionalOnly(Net):
    def forward(self, sequences, /):
        return self.logits(sequences)


class KeywordOnly(Net):
    def forward(self, *, ids):
        return {"logits": self.logits(ids)}


class NoReturnDict(Net):
    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.logits(input_ids)


class RequiredLabels(Net):
    def forward(self, input_ids, attention_mask, labels):
        logits = self.logits(input_ids)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits


class SentenceLabels(Net):
    def forward(self, input_ids, labels):
        return functional.cross_entropy(self.logits(input_ids)[:, -1], labels)


class DictInput(Net):
    def forward(self, batch):
        return self.logits(batch["input_ids"])


class DictWithLabels(Net):
    def forward(self, features: dict):
        return self.loss(features["tokens"], features["labels"])


class Keywords(Net):
    def forward(self, **batch):
        return self.loss(batch["input_ids"], batch["labels"])


class NoOptions(Net):
    def forward(self, input_ids=None, **options):
        if options:
            raise TypeError(f"unexpected {options}")
        return self.logits(input_ids)


class ImagesToo(Net):
    def forward(self, pixel_values, text):
        assert pixel_values is None
        return self.logits(text)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = NanoGPT()

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


MODELS = [
    NanoGPT, Titan, OneArgument, PositionalOnly, KeywordOnly, NoReturnDict, RequiredLabels,
    SentenceLabels, DictInput, DictWithLabels, Keywords, NoOptions, ImagesToo, Inner,
]  # fmt: skip


@pytest.fixture(scope="module")
def expected():
    return verdicts_of_nanogpt()


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_called_by_its_signature(kind, expected):
    report = probed(spread(kind()))
    assert hits_of(report) == expected
    assert report.run["proof"]["batching"] == "together"
    assert "forward" not in report.fingerprint["model"]


def call_the_body(model, batch):
    return model.logits(batch["input_ids"])


class Unclear(Net):
    def forward(self, x, mask):
        raise NotImplementedError


def test_a_function_calls_a_model_whose_signature_is_unclear(expected):
    report = probed(spread(Unclear()), forward=call_the_body)
    assert hits_of(report) == expected
    assert report.fingerprint["model"]["forward"] == "call_the_body"
    callback = NeuronXACallback(config_of(CORPUS), forward=call_the_body)
    assert callback.make_probe(TOKENIZER).forward is call_the_body


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unclear, "Unclear.forward(x, mask) must be called with mask, whose meaning is not known"),
        (type("None_", (Net,), {"forward": lambda self: 0}), "None_.forward takes no token ids"),
        (
            type("Fails", (Net,), {"forward": lambda self, idx: idx.nothing}),
            "the probe must know how to call Fails.forward(idx), but its call failed with"
            " AttributeError: 'Tensor' object has no attribute 'nothing'",
        ),
        (
            type("Wants", (Net,), {"forward": lambda self, batch: batch["speaker"]}),
            "the probe must know how to call Wants.forward(batch), but its call failed with"
            " KeyError: 'speaker'",
        ),
        (type("Empty", (Net,), {}), "Empty must have a forward, but it defines none"),
    ],
)
def test_a_call_that_is_not_known_is_refused_and_shows_forward(kind, message):
    with pytest.raises(ConfigError) as error:
        probed(kind())
    assert str(error.value).startswith(message)
    assert 'def forward(model, batch): return model(batch["input_ids"])' in str(error.value)


def test_a_function_that_fails_is_named():
    def lookup(model, batch):
        return model(batch["labels"])

    with pytest.raises(ConfigError, match="lookup failed with KeyError: 'labels'"):
        probed(NanoGPT(), forward=lookup)
    with pytest.raises(ConfigError, match="forward must be a function of a model and a batch"):
        Probe(config_of(CORPUS), TOKENIZER, forward="model")


def test_mexa_needs_a_function_that_returns_hidden_states():
    with pytest.raises(ConfigError, match="NanoGPT returns no hidden_states; give forward="):
        probed(NanoGPT(), metrics=("mexa",))

    def with_states(model, batch):
        x = model.wte(batch["input_ids"])
        states = [x]
        for block in model.h:
            states.append(block(states[-1]))
        return {"hidden_states": states}

    report = probed(spread(NanoGPT()), forward=with_states, metrics=("mexa",))
    assert len(report.layers("mexa")) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_read(dtype, expected):
    report = probed(spread(NanoGPT()).to(dtype))
    assert report.fingerprint["model"]["states"] == str(dtype).removeprefix("torch.")
    if dtype == torch.float64:
        assert report.score("nasca") == pytest.approx(
            sum(hits.bit_count() for row in expected.values() for hits in row) / (8 * 3 * 2),
            abs=0.05,
        )


@pytest.mark.parametrize("limit", ["table", "config", "dictionary"])
def test_the_longest_sentence_comes_from_tables_or_options(limit):
    model = NanoGPT()
    if limit != "table":
        options = {"block_size": 16}
        model.config = options if limit == "dictionary" else type("Config", (), options)()
        if limit == "config":
            vars(model.config).update(options)
    assert longest_sentence(model, TOKENIZER) == (64 if limit == "table" else 16)


def test_a_token_outside_of_the_table_is_refused():
    model = NanoGPT()
    model.wte = nn.Embedding(90, WIDTH)
    with pytest.raises(ConfigError, match="is outside its 90 rows"):
        probed(model)
