"""The fingerprint: the modules that were read are part of the model, a function only by name."""

from functools import partial

import pytest

from neuronxa_callback import FingerprintError, Probe
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from neuronxa_callback.probe.batching import TokenizedCorpus
from neuronxa_callback.probe.fingerprint import definition, path_patterns
from tests.helpers.probes import config_of
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(4, ("deu_Latn",))


def named(first, last):
    return lambda model: [f"model.layers.{k}.mlp.down_proj" for k in range(first, last)]


def odd(model):
    return [path for path, _ in model.named_modules() if path.endswith("1.mlp.down_proj")]


def recorded(override):
    config = config_of(CORPUS, neuron_modules=override)
    return definition(config, CORPUS, TokenizedCorpus({}, {}, ()))["neuron_modules"]


def test_the_definition_holds_a_pattern_or_the_name_of_a_function():
    assert recorded(None) is None
    assert recorded("mlp") == "mlp"
    assert recorded(odd) == {"function": "odd"}
    assert recorded(partial(odd)) == {"function": "partial"}


def test_the_name_of_a_function_is_not_a_configuration():
    with pytest.raises(ConfigError) as error:
        config_of(CORPUS, neuron_modules=recorded(odd))
    assert str(error.value).startswith(
        "neuron_modules must be a regular expression or a function of the model, got {'function'"
    )


def model_of(tokenizer, override=None, model=None):
    report = Probe(config_of(CORPUS, neuron_modules=override), tokenizer).run(model or llama())
    return report.fingerprint["model"]


def test_the_model_holds_the_modules_that_were_read(tokenizer):
    every, first, second = (model_of(tokenizer, each) for each in (None, named(0, 1), named(1, 2)))
    for each in (every, first, second):
        assert each["modules"] == ["model.layers.#.mlp.down_proj"]
    assert len({each["modules_digest"] for each in (every, first, second)}) == 3
    assert [each["layers"] for each in (every, first, second)] == [3, 1, 1]


def test_functions_that_choose_the_same_modules_are_the_same_model(tokenizer):
    assert model_of(tokenizer, named(0, 3)) == model_of(tokenizer)
    assert model_of(tokenizer, odd) == model_of(tokenizer, named(1, 2))


def test_wrappers_do_not_change_the_modules(tokenizer):
    compiled = llama()
    compiled.compile(backend="eager")
    assert model_of(tokenizer, model=compiled) == model_of(tokenizer)


def test_a_curve_does_not_continue_with_other_neurons(tokenizer):
    history = History()
    for step, layer in enumerate((0, 0, 1)):
        config = config_of(CORPUS, neuron_modules=named(layer, layer + 1))
        report = Probe(config, tokenizer).run(llama(), step)
        if layer == 0:
            history.append(report)
    with pytest.raises(FingerprintError, match="modules_digest"):
        history.append(report)


def test_a_number_is_replaced_only_where_it_is_a_whole_name():
    paths = ["h.0.mlp.fc2", "h.1.mlp.fc2", "decoder.0.w3"]
    assert path_patterns(paths) == ["h.#.mlp.fc2", "decoder.#.w3"]
