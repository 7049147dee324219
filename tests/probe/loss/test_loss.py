"""The diagnostic "loss": bits against a double loop in float64, and what it must not touch."""

import math
from dataclasses import replace

import pytest
import torch
import transformers

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.loss import measure
from tests.helpers.families import tiny
from tests.helpers.probes import config_of, trained
from tests.helpers.tiny import llama, parallel, tokenizer_of

CORPUS = parallel(12)
OWN_PIVOTS = ParallelCorpus(
    "eng_Latn",
    {
        code: tuple((f"{pivot[:-1]} {code[0]}.", target) for pivot, target in pairs)
        for code, pairs in CORPUS.pairs.items()
    },
)
LOSS = ("loss",)


@pytest.fixture(scope="module")
def small_tokenizer():
    texts = [text for pairs in OWN_PIVOTS.pairs.values() for pair in pairs for text in pair]
    return tokenizer_of(texts, vocab_size=400)


def with_bos(tokenizer):
    """The tokenizer with a start token in front of every sentence."""
    from tokenizers import processors

    fast = tokenizer_of(["a"], vocab_size=400)
    fast._tokenizer = type(tokenizer._tokenizer).from_str(tokenizer._tokenizer.to_str())
    fast._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return fast


def losses(model, tokenizer, corpus=CORPUS, **options):
    config = config_of(corpus, diagnostics=LOSS, **options)
    return Probe(config, tokenizer).run(model).diagnostics["loss"]["languages"]


def bits_of(model, ids, special, given=None):
    """The bits of one sentence that is run alone, token by token, in float64."""
    with torch.no_grad():
        if given is None:
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        else:
            labels = torch.tensor([ids])
            logits = model(input_ids=torch.tensor([given]), labels=labels).logits[0]
    bits = 0.0
    for t, token in enumerate(ids):
        row = t if given is not None else t - 1
        if special[t] or row < 0:
            continue
        scores = [float(score) for score in logits[row].double()]
        most = max(scores)
        total = most + math.log(sum(math.exp(score - most) for score in scores))
        bits += (total - scores[token]) / math.log(2)
    return bits


def by_definition(model, tokenizer, corpus, translates=False):
    marks = set(tokenizer.all_special_ids)

    def run(own, other):
        ids, given = tokenizer(own)["input_ids"], tokenizer(other)["input_ids"]
        return bits_of(model, ids, [i in marks for i in ids], given if translates else None)

    found = {}
    for language, pairs in corpus.pairs.items():
        for side, column in (("pivot", 0), ("target", 1)):
            total = sum(run(pair[column], pair[1 - column]) for pair in pairs)
            characters = sum(len(pair[column]) for pair in pairs)
            found.setdefault(language, {})[side] = {
                "per_sentence": pytest.approx(total / len(pairs), rel=1e-3),
                "per_character": pytest.approx(total / characters, rel=1e-3),
            }
    return found


@pytest.mark.parametrize("corpus", [CORPUS, OWN_PIVOTS], ids=["shared pivot", "own pivots"])
@pytest.mark.parametrize("bos", [False, True])
def test_bits_of_a_decoder_are_those_of_each_sentence_alone(small_tokenizer, corpus, bos):
    tokenizer = with_bos(small_tokenizer) if bos else small_tokenizer
    model = trained()
    assert losses(model, tokenizer, corpus) == by_definition(model, tokenizer, corpus)


def test_only_the_start_token_lets_the_first_token_of_a_sentence_count(small_tokenizer):
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every token costs log2(400) bits
    ids = [small_tokenizer(pair[1])["input_ids"] for pair in CORPUS.pairs["deu_Latn"]]
    mean = sum(map(len, ids)) / len(ids)
    for tokenizer, less in ((small_tokenizer, 1), (with_bos(small_tokenizer), 0)):
        found = losses(model, tokenizer)["deu_Latn"]["target"]["per_sentence"]
        assert found == pytest.approx((mean - less) * math.log2(400), rel=1e-3)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_predicts_each_side_from_the_other(small_tokenizer, family):
    model = tiny(family, vocab_size=400)
    tokenizer = with_bos(small_tokenizer)
    found = losses(model, tokenizer, nas_site="product" if family == "t5" else "gate")
    assert found == by_definition(model, tokenizer, CORPUS, translates=True)


def test_scores_do_not_move_by_a_bit(small_tokenizer):
    model = trained()
    plain = Probe(config_of(CORPUS), small_tokenizer).run(model)
    names = (*plain.diagnostics, "loss")
    extra = Probe(config_of(CORPUS, diagnostics=names), small_tokenizer).run(model)
    assert "loss" not in plain.diagnostics
    assert extra.metrics == plain.metrics
    assert extra.fingerprint == plain.fingerprint
    rest = {name: value for name, value in extra.diagnostics.items() if name != "loss"}
    assert replace(extra, diagnostics=rest) == plain


def test_the_logits_of_a_forward_fit_the_budget(small_tokenizer, monkeypatch):
    model, shapes = trained(), []
    whole = losses(model, small_tokenizer)
    monkeypatch.setattr(measure, "LOGIT_BYTES", 60 * 2 * 400 * 4)
    model.lm_head.register_forward_hook(lambda *call: shapes.append(call[2].shape))
    assert losses(model, small_tokenizer) == whole
    own = [shape for shape in shapes if shape[1] > 1]
    assert len(own) > 5
    assert max(shape[0] * shape[1] for shape in own) <= 60


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            lambda: tiny("bert", vocab_size=400),
            "predicts a token with knowledge of later ones, as an encoder",
        ),
        (lambda: llama().model, "returns no logits where [1, 3, vocabulary] were expected"),
    ],
    ids=["encoder", "no head"],
)
def test_a_model_that_predicts_no_sentence_is_refused_by_name(small_tokenizer, model, reason):
    model = model()
    with pytest.raises(ConfigError) as error:
        losses(model, small_tokenizer)
    assert str(error.value) == (
        "the diagnostic 'loss' needs a model that predicts the tokens of a sentence, but"
        f" {type(model).__name__} {reason}; leave 'loss' out of diagnostics"
    )


def test_an_encoder_decoder_without_a_head_is_refused_by_name(small_tokenizer):
    config = tiny("bart", vocab_size=400).config
    with pytest.raises(ConfigError) as error:
        losses(transformers.BartModel(config).eval(), small_tokenizer)
    assert "but BartModel takes no labels; leave" in str(error.value)


def test_a_template_is_refused():
    with pytest.raises(ConfigError) as error:
        ProbeConfig(diagnostics=LOSS, template="Say: {sentence}")
    assert str(error.value) == (
        "the diagnostic 'loss' counts the bits of the sentences alone, so template must be None,"
        " got 'Say: {sentence}'"
    )


def test_nan_stays_nan(small_tokenizer):
    model = trained()
    with torch.no_grad():
        model.lm_head.weight[7] = math.nan
    found = losses(model, small_tokenizer)["deu_Latn"]["target"]
    assert found == {"per_sentence": None, "per_character": None}
