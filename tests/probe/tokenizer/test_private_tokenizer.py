"""The tokenizer is shared with training: a probe never touches it and never samples."""

import copy
import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CanineTokenizer, PreTrainedTokenizerFast

from neuronxa_callback import Probe, ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.tokenization import SentenceTokenizer
from neuronxa_callback.probe.tokenizer.private_copy import private_copy
from tests.helpers.probes import config_of
from tests.helpers.tiny import llama, parallel, tokenizer_of

CORPUS = parallel(12)
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
LONG = "river opens bread window garden letter winter"


def ids_of(tokenizer):
    """How training tokenizes a row, with settings that it has made once."""
    return tokenizer(LONG)["input_ids"]


def test_a_tokenizer_that_another_thread_uses_is_not_touched():
    tokenizer = tokenizer_of(TEXTS)
    seen = []

    class Watched(type(tokenizer)):
        def _encode_plus(self, *args, **kwargs):
            if self is tokenizer:
                seen.append(args)
            return super()._encode_plus(*args, **kwargs)

    tokenizer.__class__ = Watched
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=9, direction="left")
    before = copy.deepcopy({k: v for k, v in vars(tokenizer).items() if k != "_tokenizer"})
    text = backend.to_str()
    inside = []
    model = llama()
    model.register_forward_pre_hook(lambda *_: inside.append(backend.to_str() == text))
    probe = Probe(config_of(CORPUS), tokenizer)
    probe.run(model)
    assert seen == []
    assert all(inside)
    assert backend.to_str() == text
    assert {k: v for k, v in vars(tokenizer).items() if k != "_tokenizer"} == before
    assert len(backend.encode(LONG).ids) == 9
    assert len(probe.tokenizer(LONG).ids) > 9


def test_warnings_of_the_tokenizer_are_left_to_training():
    tokenizer = tokenizer_of(TEXTS, model_max_length=64)
    Probe(config_of(CORPUS), tokenizer).run(llama())
    assert tokenizer.deprecation_warnings == {}


def bpe_with_dropout():
    tokenizer = tokenizer_of(TEXTS)
    tokenizer.backend_tokenizer.model.dropout = 0.3
    return tokenizer


def sampling_unigram():
    letters = sorted({letter for text in TEXTS for letter in text})
    pieces = ["er", "in", "pen", "ver", "dow", "ind", "ar", "den"]
    vocabulary = [("<pad>", 0.0), *((p, -1.0 - 0.1 * k) for k, p in enumerate([*pieces, *letters]))]
    raw = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>")
    tokenizer.backend_tokenizer.model.alpha = 0.2
    return tokenizer


@pytest.mark.parametrize("make", [bpe_with_dropout, sampling_unigram])
def test_random_segmentation_is_off_in_the_probe_and_on_in_training(make):
    tokenizer = make()
    probe = Probe(config_of(CORPUS), tokenizer)
    assert len({probe.tokenizer(LONG).ids for _ in range(30)}) == 1
    model = llama()
    assert probe.run(model) == probe.run(model)
    assert probe.run(model) == Probe(config_of(CORPUS), make()).run(model)
    assert len({tuple(ids_of(tokenizer)) for _ in range(30)}) > 1


class SamplingPieces:
    """The settings of a SentencePiece processor that samples."""

    def __init__(self):
        self._enable_sampling = True

    def encode(self, text):
        keep = random.random() < 0.5 if self._enable_sampling else True
        return [ord(letter) % 300 for letter in text][: None if keep else -1]


class InPython:
    """A tokenizer in Python, around an object that does the work."""

    pad_token_id, all_special_ids = 0, ()

    def __init__(self, pieces):
        self.pieces = pieces

    def __call__(self, text, **_):
        return {"input_ids": self.pieces.encode(text)}

    def get_vocab(self):
        return {chr(k): k for k in range(300)}


def test_sampling_of_sentencepiece_is_off_in_the_probe_and_on_in_training():
    tokenizer = InPython(SamplingPieces())
    probe = Probe(config_of(CORPUS), tokenizer)
    assert len({probe.tokenizer(LONG).ids for _ in range(30)}) == 1
    assert probe.run(llama()) == probe.run(llama())
    assert tokenizer.pieces._enable_sampling


def test_a_tokenizer_that_stays_random_is_refused():
    class Random:
        def encode(self, text):
            return [random.randrange(300) for _ in text]

    with pytest.raises(ConfigError, match=r"two encodings of .* differ; switch its random"):
        Probe(config_of(CORPUS), InPython(Random())).run(llama())


class Jieba:
    """A pre-tokenizer in Python, which has no text form."""

    def pre_tokenize(self, pretok):
        pretok.split(lambda _, part: part.split(" ", "removed"))


def test_parts_written_in_python_are_shared_but_not_the_settings():
    tokenizer = tokenizer_of(TEXTS)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Jieba())
    tokenizer.add_tokens(["river"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<mark>"]})
    backend.enable_truncation(3)
    own = private_copy(tokenizer)
    assert backend.truncation["max_length"] == 3
    assert own.backend_tokenizer.truncation is None
    backend.no_truncation()
    for text in ("river", "<mark> opens river", LONG):
        assert own(text)["input_ids"] == tokenizer(text)["input_ids"]
    with pytest.raises(Exception, match="Custom"):
        backend.to_str()


class Tiktoken:
    """The inner encoding of a tokenizer, no tokenizer of transformers."""

    def __call__(self, text):
        return [ord(letter) % 300 for letter in text]


class QwenLike(InPython):
    """A tokenizer with an attribute ``tokenizer`` of its own."""

    def __init__(self):
        super().__init__(None)
        self.tokenizer = Tiktoken()

    def __call__(self, text, **_):
        return {"input_ids": self.tokenizer(text)}


class NoVocabulary(QwenLike):
    """Has a size, but cannot list its vocabulary, as Mistral's tokenizers."""

    vocab_size = 300

    def get_vocab(self):
        raise NotImplementedError

    def convert_tokens_to_ids(self, token):
        return 0


@pytest.mark.parametrize("make", [QwenLike, NoVocabulary])
def test_a_tokenizer_is_unwrapped_only_if_it_has_no_vocabulary(make):
    report = Probe(config_of(CORPUS), make()).run(llama())
    assert report.languages == CORPUS.languages
    assert len(report.fingerprint["model"]["tokenizer"]) == 16


def test_a_tokenizer_without_a_vocabulary_of_pieces():
    probe = Probe(config_of(CORPUS), CanineTokenizer())
    assert len(probe.tokenizer("Good.").ids) == 7
    assert len(probe.tokenizer.digest()) == 16


def test_another_tokenizer_has_another_digest():
    one, other = (
        SentenceTokenizer(tokenizer_of(TEXTS, vocab_size=size), ProbeConfig())
        for size in (300, 350)
    )
    assert one.digest() != other.digest()
    assert (
        one.digest()
        == SentenceTokenizer(tokenizer_of(TEXTS, vocab_size=300), ProbeConfig()).digest()
    )
