"""The text that is really measured is part of the fingerprint."""

from dataclasses import replace

import pytest

from neuronxa_callback import Probe
from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history import compare
from neuronxa_callback.history.history import History
from tests.helpers.probes import config_of, half_translated
from tests.helpers.tiny import llama, tokenizer_of

CORPUS = half_translated()
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
CHAT = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"


def with_template(template):
    tokenizer = tokenizer_of(TEXTS)
    tokenizer.chat_template = template
    return tokenizer


def measured(template, **options):
    return Probe(config_of(CORPUS, template="chat", **options), with_template(template)).run(
        llama()
    )


def test_two_chat_templates_are_two_definitions():
    one, same, other = (measured(each) for each in (CHAT, CHAT, CHAT.replace("[", "(")))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint["definition"]["rendered_template"].endswith(" '[user] {sentence}'")
    with pytest.raises(FingerprintError, match="rendered_template"):
        compare(one, other, "nasca")


def test_a_long_template_is_recorded_by_its_digest_and_its_beginning():
    ends = [CHAT + " " + "x" * 200 + end for end in ("a", "b")]
    one, other = (measured(each).fingerprint["definition"]["rendered_template"] for each in ends)
    assert one != other
    assert one[16:] == other[16:]
    assert len(one) == 16 + 1 + 82


TIMES = ["%H:%M:%S", "%H", "%Y-%m-%d %M", "%c", "%s", "%I %p"]


@pytest.mark.parametrize("form", TIMES)
@pytest.mark.parametrize(
    "call", ["{{{{ strftime_now('{}') }}}}", "{{% set now = strftime_now('{}') %}}{{{{ now }}}}"]
)
def test_a_chat_template_with_the_time_of_day_is_refused_by_name(form, call):
    template = call.format(form) + CHAT
    with pytest.raises(ConfigError, match="the chat template must give the same text at any time"):
        measured(template)


@pytest.mark.parametrize(
    "template",
    [
        "{% if strftime_now('%H')|int > 12 %}Good evening{% endif %}",
        "{% set form = '%H' %}{{ strftime_now(form) }}",
        "{{ strftime_now('%' + 'H') }}",
        '{%- if strftime_now is defined %}{{- strftime_now("%d %b %Y %H:%M") }}{%- endif %}',
    ],
)
def test_a_clock_behind_a_condition_or_a_variable_is_refused_too(template):
    with pytest.raises(ConfigError, match="the chat template must give the same text at any time"):
        measured(template + CHAT)


def test_a_chat_template_with_a_date_is_recorded_with_it():
    rendered = measured("{{ strftime_now('%Y') }} " + CHAT).fingerprint["definition"]
    year = rendered["rendered_template"].split(" '")[1][:4]
    assert year.isdigit()
    assert measured("{% if false %}{{ strftime_now('%S') }}{% endif %}" + CHAT).n_pairs == 14


def test_a_curve_does_not_go_on_with_other_tokens():
    history, model = History(), llama()
    tokenizer = tokenizer_of(TEXTS)
    probe = Probe(config_of(CORPUS), tokenizer)
    history.append(probe.run(model))
    tokenizer.add_tokens(["river"])
    report = probe.run(model, step=1)
    tokens = history.fingerprint["model"] | {"tokenizer": report.fingerprint["model"]["tokenizer"]}
    history.fingerprint["model"] = tokens
    with pytest.raises(FingerprintError, match="token_ids"):
        history.append(report)


def test_tokenizers_of_two_models_can_be_compared():
    reports = [
        Probe(config_of(CORPUS), tokenizer_of(TEXTS, vocab_size=size)).run(llama())
        for size in (290, 350)
    ]
    assert len({report.fingerprint["model"]["token_ids"] for report in reports}) == 2
    assert compare(*reports, "nasca").keys() == {*CORPUS.languages}


def test_the_order_of_languages_is_no_difference():
    tokenizer, model = tokenizer_of(TEXTS), llama()
    one, other = (
        Probe(config_of(CORPUS, languages=names), tokenizer).run(model)
        for names in (("deu_Latn", "fra_Latn"), ("fra_Latn", "deu_Latn"))
    )
    assert one.languages != other.languages
    assert one.fingerprint == other.fingerprint
    assert compare(one, other, "nasca")["deu_Latn"].difference == 0
    history = History()
    history.append(one)
    history.append(replace(other, step=1))
    change = history.change("nasca")
    assert (change.difference, change.significant) == (0, False)


@pytest.mark.parametrize("make", [set, frozenset])
def test_a_set_of_languages_is_sorted(make):
    names = make(["fra_Latn", "deu_Latn", "spa_Latn", "ita_Latn", "swh_Latn", "tur_Latn"])
    assert list(config_of(CORPUS, languages=names).languages) == sorted(names)
    assert list(config_of(CORPUS, diagnostics=make(["tokens", "margins"])).diagnostics) == [
        "margins",
        "tokens",
    ]
    assert CORPUS.select(make(["fra_Latn", "deu_Latn"])).languages == ("deu_Latn", "fra_Latn")
