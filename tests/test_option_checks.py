"""Every option of a probe, a callback, a stop rule and a reader: type and range are checked."""

import json
from dataclasses import fields
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig, StopRule
from neuronxa_callback.errors import ConfigError, CorpusError

TYPES = {
    "null": st.none(),
    "flag": st.booleans(),
    "integer": st.integers(),
    "number": st.floats(),
    "text": st.text(),
    "bytes": st.binary(),
    "list": st.lists(st.one_of(st.integers(), st.none(), st.lists(st.text())), min_size=1),
    "names": st.lists(st.text(), min_size=1),
    "table": st.dictionaries(st.integers(), st.integers(), min_size=1),
    "object": st.builds(object),
}
"""Values of each type; ``list`` holds no texts, ``table`` has no texts as keys."""
PROBE = {
    "corpus": "text",
    "languages": "null names",
    "n_pairs": "integer",
    "metrics": "",
    "diagnostics": "",
    "neurons": "",
    "groups": "null",
    "language_pairs_every": "integer",
    "language_pairs_gib": "integer number",
    "nas_site": "",
    "nav_site": "",
    "batch_tokens": "integer",
    "max_length": "integer",
    "special_tokens": "flag",
    "template": "null",
    "lang_codes": "",
    "neuron_modules": "null text",
    "on_unproved": "",
    "stack": "",
}
"""The types of which some or all values are accepted; text of ``template`` has an own test."""
RANGES = {
    "n_pairs": (-1, 0, 1),
    "batch_tokens": (-4, 0),
    "max_length": (-4, 0),
    "language_pairs_every": (-1,),
    "language_pairs_gib": (0, -1.5, float("inf"), float("nan")),
    "neuron_modules": ("(", "[a", "*", "(?P<a>x)(?P<a>y)", "a{99999999999999999999}"),
    "template": ("", "no place", "{sentence} {sentence}", "{0}"),
    "languages": ([], ()),
    "metrics": ([], ["nasca", "nsca"]),
    "corpus": ("", {"path": 5}, {"reader": []}, {"path": ""}, {3: "x"}),
    "lang_codes": ("mine", {"deu_Latn": 5}, {5: "x"}),
}
RULES = {
    StopRule.target: {"score": "number", "metric": "text", "languages": "null text names"},
    StopRule.plateau: {"patience": "integer", "min_delta": "number", "metric": "text"},
    StopRule.collapse: {"drop": "number", "reference": "", "languages": "null text names"},
}
CALLBACK = {
    "config": "null text",
    "every": "null integer",
    "sinks": "null",
    "stop": "null",
    "on_error": "",
    "max_overhead": "null number",
    "name": "text",
}
READERS = {
    "folder": {"pivot": "text", "languages": "null text names", "n_pairs": "null integer"}
    | {"extension": "null text"},
    "tatoeba": {"pivot": "text", "languages": "null text names", "n_pairs": "null integer"},
    "bible": {"pivot": "text", "languages": "null text names", "n_pairs": "null integer"},
    "tsv": {"pivot": "text", "n_pairs": "null integer", "columns": "null", "quoted": "flag"}
    | {"delimiter": "null text"},
    "jsonl": {"pivot": "text", "n_pairs": "null integer", "columns": "null"},
    "parquet": {"pivot": "text", "n_pairs": "null integer", "columns": "null"},
    "dataset": {"split": "null text", "config": "null text", "columns": "null"},
}
ALL = [
    *((ProbeConfig, name, types) for name, types in PROBE.items()),
    *((NeuronXACallback, name, types) for name, types in CALLBACK.items()),
    *((rule, name, types) for rule, known in RULES.items() for name, types in known.items()),
    *(
        (partial(ParallelCorpus.read, "nowhere", reader), name, types)
        for reader, known in READERS.items()
        for name, types in known.items()
    ),
]


def refusal(make, name, value):
    """The message with which a value is refused."""
    required = {"score": 0.5} if make == StopRule.target else {}
    with pytest.raises((ConfigError, CorpusError)) as error:
        make(**(required | {name: value}))
    return str(error.value)


def is_named(name, message):
    """Whether a message names an option; an unknown metric is one of ``metrics``."""
    return name.rstrip("s") in message


