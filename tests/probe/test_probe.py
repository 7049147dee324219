"""A probe of a model, against the definition of the method, and what it must leave unchanged."""

import math
import random

import numpy as np
import pytest
import torch

from neuronxa_callback import AlignmentReport, ParallelCorpus, Probe, TapError
from neuronxa_callback.errors import ConfigError, CorpusError
from neuronxa_callback.metrics.registry import ALIGNMENT
from tests.helpers import oracle
from tests.helpers.families import tiny
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.tiny import llama, parallel, tokenizer_of

EVERY = tuple(ALIGNMENT)


PAPER = ("llama", "qwen2", "qwen3", "mistral", "glm4", "olmo2")


@pytest.mark.parametrize(("family", "batch_tokens"), [("llama", 64), *((f, 4096) for f in PAPER)])
def test_hits_equal_the_double_loop_for_every_metric(tokenizer, family, batch_tokens):
    corpus, model = half_translated(), tiny(family, vocab_size=400)
    probe = Probe(config_of(corpus, metrics=EVERY, batch_tokens=batch_tokens), tokenizer)
    report = probe.run(model)
    seen = dict.fromkeys(EVERY, 0)
    for language in corpus.languages:
        expected = oracle.hits(model, probe.tokenizer, corpus.pairs[language])
        for metric in EVERY:
            masks = tuple(oracle.mask(row) for row in expected[metric])
            assert report.metrics[metric].hits[language] == masks
            scores = [mask.bit_count() / 14 for mask in masks]
            assert report.curve(metric, language) == tuple(scores)
            assert report.score(metric, language) == pytest.approx(sum(scores) / len(scores))
            seen[metric] += sum(mask.bit_count() for mask in masks)
    assert min(seen.values()) > 10, "some pairs must be aligned"


def test_a_pivot_side_of_its_own_per_language(tokenizer):
    shared = parallel(10, ("deu_Latn",), seed=3)
    other = parallel(10, ("fra_Latn",), seed=4)
    both = ParallelCorpus("eng_Latn", {**shared.pairs, **other.pairs})
    model = trained()
    report = Probe(config_of(both), tokenizer).run(model)
    for one in (shared, other):
        alone = Probe(config_of(one), tokenizer).run(model)
        (language,) = one.languages
        assert report.metrics["nasca"].hits[language] == alone.metrics["nasca"].hits[language]


@pytest.mark.parametrize("site", ["gate", "product"])
def test_sites_are_options(tokenizer, site):
    corpus, model = parallel(12, ("deu_Latn",)), trained()
    probe = Probe(config_of(corpus, nas_site=site, nav_site=site), tokenizer)
    report = probe.run(model)
    pairs = corpus.pairs["deu_Latn"]
    place = 0 if site == "gate" else 1
    for metric, kind in (("nasca", "nas"), ("navca", "nav")):
        sides = [
            [oracle.states_by_hand(model, probe.tokenizer(pair[k]).ids)[place] for pair in pairs]
            for k in (0, 1)
        ]
        for layer in range(3):
            vectors = [[oracle.vector(each[layer], kind) for each in side] for side in sides]
            expected = oracle.mask(oracle.verdicts(*vectors))
            assert report.metrics[metric].hits["deu_Latn"][layer] == expected
    assert report.fingerprint["definition"]["nas_site"] == site


def test_the_report_is_lossless_as_json_and_repeats(tokenizer, corpus, model):
    probe = Probe(config_of(corpus, metrics=EVERY), tokenizer)
    report = probe.run(model, step=7)
    assert AlignmentReport.from_json(report.to_json()) == report
    assert probe.run(model, step=7) == report
    assert Probe(config_of(corpus, metrics=EVERY), tokenizer).run(model, step=7) == report


