"""Diagnostics change no score, and warnings name what makes a score doubtful."""

import torch
from tokenizers.processors import TemplateProcessing

from neuronxa_callback import ParallelCorpus, Probe
from neuronxa_callback.metrics.registry import ALIGNMENT
from tests.helpers.probes import config_of, trained
from tests.helpers.tiny import tokenizer_of

EVERY = tuple(ALIGNMENT)


def test_diagnostics_change_no_main_number_by_one_bit(tokenizer, corpus):
    model = trained()
    bare = Probe(config_of(corpus, diagnostics=()), tokenizer).run(model)
    full = Probe(config_of(corpus), tokenizer).run(model)
    more = Probe(config_of(corpus, metrics=EVERY), tokenizer).run(model)
    assert bare.metrics == full.metrics
    assert {name: more.metrics[name] for name in bare.metrics} == dict(bare.metrics)
    assert bare.diagnostics == {}
    assert set(full.diagnostics) == {"surface", "tokens", "margins", "sinks", "activity"}


def test_the_sink_of_a_huge_first_token_is_named(corpus):
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    tokenizer = tokenizer_of(texts)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    model = trained()
    with torch.no_grad():
        # <s> moves along a direction of its own, which only the first neuron of a layer hears.
        model.model.embed_tokens.weight[:, 0] = 0
        model.model.embed_tokens.weight[1] = 0
        model.model.embed_tokens.weight[1, 0] = 100
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight[:, 0] *= 300
            layer.mlp.up_proj.weight[:, 0] *= 300
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
    report = Probe(config_of(corpus), tokenizer).run(model)
    assert any("one token makes" in warning for warning in report.warnings)
    shares = report.diagnostics["sinks"]["largest_token"]["deu_Latn"]
    assert max(shares) > 0.5


def test_a_language_whose_lengths_tell_its_sentences_apart_is_named(model, tokenizer):
    words = [" ".join(["word"] * k) for k in range(1, 31)]
    texts = [" ".join(["mot"] * k) for k in range(1, 31)]
    corpus = ParallelCorpus("eng_Latn", {"fra_Latn": tuple(zip(words, texts, strict=True))})
    report = Probe(config_of(corpus), tokenizer).run(model)
    assert "fra_Latn: the length-only baseline already scores 1.00" in report.warnings
