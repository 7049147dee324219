"""Models that other libraries spread over ranks or devices: the same report, or an error."""

import json

import pytest
from accelerate import cpu_offload, disk_offload
from accelerate.big_modeling import cpu_offload_with_hook

from neuronxa_callback import Probe, ProbeConfig
from tests.helpers.launch import WORKERS, launch
from tests.helpers.ranks import measurement, noisy_llama, probe_of_seven, texts_of
from tests.helpers.tiny import llama, parallel, tokenizer_of

SCRIPT = WORKERS / "slices.py"


def scenes(folder, ranks, *names):
    done = launch(SCRIPT, folder, *names, ranks=ranks, folder=folder, seconds=500)
    assert done.code == 0, done.output[-4000:]
    return [json.loads((folder / f"{rank}-{ranks}.json").read_text()) for rank in range(ranks)]


@pytest.fixture(scope="module")
def whole():
    """The report of the model in one piece."""
    return measurement(probe_of_seven().run(noisy_llama()))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    names = ("dense", "shards", "tokens_too", "routed", "expert_parallel", "pipeline", "neurons")
    more = ("dimensions", "long_sentences", "own_slices", "own_experts")
    return scenes(tmp_path_factory.mktemp("slices"), 2, *names, *more)


def close(text, whole):
    """Equal verdicts; all else to 1e-5."""
    found, wanted = json.loads(text), json.loads(whole)
    assert found["metrics"] == wanted["metrics"]
    assert numbers(found["diagnostics"]) == pytest.approx(numbers(wanted["diagnostics"]), abs=1e-5)


def numbers(tree):
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in numbers(tree[key])]
    if isinstance(tree, list):
        return [x for each in tree for x in numbers(each)]
    return [float(tree)] if isinstance(tree, int | float) else []


@pytest.mark.distributed
@pytest.mark.parametrize("scene", ["dense", "tokens_too"])
def test_slices_of_neurons_as_transformers_cuts_them_give_the_same_report(scene, two, whole):
    assert len(numbers(json.loads(whole)["diagnostics"])) > 100
    for rank in two:
        close(rank[scene], whole)


@pytest.mark.distributed
def test_slices_of_neurons_give_the_same_pairs_of_languages(tmp_path, whole):
    wanted = json.loads(measurement(probe_of_seven().run(noisy_llama(), pivot="all")))
    for rank in scenes(tmp_path, 2, "all_pairs"):
        close(rank["all_pairs"], whole)
        found = json.loads(rank["all_pairs"])["language_pairs"]
        for metric, table in wanted["language_pairs"].items():
            assert found[metric]["counts"] == table["counts"]


@pytest.mark.distributed
def test_shards_as_transformers_cuts_them_give_the_same_report(two, whole):
    assert [rank["shards"] for rank in two] == [whole] * 2


@pytest.mark.distributed
@pytest.mark.slow
def test_slices_and_shards_at_once_give_the_same_report(tmp_path, whole):
    for rank in scenes(tmp_path, 4, "dense_and_shards"):
        close(rank["dense_and_shards"], whole)


@pytest.mark.distributed
def test_slices_that_a_script_cuts_itself_are_found_by_their_weights(two, whole):
    for rank in two:
        assert len(rank["own_slices"]) == 2
        for text in rank["own_slices"]:
            close(text, whole)


@pytest.mark.distributed
@pytest.mark.slow
def test_slices_and_shards_over_the_mesh_of_accelerate_give_the_same_report(tmp_path, whole):
    for rank in scenes(tmp_path, 4, "accelerate_mesh"):
        close(rank["accelerate_mesh"], whole)


@pytest.mark.distributed
def test_experts_that_a_script_spreads_itself_are_refused_by_name(two):
    message = (
        f"ConfigError: a probe needs all experts on every rank, but mesh dimension 'ep' {INSTEAD}"
    )
    assert [rank["own_experts"] for rank in two] == [message] * 2


@pytest.mark.distributed
def test_slices_of_experts_are_refused_by_name(two):
    message = "TapError: the states computed for the experts at model.layers.0.mlp.experts"
    assert all(rank["routed"].startswith(message) for rank in two)


@pytest.mark.distributed
def test_firings_of_slices_of_neurons_are_refused_by_name(two):
    message = "ConfigError: the neuron statistics overlap, sharing and language_neurons need all"
    assert all(rank["neurons"].startswith(message) for rank in two)


INSTEAD = "spreads them over ranks; score saved checkpoints with `neuronxa sweep` instead"


@pytest.mark.distributed
def test_what_a_probe_needs_whole_is_refused_by_name(two):
    needs = "ConfigError: a probe needs"
    sentences = f"{needs} whole sentences on every rank, but"
    for rank in two:
        blocks = f"{needs} all blocks of the model on every rank, but pp_size=2 {INSTEAD}"
        assert rank["pipeline"] == blocks
        experts = f"{needs} all experts on every rank, but ep_size=2 {INSTEAD}"
        assert rank["expert_parallel"] == experts
        long = [f"{sentences} {name}=2 {INSTEAD}" for name in ("cp_size", "sp_size")]
        # Refused before a forward in which ranks could wait for each other.
        assert rank["long_sentences"] == [*long, 0]


@pytest.mark.distributed
def test_dimensions_of_a_mesh_that_a_probe_cannot_have_are_refused_by_name(two):
    whole = {"pp": "all blocks of the model", "ep": "all experts"}
    whole |= dict.fromkeys(("cp", "sp"), "whole sentences")
    refused = {
        name: f"ConfigError: a probe needs {what} on every rank, but mesh dimension {name!r}"
        f" {INSTEAD}"
        for name, what in whole.items()
    }
    for rank in two:
        assert rank["dimensions"] == {**refused, "dp": 2, "tp": 1}


def offloaded(model, how, folder):
    if how == "cpu":
        return cpu_offload(model, "cpu")
    if how == "disk":
        return disk_offload(model, str(folder), "cpu")
    return cpu_offload_with_hook(model, "cpu")[0]


@pytest.mark.parametrize("how", ["cpu", "disk", "hook"])
def test_weights_that_come_and_go_give_the_same_report(how, tmp_path):
    corpus = parallel(20)
    probe = Probe(ProbeConfig(corpus=corpus, n_pairs=20), tokenizer_of(texts_of(corpus)))
    wanted = measurement(probe.run(llama()))
    model = offloaded(llama(), how, tmp_path)
    if how != "hook":
        assert model.model.layers[0].mlp.up_proj.weight.device.type == "meta"
    assert measurement(probe.run(model)) == wanted
    assert measurement(probe.run(model)) == wanted
