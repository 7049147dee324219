"""What a report says of a function that names the neurons: two functions are never one."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from neuronxa_callback import FingerprintError, Probe, ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from neuronxa_callback.probe.batching import TokenizedCorpus
from neuronxa_callback.probe.fingerprint import definition
from tests.helpers.tiny import llama, parallel

PATHS = ("model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj")


def named(first, last=1):
    return lambda model: [f"model.layers.{k}.mlp.down_proj" for k in range(first, last)]


def odd(model):
    return [path for path in PATHS if path.split(".")[2] in {"1", "3", "5", "7", "9"}]


def holding_itself():
    def pick(model, depth=1):
        return pick(model, 0) if depth else list(PATHS)

    return pick


class Picks:
    def __init__(self, path):
        self.path = path

    def __call__(self, model):
        return [self.path]

    def first(self, model):
        return [self.path]


DIFFERENT = [
    lambda model: ["model.layers.0.mlp.down_proj"],
    lambda model: ["model.layers.1.mlp.down_proj"],
    lambda model: list(model.layers),
    lambda model: list(model.blocks),
    lambda model: [path for path in PATHS if "0" in path],
    lambda model: [path for path in PATHS if "1" in path],
    named(0),
    named(0, 2),
    partial(odd),
    partial(odd, depth=2),
    odd,
    holding_itself(),
    Picks(PATHS[0]),
    Picks(PATHS[0]).first,
    r"layers\.\d+\.mlp\.down_proj",
]


def said_of(function):
    config = ProbeConfig(corpus=parallel(2, ("deu_Latn",)), n_pairs=2, neuron_modules=function)
    return definition(config, config.corpus, TokenizedCorpus({}, {}, ()))["neuron_modules"]


def test_two_functions_have_two_fingerprints_and_one_has_one():
    found = [json.dumps(said_of(each)) for each in DIFFERENT]
    assert len(set(found)) == len(found)
    assert found == [json.dumps(said_of(each)) for each in DIFFERENT]
    assert said_of(None) is None
    assert said_of("mlp") == "mlp"
    assert said_of(odd)["function"] == "odd"


def test_the_same_function_made_twice_is_the_same():
    assert said_of(named(0)) == said_of(named(0))
    assert said_of(partial(odd)) == said_of(partial(odd))


def test_it_is_the_same_in_every_process():
    code = (
        "import json; from tests.probe import test_fingerprint as t;"
        "print(json.dumps([t.said_of(each) for each in t.DIFFERENT]))"
    )
    here = [said_of(each) for each in DIFFERENT]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == here


def test_what_an_object_counts_does_not_matter():
    picks = Picks(PATHS[0])
    before = said_of(picks)
    picks.calls = 3
    assert said_of(picks) == before


def test_a_curve_does_not_go_on_with_other_neurons(tokenizer):
    corpus, history = parallel(4, ("deu_Latn",)), History()
    for step, layer in enumerate((0, 0, 1)):
        config = ProbeConfig(corpus=corpus, n_pairs=4, neuron_modules=named(layer, layer + 1))
        report = Probe(config, tokenizer).run(llama(), step)
        if layer == 0:
            history.append(report)
    with pytest.raises(FingerprintError, match="neuron_modules"):
        history.append(report)


def test_a_report_does_not_stand_for_the_function():
    with pytest.raises(ConfigError) as error:
        ProbeConfig(neuron_modules=said_of(odd))
    assert str(error.value).startswith(
        "neuron_modules must be a regular expression or a function of the model, got {'function'"
    )
