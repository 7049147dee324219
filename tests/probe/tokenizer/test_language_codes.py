"""Tokenizers that add the code of the source language: each language gets its own."""

import pytest
from transformers import MBartTokenizer, NllbTokenizer

from neuronxa_callback import ParallelCorpus, Probe
from neuronxa_callback.errors import ConfigError
from tests.helpers.families import tiny
from tests.helpers.probes import config_of
from tests.helpers.tiny import llama, parallel, tokenizer_of

CORPUS = parallel(12)
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
LETTERS = sorted({letter for text in TEXTS for letter in text.replace(" ", "")})


def nllb(**options):
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS]
    return NllbTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[], **options)


def mbart():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS]
    return MBartTokenizer(vocab=[(piece, -1.0) for piece in pieces])


class M2MLike:
    """A tokenizer in Python with short codes, as that of M2M100."""

    pad_token_id, eos_token_id, all_special_ids = 0, 1, (0, 1, 500, 501, 502)

    def __init__(self):
        self.src_lang = "en"
        self.lang_code_to_token = {"en": "__en__", "de": "__de__", "fr": "__fr__"}

    def convert_tokens_to_ids(self, token):
        return 500 + list(self.lang_code_to_token.values()).index(token)

    def __call__(self, text, add_special_tokens=True, **_):
        code = self.convert_tokens_to_ids(self.lang_code_to_token[self.src_lang])
        ids = [2 + ord(letter) % 300 for letter in text]
        return {"input_ids": [code, *ids, 1] if add_special_tokens else ids}


def codes_of(tokenizer, corpus=CORPUS, **options):
    """The code token in the first target sentence of each language, and of the pivot."""
    probe = Probe(config_of(corpus, **options), tokenizer)
    sides = {corpus.pivot: next(iter(corpus.pairs.values()))[0][0]}
    sides |= {name: pairs[0][1] for name, pairs in corpus.pairs.items()}
    known = {
        code: probe.tokenizer.tokenizer.convert_tokens_to_ids(token)
        for code, token in named(tokenizer)
    }
    found = {}
    for name, text in sides.items():
        ids = probe.tokenizer(text, name).ids
        found[name] = [code for code, token in known.items() if token in ids]
    return found


def named(tokenizer):
    if isinstance(tokenizer, M2MLike):
        return tokenizer.lang_code_to_token.items()
    if isinstance(tokenizer, MBartTokenizer):
        return [(code, code) for code in tokenizer.lang_code_to_id]
    return [(code, code) for code in ("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn")]


OWN = {
    "nllb": (nllb, ["eng_Latn", "deu_Latn", "fra_Latn"]),
    "nllb, legacy": (lambda: nllb(legacy_behaviour=True), ["eng_Latn", "deu_Latn", "fra_Latn"]),
    "mbart": (mbart, ["en_XX", "de_DE", "fr_XX"]),
    "m2m": (M2MLike, ["en", "de", "fr"]),
}


@pytest.mark.parametrize("kind", OWN)
def test_each_language_gets_its_own_code(kind):
    make, (english, german, french) = OWN[kind]
    tokenizer = make()
    assert codes_of(tokenizer) == {
        "eng_Latn": [english],
        "deu_Latn": [german],
        "fra_Latn": [french],
    }
    pivot = codes_of(tokenizer, lang_codes="pivot")
    assert list(pivot.values()) == [[english]] * 3
    assert list(codes_of(tokenizer, lang_codes="none").values()) == [[]] * 3
    given = codes_of(tokenizer, lang_codes={"de": french})
    assert given == {"eng_Latn": [english], "deu_Latn": [french], "fra_Latn": [french]}
    assert tokenizer.src_lang == english


def test_the_language_that_training_has_set_changes_nothing():
    model = tiny("m2m_100", vocab_size=600)
    tokenizer = nllb(src_lang="spa_Latn")
    report = Probe(config_of(CORPUS), tokenizer).run(model)
    assert report == Probe(config_of(CORPUS), nllb(src_lang="deu_Latn")).run(model)
    assert report.fingerprint["definition"]["lang_codes"] == "own"
    assert tokenizer.src_lang == "spa_Latn"
    assert tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"])[0] == "spa_Latn"
    other = Probe(config_of(CORPUS, lang_codes="pivot"), tokenizer).run(model)
    assert other.fingerprint["model"]["token_ids"] != report.fingerprint["model"]["token_ids"]


def test_a_sentence_of_two_languages_is_two_sentences_of_tokens():
    same = (("one", "uno"), ("two", "two"))
    corpus = ParallelCorpus("eng_Latn", {"deu_Latn": same, "fra_Latn": same})
    probe = Probe(config_of(corpus), nllb())
    _, groups = probe.tokenize(tiny("m2m_100", vocab_size=600))
    sides = [groups[0].pivot, *groups[0].targets]
    assert len({side.sentences[1].ids for side in sides}) == 3


@pytest.mark.parametrize(
    ("make", "language"),
    [(M2MLike, "swh_Latn"), (mbart, "zho_Hant"), (nllb, "xyz_Latn"), (nllb, "Klingon")],
)
def test_a_language_without_a_code_is_named_with_the_mapping_to_give(make, language):
    corpus = ParallelCorpus("eng_Latn", {language: CORPUS.pairs["deu_Latn"]})
    with pytest.raises(ConfigError) as error:
        Probe(config_of(corpus), make())
    text = f"the tokenizer has no code for the language {language}; set lang_codes={{{language!r}:"
    assert str(error.value).startswith(text)
    code = named(make())
    probe = Probe(config_of(corpus, lang_codes={language: list(dict(code))[1]}), make())
    assert probe.corpus.languages == (language,)


def test_a_pivot_without_a_code_is_named():
    corpus = ParallelCorpus("tlh_Latn", CORPUS.pairs)
    with pytest.raises(ConfigError, match="no code for the language tlh_Latn"):
        Probe(config_of(corpus, lang_codes="pivot"), nllb())
    Probe(config_of(corpus, lang_codes={"tlh_Latn": "eng_Latn"}), nllb())


def test_codes_that_the_tokenizer_does_not_have_are_named():
    with pytest.raises(ConfigError, match="unknown language code for deu_Latn: 'de_DE'"):
        Probe(config_of(CORPUS, lang_codes={"deu_Latn": "de_DE"}), nllb())
    with pytest.raises(ConfigError, match="lang_codes as a mapping needs a tokenizer with"):
        Probe(config_of(CORPUS, lang_codes={"deu_Latn": "de"}), tokenizer_of(TEXTS))
    with pytest.raises(ConfigError, match="unknown lang_codes: 'mine'"):
        config_of(CORPUS, lang_codes="mine")


@pytest.mark.parametrize("lang_codes", ["own", "pivot", "none"])
def test_tokenizers_without_codes_are_as_before(lang_codes):
    tokenizer, model = tokenizer_of(TEXTS), llama()
    before = Probe(config_of(CORPUS), tokenizer).run(model)
    assert (
        Probe(config_of(CORPUS, lang_codes=lang_codes), tokenizer).run(model).metrics
        == before.metrics
    )
