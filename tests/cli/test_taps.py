"""``neuronxa taps`` and ``neuronxa languages``."""

import json
import shutil

import pytest
import transformers


def test_taps_lists_the_neurons(neuronxa, saved):
    code, out, _ = neuronxa("taps", saved)
    assert code == 0
    assert "model.layers.0.mlp.down_proj" in out
    assert "3 layers, 264 neurons: vectors of 100 pivot sentences take 0.1 MB" in out
    _, out, _ = neuronxa("taps", saved, "--json")
    parts = json.loads(out)
    assert [part["layer"] for part in parts] == [0, 1, 2]
    assert {part["kind"] for part in parts} == {"gated"}


@pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 needs weights")
def test_taps_of_a_configuration_are_those_of_the_model(neuronxa, saved, tmp_path):
    shutil.copy(saved / "config.json", tmp_path)
    _, without_weights, _ = neuronxa("taps", tmp_path, "--empty", "--json")
    _, whole, _ = neuronxa("taps", saved, "--json")
    assert json.loads(without_weights) == json.loads(whole)


def test_taps_takes_a_regex(neuronxa, saved):
    _, out, _ = neuronxa(
        "taps", saved, "--neuron-modules", r"layers\.[01]\.mlp\.down_proj$", "--json"
    )
    assert len(json.loads(out)) == 2
    code, _, err = neuronxa("taps", saved, "--neuron-modules", "nothing")
    assert code == 2
    assert "'nothing' matches none" in err


def test_languages_are_listed_and_resolved(neuronxa):
    _, out, _ = neuronxa("languages")
    assert "deu_Latn" in out
    assert "German" in out
    _, out, _ = neuronxa("languages", "German", "sw", "--json")
    assert [row["code"] for row in json.loads(out)] == ["deu_Latn", "swh_Latn"]
    code, _, err = neuronxa("languages", "Germn")
    assert code == 2
    assert "German" in err
