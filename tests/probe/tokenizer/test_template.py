"""The text that is really measured is part of the fingerprint."""

import random
from dataclasses import replace
from datetime import datetime

import pytest
from transformers.utils import chat_template_utils

from neuronxa_callback import Probe, ProbeConfig
from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history import compare
from neuronxa_callback.history.history import History
from neuronxa_callback.probe.tokenization import SentenceTokenizer
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


LLAMA = """
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string + " " }}"""

MACRO = "{% macro day(form) %}{{ strftime_now(form) }}{% endmacro %}"


class Clock(datetime):
    """A clock whose days pass as a test likes."""

    day = 1

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, cls.day, 9, 30)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (LLAMA, "Today Date: 26 Jul 2024 "),
        ("{{ strftime_now(format='%Y-%m-%d') }} ", "2024-07-26 "),
        (f"{MACRO}{{{{ day('%-d' ~ ' %B') }}}} ", "26 July "),
        ("{% if strftime_now('%Y')|int > 2025 %}late {% endif %}", ""),
        ("{% if false %}{{ strftime_now('%S') }}{% endif %}", ""),
    ],
)
def test_a_chat_template_with_a_date_is_measured_alike_on_every_day(template, shown, monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    history = History()
    for step in (1, 2):
        monkeypatch.setattr(Clock, "day", step)
        plain = with_template(template + CHAT).apply_chat_template(
            [{"role": "user", "content": "?"}], tokenize=False
        )
        assert ("2026" in plain or "Nov" in plain) == bool(shown)
        history.append(replace(measured(template + CHAT), step=step))
    definition = history.fingerprint["definition"]
    assert definition["rendered_template"].endswith(f" '{shown}[user] {{sentence}}'")
    assert definition["template_date"] == "2024-07-26"
    assert history.change("nasca").difference == 0


@pytest.mark.parametrize("start", ["\n", "  \n ", "  {% if true %}\nx{% endif %}\n", "{{- '' }} "])
@pytest.mark.parametrize("form", ["%%d is a day", "100%", "%A %B %j %U %y%m%d", "%^a %-m", ""])
def test_a_fixed_date_changes_nothing_else(start, form, monkeypatch):
    class Fixed(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 26, 1, 12, 23)

    monkeypatch.setattr(chat_template_utils, "datetime", Fixed)
    tokenizer = with_template(start + f"{{{{ strftime_now({form!r}) }}}} " + CHAT)
    turns = [{"role": "user", "content": "{sentence}"}]
    expected = tokenizer.apply_chat_template(turns, tokenize=False)
    assert SentenceTokenizer(tokenizer, ProbeConfig(template="chat")).chat.rendered == expected


def test_a_chat_template_without_a_date_records_none():
    assert measured(CHAT).fingerprint["definition"]["template_date"] is None


@pytest.mark.parametrize(
    "template",
    ["{{ range(2)|random }}", "{{ lipsum(n=1) }}", "{% set n = [1, 2, 3]|random %}{{ n }}"],
)
def test_a_random_chat_template_is_refused_and_draws_nothing_from_training(template):
    before = random.getstate()
    with pytest.raises(ConfigError, match="the chat template must give the same text every time"):
        measured(template + CHAT)
    assert random.getstate() == before


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no user') }}", "{{ 1 / 0 }}"])
def test_a_chat_template_that_cannot_be_rendered_is_one_sentence(template):
    with pytest.raises(ConfigError, match="template='chat' needs a tokenizer whose chat template"):
        measured(template)


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


def test_a_template_of_messages_in_parts_gets_the_sentence():
    parts = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}"
    whole = "{% for m in messages %}{{ m.content }}{% endfor %}"
    one, other = measured(parts + "!{% endfor %}"), measured(whole.replace("}}{", "}}!{"))
    assert one.fingerprint["model"] == other.fingerprint["model"]


@pytest.mark.parametrize("template", ["", "[user] hello", "{{ messages[0].role }}"])
def test_a_chat_template_without_the_sentence_is_refused(template):
    with pytest.raises(ConfigError, match="the chat template must contain the message of a user"):
        measured(template)
