"""The real Trainer on several ranks: one report, the same training, and never a hang."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from neuronxa_callback import ParallelCorpus, Probe
from tests.helpers.faults import CALLBACK
from tests.helpers.launch import WORKERS, launch
from tests.helpers.ranks import BUILTIN, ONE, PLACES, Watch, measurement
from tests.helpers.runs import TEXTS, trainer_of
from tests.helpers.tiny import llama, parallel, tokenizer_of

pytestmark = pytest.mark.distributed
SCRIPT = WORKERS / "trainer_ranks.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model and its tokenizer."""
    folder = tmp_path_factory.mktemp("ranks")
    corpora = (ParallelCorpus.builtin(), parallel(20))
    pairs = [pair for corpus in corpora for each in corpus.pairs.values() for pair in each]
    texts = [*(text for pair in pairs for text in pair), *TEXTS]
    tokenizer_of(texts, vocab_size=1000).save_pretrained(folder / "model")
    llama(vocab_size=1000, attention_dropout=0.2).save_pretrained(folder / "model")
    return folder


def start(folder, *names, ranks=2, seconds=500):
    job = folder / f"job-{'-'.join(names)}-{ranks}"
    return launch(SCRIPT, folder, *names, ranks=ranks, folder=job, seconds=seconds)


def scenes(folder, *names, ranks=2):
    """What each rank saw in the scenes."""
    done = start(folder, *names, ranks=ranks)
    assert done.code == 0, done.output[-4000:]
    files = [folder / f"{'-'.join(names)}.{rank}-{ranks}.json" for rank in range(ranks)]
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def two(folder):
    """All that two ranks can show in one job."""
    return scenes(folder, "ddp", "single", "fsdp2", "stop", "fault", "memory")


