"""Real ranks over gloo: the same report everywhere, one error on all ranks, and no hang."""

import json

import pytest

from tests.helpers.launch import WORKERS, launch

pytestmark = pytest.mark.distributed
SCRIPT = WORKERS / "ranks.py"


def torchrun(scene, ranks, folder):
    """The result of every rank in a scene, as text."""
    done = launch(SCRIPT, scene, folder, ranks=ranks, folder=folder)
    assert done.code == 0, done.output[-4000:]
    return [(folder / f"{rank}.json").read_text() for rank in range(ranks)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    (text,) = torchrun("shared_pivot", 1, tmp_path_factory.mktemp("alone"))
    return text


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow), 4])
def test_any_number_of_ranks_gives_the_same_report_byte_for_byte(alone, ranks, tmp_path):
    assert torchrun("shared_pivot", ranks, tmp_path) == [alone] * ranks


def test_two_ranks_count_the_firings_of_neurons_as_one_does(alone, tmp_path):
    found = [torchrun("neurons", ranks, tmp_path / str(ranks)) for ranks in (1, 2)]
    assert {text for texts in found for text in texts} == {found[0][0]}
    assert json.loads(found[0][0])["metrics"] == json.loads(alone)["metrics"]


def test_two_ranks_and_sharded_weights_give_the_same_loss_byte_for_byte(alone, tmp_path):
    scenes = (("loss", 1), ("loss", 2), ("fsdp2_loss", 2))
    found = [torchrun(scene, n, tmp_path / f"{scene}{n}") for scene, n in scenes]
    assert {text for texts in found for text in texts} == {found[0][0]}
    assert len(json.loads(found[0][0])["diagnostics"]["loss"]["languages"]) == 7
    assert json.loads(found[0][0])["metrics"] == json.loads(alone)["metrics"]


def test_two_ranks_compare_all_pairs_of_languages_as_one_does(alone, tmp_path):
    found = [torchrun("language_pairs", ranks, tmp_path / str(ranks)) for ranks in (1, 2)]
    assert {text for texts in found for text in texts} == {found[0][0]}
    text, passes = json.loads(found[0][0])
    assert passes > 1
    report = json.loads(text)
    assert len(report["language_pairs"]["mexa"]["counts"][0]) == 28
    del report["language_pairs"]
    assert report == json.loads(alone)


@pytest.mark.slow
def test_pivots_of_their_own_give_the_same_report_on_any_number_of_ranks(tmp_path):
    found = [torchrun("own_pivots", ranks, tmp_path / str(ranks)) for ranks in (1, 2, 4)]
    assert {text for texts in found for text in texts} == {found[0][0]}


def test_sharded_weights_give_the_same_report_byte_for_byte(alone, tmp_path):
    assert torchrun("fsdp2", 2, tmp_path) == [alone] * 2


def test_a_failing_hook_on_one_rank_is_one_error_on_all_and_the_next_probe_works(tmp_path):
    first, second = map(json.loads, torchrun("fault_on_one_rank", 2, tmp_path))
    assert first[0] == "ProbeError: a probe failed on another rank: ValueError: a hook broke"
    assert second[0] == "ValueError: a hook broke"
    assert first[1:] == second[1:]
    assert first[2] == 512


DIFFERS = {
    "order of languages": "the list of languages differs",
    "order in the corpus": "the list of languages differs",
    "fewer languages": "the list of languages differs",
    "fewer pairs": "the option n_pairs differs: 20 on rank 0, 19 on rank 1",
    "order of pairs": "the list of pairs differs",
    "metrics": "the option metrics differs: ('nasca', 'navca') on rank 0, ('nasca', 'mexa') on",
    "site": "the option nav_site differs: 'product' on rank 0, 'gate' on rank 1",
    "special tokens": "the option special_tokens differs: True on rank 0, False on rank 1",
    "diagnostics": "the option diagnostics differs",
    "batch_tokens": "batch_tokens differs: 128 on rank 0, 64 on rank 1",
    "layers": "the option neuron_modules differs",
    "tokenizer": "the list of token ids differs",
    "model": "the list of layers differs",
}


def test_ranks_that_hold_different_work_are_refused_on_all_by_the_first_difference(tmp_path):
    first, second = map(json.loads, torchrun("different_work", 2, tmp_path))
    assert first == second
    report = json.loads(first.pop("report"))
    assert report["languages"] == ["deu_Latn", "fra_Latn", "spa_Latn"]
    for name, words in DIFFERS.items():
        assert first.pop(name).startswith(f"ConfigError: all ranks must do the same, but {words}")
    assert first == {}


def test_options_that_differ_between_ranks_are_refused_before_the_first_step(tmp_path):
    first, second = map(json.loads, torchrun("different_options", 2, tmp_path))
    for name in ("every", "stop", "max_overhead", "on_error"):
        assert first[name] == second[name]
        assert first[name].startswith(
            f"ConfigError: all ranks must do the same, but {name} differs:"
        )
    assert second["corpus"].startswith("CorpusError: a corpus must be a folder, but ")
    assert first["corpus"].startswith("ProbeError: a probe failed on another rank: ")


@pytest.mark.slow
def test_a_probe_may_take_longer_than_ranks_wait_for_each_other(tmp_path):
    first, second = map(json.loads, torchrun("long_probe", 2, tmp_path))
    for timeouts, score, _ in (first, second):
        assert timeouts > 2
        assert score == first[1]
    assert "Timed out" in first[2]


@pytest.mark.slow
def test_a_job_may_end_right_after_an_exchange(tmp_path):
    """Three to six in ten such jobs abort if the latest exchange is released at once."""
    jobs = [
        launch(WORKERS / "ending.py", ranks=ranks, folder=tmp_path / f"{ranks}.{k}")
        for ranks in (2, 3)
        for k in range(5)
    ]
    assert [job.code for job in jobs] == [0] * len(jobs), jobs[-1].output[-4000:]


def test_memory_that_runs_out_on_one_rank_halves_the_tokens_on_all(tmp_path):
    found = [json.loads(text) for text in torchrun("memory_on_one_rank", 2, tmp_path)]
    message = (
        "ProbeMemoryError: memory ran out in a probe; the next one runs 256 tokens at a time"
        " (OutOfMemoryError: no room)"
    )
    assert found == [[message, 256, 256]] * 2


def test_a_forward_that_fails_on_one_rank_is_survived_where_weights_are_whole(tmp_path):
    first, second = map(json.loads, torchrun("forward_fails_on_one_rank", 2, tmp_path))
    assert second[0] == "RuntimeError: a kernel broke"
    assert first[0] == "ProbeError: a probe failed on another rank: RuntimeError: a kernel broke"
    assert first[1] == second[1]


def test_slices_of_the_neurons_give_the_same_scores(alone, tmp_path):
    whole = json.loads(alone)
    for text in torchrun("tensor_parallel", 2, tmp_path):
        found = json.loads(text)
        assert found["metrics"] == whole["metrics"]
        for key in ("activity", "sinks"):
            assert str(found["diagnostics"][key])[:40] == str(whole["diagnostics"][key])[:40]
