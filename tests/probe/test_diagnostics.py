"""Diagnostics change no score, and warnings name what makes a score doubtful."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from neuronxa_callback import ParallelCorpus, Probe
from neuronxa_callback.metrics.registry import ALIGNMENT
from tests.helpers.probes import config_of, half_translated, trained
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


def many_languages(n=12, count=5, targets=None):
    """The pairs of half_translated, for several languages."""
    pairs = half_translated(n).pairs["deu_Latn"]
    codes = [f"{letter}aa_Latn" for letter in "abcdefghij"][:count]
    return ParallelCorpus("eng_Latn", dict.fromkeys(codes, targets or pairs))


def tokenizer_for(corpus):
    return tokenizer_of([t for rows in corpus.pairs.values() for pair in rows for t in pair])


def test_equal_last_tokens_tie_by_definition_in_the_embeddings_only():
    corpus = many_languages()  # All sentences end with the same full stop.
    config = config_of(corpus, metrics=["mexa_last"])
    report = Probe(config, tokenizer_for(corpus)).run(trained())
    ties = report.diagnostics["margins"]["mexa_last"]["aaa_Latn"]["ties"]
    assert ties[0] == 12
    assert ties[1:] == [0, 0, 0]
    assert not [warning for warning in report.warnings if "tie" in warning]


def test_ties_of_other_layers_are_one_line_that_counts_the_languages():
    corpus, model = many_languages(), trained()
    with torch.no_grad():  # Attention adds nothing, so that equal last tokens stay equal.
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    report = Probe(config_of(corpus, metrics=["mexa_last"]), tokenizer_for(corpus)).run(model)
    (line,) = [warning for warning in report.warnings if "tie" in warning]
    assert line == (
        "5 languages (aaa_Latn, baa_Latn, caa_Latn, ...); the worst is aaa_Latn: up to 12 pairs tie"
        " in mexa_last, in 3 of 4 layers, and ties are not alignment"
    )


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("length-only", "the length-only baseline already scores 1.00"),
        ("same tokens", "30 of 31 sentences have the same tokens as another"),
        ("NaN", "3 of 3 layers of nasca hold NaN"),
    ],
)
def test_a_warning_of_many_languages_is_one_line_per_kind(kind, shown):
    target = "mot{}" if kind == "same tokens" else "{}"
    texts = [
        (" ".join(["word"] * k), target.format(k if kind == "same tokens" else "mot " * k))
        for k in range(1, 32)
    ]
    corpus, model = many_languages(count=4, targets=tuple(texts)), trained()
    tokenizer = tokenizer_for(corpus)
    if kind == "same tokens":
        words = Tokenizer(models.WordLevel({"?": 0, "word": 1, "mot": 2}, unk_token="?"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", pad_token="?")
    if kind == "NaN":
        model.model.embed_tokens.weight.data.fill_(float("nan"))
    report = Probe(config_of(corpus, metrics=["nasca"]), tokenizer).run(model)
    (line,) = [warning for warning in report.warnings if shown in warning]
    assert line.startswith("4 languages (aaa_Latn, baa_Latn, caa_Latn, ...); the worst is aaa_Latn")
