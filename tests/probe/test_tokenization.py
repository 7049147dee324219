"""Sentences as token ids: which tokens are special, and how long a sentence may be."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from neuronxa_callback import Probe, ProbeConfig
from neuronxa_callback.probe.batching import Sentence, collate
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.tokenization import SentenceTokenizer, longest_sentence
from tests.helpers.families import tiny
from tests.helpers.tiny import parallel


def of_words(*words, **marks):
    """A tokenizer of whole words that begins every sentence with ``<s>``; others are unknown."""
    vocabulary = {word: k for k, word in enumerate(["<unk>", "<s>", *words])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", **marks)


@pytest.mark.parametrize("pad", [{}, {"pad_token": "<unk>"}], ids=["no pad", "pad is unk"])
def test_an_unknown_word_is_not_special(pad):
    tokenize = SentenceTokenizer(of_words("bread", unk_token="<unk>", **pad), ProbeConfig())
    sentence = tokenize("bread zzz bread")
    assert sentence.ids == (1, 2, 0, 2)
    assert sentence.special == (True, False, False, False)


def test_an_end_token_that_is_also_the_unknown_token_is_special():
    tokenize = SentenceTokenizer(of_words("bread", unk_token="<s>"), ProbeConfig())
    assert tokenize("bread bread").special == (True, False, False)


def test_a_probe_without_special_tokens_keeps_unknown_words():
    corpus = parallel(8, ("deu_Latn",))
    texts = [text for pair in corpus.pairs["deu_Latn"] for text in pair]
    words = sorted({word for text in texts for word in text.split()})
    model = tiny("llama", vocab_size=400)
    probes = [
        Probe(ProbeConfig(corpus=corpus, n_pairs=8), of_words(*words[::2], **marks))
        for marks in ({"unk_token": "<unk>"}, {})
    ]
    named, unnamed = (probe.run(model).diagnostics["sinks"] for probe in probes)
    assert named["navca_without_special_tokens"] == unnamed["navca_without_special_tokens"]
    assert any(0 in probes[0].tokenizer(text).ids for text in texts)


class Tokens:
    """The one attribute of a tokenizer that matters here."""

    def __init__(self, model_max_length):
        self.model_max_length = model_max_length


@pytest.mark.parametrize(
    ("positions", "tokens", "longest"),
    [(14, 12, 12), (14, 10**30, 12), (14, 9, 9), (20, 12, 12)],
)
def test_positions_that_a_model_loses_are_not_taken_from_the_tokenizers_limit(
    positions, tokens, longest
):
    model = tiny("xlm-roberta", max_position_embeddings=positions, pad_token_id=1)
    assert longest_sentence(model, Tokens(tokens)) == longest


def test_the_longest_sentence_runs_and_one_more_token_does_not():
    model = tiny("xlm-roberta", max_position_embeddings=14, pad_token_id=1)
    most = longest_sentence(model, Tokens(None))
    forward = Forward(model, "encoder", hidden=False)

    def run(tokens):
        with torch.no_grad():
            forward(collate([Sentence((5,) * tokens, (False,) * tokens)], pad=1))

    run(most)
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        run(most + 1)
