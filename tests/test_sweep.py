"""``neuronxa sweep``: the checkpoints of a run, measured as the run measured itself."""

import pytest
import shell
from runs import trainer_of
from shell import CONFIG, LANGUAGES

from neuronxa_callback import AlignmentReport, NeuronXACallback, ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.follow.history import read

neuronxa = pytest.fixture(shell.neuronxa)
tokenizer = pytest.fixture(scope="module")(shell.tokenizer)
saved = pytest.fixture(scope="module")(shell.saved)
run = pytest.fixture(scope="module")(shell.run)


def test_a_sweep_gives_the_reports_of_the_training(neuronxa, run):
    code, out, _ = neuronxa("sweep", run, "--json", "-o", run / "exact.jsonl")
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    trained = [report for report in read(run) if report.step]
    assert code == 0
    assert [report.step for report in swept] == [2, 4, 6]
    assert swept == trained
    assert read(run / "exact.jsonl") == trained


def test_a_sweep_of_a_run_under_autocast_computes_as_the_run_did(neuronxa, tokenizer, tmp_path):
    saves = {"save_strategy": "steps", "save_steps": 3, "bf16": True}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)], args=saves).train()
    _, out, _ = neuronxa("sweep", tmp_path, "--json")
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    assert swept[0].fingerprint["model"]["states"] == "bfloat16"
    assert swept[0].fingerprint["model"]["weights"] == "float32"
    assert swept == [report for report in read(tmp_path) if report.step]


def test_a_sweep_that_was_cut_goes_on_where_it_was(neuronxa, run, monkeypatch):
    record = run / "cut.jsonl"
    neuronxa("sweep", run, "-o", record)
    whole = record.read_bytes()
    record.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    measured = []
    measure = Probe.run
    monkeypatch.setattr(
        Probe, "run", lambda self, *rest: measured.append(rest[1]) or measure(self, *rest)
    )
    code, out, _ = neuronxa("sweep", run, "-o", record)
    assert code == 0
    assert measured == [6]
    assert out.count("measured before") == 2
    assert [each.metrics for each in read(record)] == [
        AlignmentReport.from_json(line).metrics for line in whole.decode().splitlines()
    ]


def test_a_sweep_does_not_mix_measurements_in_one_file(neuronxa, run):
    record = run / "mixed.jsonl"
    neuronxa("sweep", run, "-o", record, "--n-pairs", 12, "--languages", "de")
    first = record.read_bytes().splitlines(keepends=True)[0]
    record.write_bytes(first)
    code, _, err = neuronxa("sweep", run, "-o", record, "--n-pairs", 14, "--languages", "de")
    assert code == 2
    assert "digest" in err or "n_pairs" in err
    assert record.read_bytes() == first


def test_checkpoints_of_adapters_are_measured_on_their_base(neuronxa, tokenizer, saved, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(saved)
    options = {"r": 4, "target_modules": ["gate_proj", "down_proj", "q_proj"]}
    model = get_peft_model(base, LoraConfig(**options, init_lora_weights=False))
    saves = {"save_strategy": "steps", "save_steps": 3}
    callback = NeuronXACallback(CONFIG, every=3)
    trainer_of(tokenizer, tmp_path, [callback], model=model, args=saves).train()
    assert not list(tmp_path.glob("checkpoint-*/model*"))
    _, out, _ = neuronxa("sweep", tmp_path, "--json")
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    assert swept == [report for report in read(tmp_path) if report.step]


def test_a_run_of_own_sentences_must_be_told_them(neuronxa, tokenizer, tmp_path):
    corpus = ParallelCorpus.builtin(languages=LANGUAGES)
    own = ParallelCorpus("eng_Latn", corpus.pairs, name="mine")
    callback = NeuronXACallback(ProbeConfig(corpus=own, n_pairs=10), every=6)
    saves = {"save_strategy": "steps", "save_steps": 6}
    trainer_of(tokenizer, tmp_path, [callback], args=saves).train()
    code, _, err = neuronxa("sweep", tmp_path)
    assert code == 2
    assert err == (
        "neuronxa: this run measured the sentences 'mine', which are not built in; "
        "name them with --config or --corpus\n"
    )


def test_a_folder_without_checkpoints_is_refused(neuronxa, tmp_path):
    code, _, err = neuronxa("sweep", tmp_path)
    assert code == 2
    assert "holds none; for one model use `neuronxa score`, for the hub --revisions" in err
