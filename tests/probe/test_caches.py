"""Nothing cached outlives what it was made of."""

import pytest
from tokenizers.normalizers import Lowercase
from tokenizers.processors import TemplateProcessing
from torch import nn

from neuronxa_callback import NeuronXACallback, Probe, read_reports
from neuronxa_callback.errors import ConfigError
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.runs import TEXTS as TRAINED
from tests.helpers.runs import trainer_of
from tests.helpers.tiny import llama, tokenizer_of

CORPUS = half_translated()
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
CONFIG = config_of(CORPUS)
CHAT = "{% for message in messages %}[user] {{ message.content }}{% endfor %}"


def fresh(tokenizer, model, **options):
    """What a probe without a past measures."""
    return Probe(config_of(CORPUS, **options), tokenizer).run(model)


def add_tokens(tokenizer, model):
    tokenizer.add_tokens(["river", "bread", "opens"])
    model.resize_token_embeddings(len(tokenizer))


def change_template(tokenizer, model):
    tokenizer.chat_template = CHAT.replace("user", "the user of this")


def add_beginning(tokenizer, model):
    backend = tokenizer.backend_tokenizer

    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])


def lower_case(tokenizer, model):

    tokenizer.backend_tokenizer.normalizer = Lowercase()


def train_again(tokenizer, model):
    other = tokenizer_of([text[::-1] for text in TEXTS])
    tokenizer.backend_tokenizer.model = other.backend_tokenizer.model


CHANGES = [add_tokens, change_template, add_beginning, lower_case, train_again]


@pytest.mark.parametrize("change", CHANGES)
def test_a_tokenizer_that_has_changed_is_seen_at_the_next_probe(change):
    tokenizer, model = tokenizer_of(TEXTS), trained()
    tokenizer.chat_template = CHAT
    template = "chat" if change is change_template else None
    probe = Probe(config_of(CORPUS, template=template), tokenizer)
    before = probe.run(model)
    assert probe.run(model) == before
    change(tokenizer, model)
    after = probe.run(model)
    assert after == fresh(tokenizer, model, template=template)
    assert after.fingerprint["model"]["token_ids"] != before.fingerprint["model"]["token_ids"]


def test_an_unchanged_tokenizer_is_copied_once():
    tokenizer, model = tokenizer_of(TEXTS), llama()
    probe = Probe(CONFIG, tokenizer)
    for _ in range(3):
        probe.run(model)
        tokenizer("a b", truncation=True, max_length=3, padding="max_length")
        tokenizer.padding_side = "left"
    assert probe.tokenizer.copies == 1


def test_tokens_without_an_embedding_are_refused_before_the_forward():
    tokenizer = tokenizer_of(TEXTS)
    model = llama(vocab_size=len(tokenizer))
    probe = Probe(CONFIG, tokenizer)
    probe.run(model)
    tokenizer.add_tokens(["river"])
    with pytest.raises(ConfigError, match=r"token \d+ of .* is outside its \d+ rows"):
        probe.run(model)
    model.resize_token_embeddings(len(tokenizer))
    assert probe.run(model) == fresh(tokenizer, model)


def widen(model):
    """FFNs that have been replaced by wider ones, in place."""
    for layer, other in zip(
        model.model.layers, trained(intermediate_size=120).model.layers, strict=True
    ):
        layer.mlp = other.mlp


def widen_linears(model):
    for layer, other in zip(
        model.model.layers, trained(intermediate_size=120).model.layers, strict=True
    ):
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(layer.mlp, name, getattr(other.mlp, name))


def widen_weights(model):
    for layer, other in zip(
        model.model.layers, trained(intermediate_size=120).model.layers, strict=True
    ):
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(layer.mlp, name).weight = getattr(other.mlp, name).weight


def drop_a_layer(model):
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers = 2


def swap_activation(model):
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.GELU()


@pytest.mark.parametrize(
    "change", [widen, widen_linears, widen_weights, drop_a_layer, swap_activation]
)
def test_layers_that_have_changed_are_found_again(change):
    tokenizer, model = tokenizer_of(TEXTS), trained()
    probe = Probe(CONFIG, tokenizer)
    probe.run(model)
    change(model)
    assert probe.run(model) == fresh(tokenizer, model)


def test_a_second_trainer_measures_with_its_own_tokenizer(tmp_path):
    callback = NeuronXACallback(CONFIG, every=6)
    one = tokenizer_of(TEXTS + TRAINED)
    other = tokenizer_of([text[::-1] for text in TEXTS + TRAINED], vocab_size=350)
    trainer_of(one, tmp_path / "one", [callback]).train()
    trainer_of(other, tmp_path / "other", [callback], trained()).train()
    trainer_of(other, tmp_path / "alone", [NeuronXACallback(CONFIG, every=6)], trained()).train()
    again = read_reports(tmp_path / "other")
    assert again == read_reports(tmp_path / "alone")
    assert [report.step for report in again] == [0, 6]
    # Drift is measured against this run, not against the first one.
    assert "pivot_drift" not in again[0].run
    assert again[1].run["pivot_drift"]["since"] == 0


def test_an_evaluation_with_another_tokenizer_after_training(tmp_path):
    callback = NeuronXACallback(CONFIG, every=6)
    one, other = tokenizer_of(TEXTS + TRAINED), tokenizer_of(TEXTS[::2] + TRAINED, vocab_size=320)
    trainer_of(one, tmp_path / "one", [callback]).train()
    model = trained()
    scores = trainer_of(other, tmp_path / "other", [callback], model).evaluate()
    assert scores["eval_nasca"] == fresh(other, model).score("nasca")