def test_every_option_of_a_probe_is_tried():
    assert {field.name for field in fields(ProbeConfig)} == {*PROBE}


@pytest.mark.parametrize(("make", "name", "types"), ALL)
def test_a_value_of_a_wrong_type_is_an_error_that_names_the_option(make, name, types):
    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(st.one_of(*(values for kind, values in TYPES.items() if kind not in types.split())))
    def try_values(value):
        assert is_named(name, refusal(make, name, value))

    try_values()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in RANGES.items() for value in values]
)
def test_a_value_out_of_range_is_an_error_that_names_the_option(name, value):
    assert is_named(name, refusal(ProbeConfig, name, value))


@pytest.mark.parametrize(
    ("make", "name", "values"),
    [
        (NeuronXACallback, "every", (0, -5)),
        (NeuronXACallback, "max_overhead", (0.0, 1.0, -0.1, float("nan"), float("inf"))),
        (NeuronXACallback, "on_error", ("ignore", "")),
        (NeuronXACallback, "name", ("a/b", "a b", "ä", "nasca")),
        (NeuronXACallback, "sinks", (["x"], [object()], [dict])),
        (NeuronXACallback, "stop", (["target"], [None], [StopRule])),
        (StopRule.target, "score", (1.0, -0.1, float("nan"))),
        (StopRule.plateau, "min_delta", (1, -1, float("inf"))),
        (StopRule.plateau, "patience", (0, -1)),
        (StopRule.collapse, "drop", (1, -0.01)),
        (StopRule.collapse, "reference", ("last", "")),
        (StopRule.collapse, "languages", ([], ())),
        (partial(ParallelCorpus.read, "x", "tsv"), "delimiter", ("", "ab", "\n", '"')),
        (partial(ParallelCorpus.read, "x", "tsv"), "n_pairs", (0, -1)),
        (partial(ParallelCorpus.read, "x"), "reader", (5, [], "tsvs")),
        (ParallelCorpus.read, "path", (5, None, "", "a\0b", ["x"])),
        (ParallelCorpus.builtin, "split", (5, [], "train")),
        (ParallelCorpus.builtin, "pivot", (5, None)),
    ],
)
def test_other_values_out_of_range_are_errors_that_name_the_option(make, name, values):
    for value in values:
        assert is_named(name, refusal(make, name, value))


@pytest.mark.parametrize(
    "option",
    [
        *("template = 5", "languages = [1]", "corpus = 3", "n_pairs = true", "diagnostics = 1.5"),
        'neurons = "overlap"',
        *('metrics = {a = "b"}', 'neuron_modules = "("', "special_tokens = 1", "stack = []"),
        *("corpus = {path = 5}", 'corpus = {path = "x", reader = 5}', "lang_codes = [1]"),
    ],
)
def test_an_option_of_a_toml_file_is_checked_too(option, tmp_path):
    file = tmp_path / "probe.toml"
    file.write_text(option + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=option.split(" = ")[0]):
        ProbeConfig.from_toml(file)


def test_a_toml_file_with_deep_nesting_is_no_toml_file(tmp_path):
    file = tmp_path / "probe.toml"
    file.write_text("n_pairs = " + "[" * 50_000, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        ProbeConfig.from_toml(file)


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
@pytest.mark.parametrize("row", ["{}", "[{}, {}]", '{{"en": {}}}', '{{"en": "a", "de": "b"}}\n{}'])
def test_deep_nesting_is_no_json(name, row, tmp_path):
    (tmp_path / name).write_text(row.format("[" * 90_000, "]" * 90_000), encoding="utf-8")
    with pytest.raises(CorpusError, match="is not JSON"):
        ParallelCorpus.read(tmp_path / name)


def test_what_is_accepted_stays_accepted(tmp_path):
    options = {"template": "chat", "lang_codes": {"deu_Latn": "de_DE"}, "corpus": tmp_path}
    config = ProbeConfig(languages=["deu_Latn"], neuron_modules=len, **options)
    assert (config.corpus, config.languages) == (str(tmp_path), ("deu_Latn",))
    assert NeuronXACallback(sinks=[], stop=[StopRule.target(0)], max_overhead=0.5).stop
    assert json.loads(json.dumps(config.lang_codes)) == config.lang_codes
