"""Settings of a process or a model that must not change a score."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from neuronxa_callback import Probe
from neuronxa_callback.probe.batching import microbatches
from tests.helpers.families import tiny
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.tiny import llama, tokenizer_of

CORPUS = half_translated()
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
METRICS = ("nasca", "navca", "mexa", "mexa_last")
FAMILIES = ("llama", "mixtral", "qwen3_moe", "gpt2", "bart", "albert")


def model_of(family):
    return trained() if family == "llama" else tiny(family, vocab_size=400)


@pytest.fixture
def settings():
    """What the process had set before."""
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
    torch.set_default_device(None)


@pytest.mark.parametrize("setting", [torch.bfloat16, torch.float16, torch.float64, "meta"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_dtype_and_device_change_nothing(family, setting, settings):
    model, tokenizer = model_of(family), tokenizer_of(TEXTS)
    probes = [Probe(config_of(CORPUS, metrics=METRICS), tokenizer) for _ in range(2)]
    before = [probes[0].run(model, step=step) for step in (0, 1)]
    if setting == "meta":
        torch.set_default_device(setting)
    else:
        torch.set_default_dtype(setting)
    after = [probes[1].run(model, step=step) for step in (0, 1)]
    assert after == before
    assert after[1].run["pivot_drift"] == before[1].run["pivot_drift"]


@pytest.mark.parametrize("pad", [400, 10_000, -1])
def test_a_pad_id_without_an_embedding_is_replaced(pad):
    tokenizer, model = tokenizer_of(TEXTS), trained()
    expected = Probe(config_of(CORPUS), tokenizer).run(model)

    class Padded(type(tokenizer)):
        pad_token_id = pad

    tokenizer.__class__ = Padded
    assert Probe(config_of(CORPUS), tokenizer).run(model).metrics == expected.metrics


def test_a_pad_token_that_was_added_without_resizing():
    tokenizer = tokenizer_of(TEXTS, pad_token=None)
    model = trained(vocab_size=len(tokenizer))
    expected = Probe(config_of(CORPUS), tokenizer).run(model).metrics
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == len(tokenizer) - 1
    assert Probe(config_of(CORPUS), tokenizer).run(model).metrics == expected


def classifier(family):
    config = model_of(family).config
    config.pad_token_id = None
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mixtral"])
def test_a_classifier_without_a_pad_token_runs_one_sentence_at_a_time(family):
    model, tokenizer = classifier(family), tokenizer_of(TEXTS)
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda _, args, given: shapes.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    report = Probe(config_of(CORPUS), tokenizer).run(model)
    hook.remove()
    assert {*shapes} == {1}
    assert model.config.pad_token_id is None
    model.config.pad_token_id = 0
    batched = Probe(config_of(CORPUS), tokenizer).run(model)
    assert batched.score("nasca") == pytest.approx(report.score("nasca"), abs=0.05)


def test_other_models_without_a_pad_token_still_run_batches():
    model, tokenizer = llama(pad_token_id=None), tokenizer_of(TEXTS)
    probe = Probe(config_of(CORPUS), tokenizer)
    with_pad = probe.run(llama()).diagnostics["tokens"]
    assert probe.run(model).diagnostics["tokens"] == with_pad
    _, groups = probe.tokenize(model)
    sentences = sum(
        len(g.pivot.sentences) + sum(len(t.sentences) for t in g.targets) for g in groups
    )
    assert len(microbatches(groups, 1)) == sentences
