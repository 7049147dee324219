"""Neuron statistics of what they cannot measure: one sentence each; and the smallest input."""

import pytest
import torch

from neuronxa_callback import ParallelCorpus, Probe
from neuronxa_callback.errors import ConfigError, CorpusError, NeuronXAError
from neuronxa_callback.metrics.registry import NEURON_STATISTICS
from neuronxa_callback.probe.neurons import counter
from tests.helpers.families import tiny
from tests.helpers.ffn.firing import dense, marked_tokenizer, states
from tests.helpers.probes import config_of, trained
from tests.helpers.tiny import parallel

EVERY = tuple(NEURON_STATISTICS)


def refusal(call, kind):
    """The message of an error, which is one sentence on one line."""
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    assert 20 < len(text) < 400
    return text


def test_one_language_beside_the_pivot_has_no_partial_sharing_and_no_related_neurons():
    corpus = parallel(8, ("deu_Latn",))
    (model, hooked), tokenizer = dense(), marked_tokenizer(corpus)
    found = Probe(config_of(corpus, neurons=EVERY), tokenizer).run(model).diagnostics
    on = states(model, hooked, tokenizer, corpus)
    for layer, (english, german) in enumerate(on):
        both = sum(
            a and b
            for one, other in zip(english, german, strict=True)
            for a, b in zip(one[-1], other[-1], strict=True)
        )
        width = len(english[0][0])
        shares = found["sharing"]["last"]["shares"]
        assert shares["all"][layer] == pytest.approx(both / (8 * width), rel=1e-3)
        assert shares["partial"][layer] == pytest.approx(0, abs=1e-12)
    assert found["language_neurons"]["neurons"]["related"] == [0] * len(on)


def test_a_corpus_without_its_pivot_is_one_sentence():
    pairs = {"deu_Latn": tuple((text, text[::-1]) for text in ("One two.", "Three four."))}
    text = refusal(lambda: ParallelCorpus("deu_Latn", pairs), CorpusError)
    assert "deu_Latn" in text


def test_more_pairs_than_memory_allows_are_one_sentence(monkeypatch):
    corpus = parallel(8)
    probe = Probe(config_of(corpus, neurons=EVERY), marked_tokenizer(corpus))
    monkeypatch.setattr(counter.FiringCounter.__init__, "__defaults__", (1000,))
    text = refusal(lambda: probe.run(trained()), ConfigError)
    assert "the neuron statistics of 3 languages, 8 pairs and 264 neurons must fit" in text
    assert "lower n_pairs, name fewer languages" in text


def test_a_model_without_feed_forward_neurons_is_one_sentence():
    corpus = parallel(8)
    probe = Probe(config_of(corpus, neurons=EVERY), marked_tokenizer(corpus))
    model = tiny("mamba", vocab_size=400)
    refusal(lambda: probe.run(model), NeuronXAError)


def test_a_model_without_gates_is_measured_at_its_activations():
    corpus = parallel(8)
    model, tokenizer = tiny("bart", vocab_size=400), marked_tokenizer(corpus)
    found = Probe(config_of(corpus, neurons=EVERY), tokenizer).run(model).diagnostics
    assert all(share > 0 for share in found["overlap"]["with_pivot"]["deu_Latn"])
    assert torch.tensor(found["sharing"]["any"]["shares"]["silent"]).max() < 1