def test_nothing_of_the_model_or_the_tokenizer_is_changed(corpus, model):
    tokenizer = tokenizer_of([text for p in corpus.pairs.values() for q in p for text in q])
    tokenizer.padding_side = "left"
    tokenizer("a b", truncation=True, max_length=3, padding="max_length")
    settings = (tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding)
    model.train()
    model.model.layers[1].eval()
    flags = [module.training for module in model.modules()]
    weights = {name: each.clone() for name, each in model.state_dict().items()}
    buffers = {name: each.clone() for name, each in model.named_buffers()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    Probe(config_of(corpus), tokenizer).run(model)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    assert all(torch.equal(each, buffers[name]) for name, each in model.named_buffers())
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.modules()]
    assert not any(hooks)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    after = (tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding)
    assert after == settings
    assert settings[0] is not None
    assert tokenizer.padding_side == "left"


def test_a_model_that_diverged_scores_nan_and_not_zero(tokenizer, corpus):
    model = trained()
    with torch.no_grad():
        model.model.layers[1].mlp.gate_proj.weight[5] = math.nan
    report = Probe(config_of(corpus, metrics=EVERY), tokenizer).run(model)
    assert report.metrics["nasca"].hits["deu_Latn"][0] is not None
    assert report.metrics["nasca"].hits["deu_Latn"][1:] == (None, None)
    assert math.isnan(report.score("nasca"))
    assert math.isnan(report.score("navca", "fra_Latn"))
    assert math.isnan(report.interval("nasca")[0])
    assert '"nasca":{"layers":[0,1,2],"hits":{"deu_Latn":["' in report.to_json()
    assert AlignmentReport.from_json(report.to_json()) == report
    assert "deu_Latn: 2 of 3 layers of nasca hold NaN" in report.warnings


def test_tokenizers_without_a_pad_token_and_with_left_padding_give_the_same(corpus):
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    model = trained()
    usual = tokenizer_of(texts)
    bare = tokenizer_of(texts, pad_token=None, bos_token=None, padding_side="left")
    assert bare.pad_token is None
    reports = [Probe(config_of(corpus), each).run(model) for each in (usual, bare)]
    assert reports[0].metrics == reports[1].metrics


def test_a_processor_may_replace_its_tokenizer(tokenizer, corpus, model):
    class Processor:
        def __init__(self, inner):
            self.tokenizer = inner

    assert Probe(config_of(corpus), Processor(tokenizer)).run(model).languages == corpus.languages


@pytest.mark.parametrize("given", [None, object()])
def test_no_tokenizer_is_one_clear_sentence(corpus, given):
    with pytest.raises(ConfigError) as error:
        Probe(config_of(corpus), given)
    assert str(error.value) == (
        f"a probe needs the model's tokenizer, got {type(given).__name__}; pass tokenizer=, or"
        " processing_class= to the Trainer"
    )


def test_a_sentence_longer_than_the_model_is_named_with_what_to_do(tokenizer, corpus):
    model = llama(max_position_embeddings=12)
    with pytest.raises(CorpusError) as error:
        Probe(config_of(corpus), tokenizer).run(model)
    assert "every language needs 12 usable pairs, deu_Latn has " in str(error.value)
    assert "allowed 1 to 12" in str(error.value)


def test_a_model_without_readable_neurons_is_refused(tokenizer, corpus):
    model = llama()
    for layer in model.model.layers:
        layer.mlp = torch.nn.Identity()
    with pytest.raises(TapError):
        Probe(config_of(corpus), tokenizer).run(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_template_goes_around_the_sentence(tokenizer, corpus, model):
    probe = Probe(config_of(corpus, template="Say: {sentence} End"), tokenizer)
    decoded = tokenizer.decode(list(probe.tokenizer("Hello.").ids))
    assert decoded == "Say: Hello. End"
    assert probe.run(model).fingerprint["definition"]["template"] == "Say: {sentence} End"


@pytest.mark.parametrize("step", [np.int64(3), torch.tensor(3), 3])
def test_a_step_of_any_integer_type_is_kept(step, tokenizer):
    report = Probe(config_of(parallel(10)), tokenizer).run(llama(), step)
    assert AlignmentReport.from_json(report.to_json()).step == 3


@pytest.mark.parametrize("step", [-1, 0.5, 2.0, True, "7", None])
def test_another_step_is_refused_before_a_sentence_runs(step, tokenizer):
    with pytest.raises(ConfigError, match=r"^step must be an integer of at least 0, got "):
        Probe(config_of(parallel(10)), tokenizer).run(llama(), step, progress=pytest.fail)