@pytest.fixture(scope="module")
def alone(folder):
    """The reports of a Trainer without other ranks."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    with Watch() as watch:
        callbacks = [watch.callback(BUILTIN)]
        trainer_of(tokenizer, folder / "alone", callbacks, model, {"max_steps": 1}).train()
    return watch.reports


def test_the_first_report_of_a_run_is_the_same_byte_for_byte(alone, two):
    assert len(json.loads(alone[0])["languages"]) == 7
    assert json.loads(alone[0])["n_pairs"] == 100
    for rank in two:
        assert rank["ddp"]["with"]["reports"]["0"] == alone[0]
        assert rank["fsdp2"]["with"]["reports"]["0"] == alone[0]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3, 4])
def test_and_so_it_is_on_any_number_of_ranks(ranks, alone, folder):
    for rank in scenes(folder, "begin", ranks=ranks):
        assert rank["begin"]["0"] == alone[0]


def test_one_language_alone_gives_the_same_report(folder, two):
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    report = Probe(ONE, AutoTokenizer.from_pretrained(folder / "model")).run(model)
    assert [rank["single"] for rank in two] == [measurement(report)] * 2


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_training_ends_in_the_same_bits_with_and_without(kind, two):
    for rank in two:
        assert rank[kind]["with"]["end"] == rank[kind]["without"]["end"]
        assert list(rank[kind]["with"]["reports"]) == ["0", "2", "4", "6"]
        assert rank[kind]["without"]["reports"] == {}
    wrapped = {"ddp": "DistributedDataParallel", "fsdp2": "FSDPLlamaForCausalLM"}
    assert two[0][kind]["with"]["end"]["kind"] == wrapped[kind]
    assert two[0][kind]["with"]["reports"] == two[1][kind]["with"]["reports"]


@pytest.mark.slow
def test_all_at_once_ends_in_the_same_bits_with_and_without(folder):
    first, second = (rank["stacked"] for rank in scenes(folder, "stacked"))
    for kind in ("ddp", "fsdp2"):
        for rank in (first, second):
            assert rank[f"{kind} with"]["end"] == rank[f"{kind} without"]["end"]
            assert list(rank[f"{kind} with"]["reports"]) == ["0", "2", "4", "6"]
        assert first[f"{kind} with"]["reports"] == second[f"{kind} with"]["reports"]


def test_a_stop_rule_stops_all_ranks_at_one_step_even_if_it_fires_on_one(two):
    assert [rank["stop"] for rank in two] == [[[4, True], [4, True]]] * 2


def test_a_checkpoint_of_two_ranks_gives_the_same_report_to_one(folder, two):
    model = AutoModelForCausalLM.from_pretrained(folder / "ddp_with" / "checkpoint-4").eval()
    report = Probe(BUILTIN, AutoTokenizer.from_pretrained(folder / "model")).run(model, step=4)
    assert measurement(report) == two[0]["ddp"]["with"]["reports"]["4"]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_resumed_on_other_ranks_has_the_same_report_where_it_resumes(ranks, folder, two):
    for rank in scenes(folder, "resume", ranks=ranks):
        assert rank["resume"]["reports"]["4"] == two[0]["ddp"]["with"]["reports"]["4"]
        assert rank["resume"]["history"] == [0, 2, 4, 6]


WARNING = "a NeuronXA probe failed, training goes on, the next one tries again: "


def test_a_fault_of_ours_on_one_rank_is_one_warning_on_all_and_training_goes_on(two):
    first, second = (rank["fault"] for rank in two)
    heard = "ProbeError: a probe failed on another rank: ValueError: a hook broke"
    rest = {"steps": [0, 4, 6], "same": True}
    assert first == [{"warned": [WARNING + heard], **rest}] * 2
    assert second == [{"warned": [WARNING + "ValueError: a hook broke"], **rest}] * 2


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_on_one_rank_skips_the_probe_on_all(place, two):
    words = (
        "ProbeMemoryError: memory ran out in a probe; the next one runs 64 tokens at a time"
        " (OutOfMemoryError: no room)"
    )
    for rank in two:
        assert rank["memory"][place]["warned"] == [WARNING + words]
        assert rank["memory"][place]["used"] == {"0": 128, "4": 64, "6": 64}


def test_half_of_the_tokens_is_kept_over_a_resume(two):
    assert [rank["memory"]["resumed"] for rank in two] == [{"4": 64, "6": 64}] * 2


@pytest.mark.slow
def test_an_optimizer_step_right_after_a_probe_is_seen_by_sharded_weights(folder):
    for rank in scenes(folder, "loop"):
        probed, calm = rank["loop"]
        assert probed == calm


@pytest.mark.slow
def test_the_wrapper_of_ddp_hears_nothing_of_a_probe(folder):
    assert [rank["wrapped"] for rank in scenes(folder, "wrapped")] == [[True, True, True]] * 2


ENDS = "so the job ends as it would in training"


@pytest.mark.parametrize(
    "scene", [pytest.param("killed", marks=pytest.mark.slow), "killed_in_shards"]
)
def test_sigterm_to_one_rank_in_mid_probe_ends_the_job_with_a_clear_line(scene, folder):
    done = start(folder, scene, seconds=90)
    assert done.code == 1
    assert any("SIGTERM to myself" in line for line in done.lines(1))
    assert "Signal 15 (SIGTERM) received by PID" in done.output
    said = "\n".join(done.lines(0))
    # Rank 0 is told by torchrun, or by the exchange that fails: both end it.
    assert "training goes on" not in said
    assert "NeuronXA step 4" not in said


@pytest.mark.slow
def test_a_forward_that_fails_where_weights_are_sharded_ends_the_job_with_a_clear_line(folder):
    done = start(folder, "broken_forward", seconds=90)
    assert done.code == 1
    words = (
        "BrokenForwardError: the model's forward failed in a probe while its weights are spread"
        f" over ranks, {ENDS}: RuntimeError: a kernel broke"
    )
    assert any(words in line for line in done.lines(1))
    assert "training goes on" not in done.output


def test_a_fault_of_the_callback_on_the_first_rank_is_one_error_on_all(folder):
    first, second = (rank["callback_faults"] for rank in scenes(folder, "callback_faults"))
    for name in CALLBACK:
        elsewhere = f"ProbeError: a probe failed on another rank: ValueError: {name}"
        for rank, message in ((first, f"ValueError: {name}"), (second, elsewhere)):
            found, ends = rank[name], name in ("making sinks", "metrics of an evaluation")
            assert found["error"] == (message if ends else "no error")
            assert found["warned"] == ([] if ends else [WARNING + message])
            assert ends or found["steps"][-1] == 24
