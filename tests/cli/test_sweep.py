"""``neuronxa sweep`` over the checkpoints of a run."""

import shutil
from dataclasses import replace

import pytest

from neuronxa_callback import AlignmentReport, NeuronXACallback, ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.history import read_reports
from tests.helpers.runs import trainer_of
from tests.helpers.shell import CONFIG, LANGUAGES
from tests.helpers.tiny import llama, tokenizer_of


def test_a_sweep_gives_the_reports_of_the_training(neuronxa, run):
    code, out, _ = neuronxa("sweep", run, "--json", "-o", run / "exact.jsonl")
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    trained = [report for report in read_reports(run) if report.step]
    assert code == 0
    assert [report.step for report in swept] == [2, 4, 6]
    assert swept == trained
    assert read_reports(run / "exact.jsonl") == trained


@pytest.mark.slow
def test_a_sweep_of_a_run_with_autocast_gives_the_reports_of_the_training(
    neuronxa, tokenizer, tmp_path
):
    saves = {"save_strategy": "steps", "save_steps": 3, "bf16": True}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)], args=saves).train()
    _, out, _ = neuronxa("sweep", tmp_path, "--json")
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    assert swept[0].fingerprint["model"]["states"] == "bfloat16"
    assert swept[0].fingerprint["model"]["weights"] == "float32"
    assert swept == [report for report in read_reports(tmp_path) if report.step]


@pytest.fixture
def lines(neuronxa, run):
    """The lines of the file that a sweep of the run writes."""
    record = run / "whole.jsonl"
    if not record.exists():
        neuronxa("sweep", run, "-o", record)
    return record.read_bytes().splitlines(keepends=True)


def test_an_interrupted_sweep_resumes(neuronxa, run, lines, monkeypatch):
    record = run / "cut.jsonl"
    record.write_bytes(b"".join(lines[:2]))
    measured = []
    measure = Probe.run
    monkeypatch.setattr(
        Probe, "run", lambda self, *rest: measured.append(rest[1]) or measure(self, *rest)
    )
    code, out, _ = neuronxa("sweep", run, "-o", record)
    assert code == 0
    assert measured == [6]
    assert out.count("measured before") == 2
    assert read_reports(record) == [AlignmentReport.from_json(line.decode()) for line in lines]


OTHER = {
    "n_pairs is 10 in one and 12 in the other": ("--n-pairs", 12),
    "languages has deu_Latn only in one":
        ("--languages", "fr"),
    "metrics has nasca, navca only in one and mexa only in the other":
        ("--metrics", "mexa"),
    "dtype is 'float32' in one and 'bfloat16' in the other": ("--dtype", "bfloat16"),
    "attention is 'sdpa' in one and 'eager' in the other": ("--attn", "eager"),
}  # fmt: skip


@pytest.mark.parametrize("measured", [3, 1])
@pytest.mark.parametrize("difference", OTHER)
def test_a_file_takes_no_report_of_another_measurement(
    difference, measured, neuronxa, run, lines, tmp_path
):
    record, before = tmp_path / "mixed.jsonl", b"".join(lines[:measured])
    record.write_bytes(before)
    code, out, err = neuronxa("sweep", run, "-o", record, "--json", *OTHER[difference])
    assert (code, out) == (2, "")
    assert err.startswith("neuronxa: reports of one curve must agree in ")
    assert err.endswith(f", but {difference}; write to another file than {record} with --out\n")
    assert record.read_bytes() == before


def test_a_file_takes_no_report_of_another_tokenizer(neuronxa, run, lines, tmp_path):
    record = tmp_path / "mixed.jsonl"
    record.write_bytes(b"".join(lines))
    tokenizer_of(["another text"]).save_pretrained(tmp_path / "other")
    code, out, err = neuronxa("sweep", run, "-o", record, "--tokenizer", tmp_path / "other")
    assert (code, out) == (2, "")
    assert err.startswith("neuronxa: reports of one curve must agree in model, but tokenizer (")


@pytest.mark.slow
def test_retrained_checkpoints_are_measured_again(neuronxa, tokenizer, tmp_path):
    saves = {"save_strategy": "steps", "save_steps": 3}
    sweeps = []
    for seed in (1, 2):
        model, callback = llama(seed), NeuronXACallback(CONFIG, every=3)
        trainer_of(tokenizer, tmp_path, [callback], model=model, args=saves).train()
        _, out, _ = neuronxa("sweep", tmp_path, "--json")
        sweeps.append([AlignmentReport.from_json(line) for line in out.splitlines()])
        assert sweeps[-1] == [report for report in read_reports(tmp_path) if report.step]
    assert sweeps[0] != sweeps[1]
    assert read_reports(tmp_path / "neuronxa" / "sweep.jsonl") == sweeps[1]
    _, out, _ = neuronxa("sweep", tmp_path)
    assert out.count("measured before") == 2


@pytest.fixture(scope="module")
def own(tokenizer, tmp_path_factory):
    """A run with autocast on sentences of a folder with a French pivot, and that folder."""
    folder, sentences = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("sentences")
    pairs = ParallelCorpus.builtin(languages=LANGUAGES).pairs
    columns = {code: [pair[1] for pair in pairs[code]] for code in LANGUAGES}
    columns["eng_Latn"] = [pair[0] for pair in pairs["fra_Latn"]]
    for code, lines in columns.items():
        (sentences / f"{code}.dev").write_text("\n".join(lines), encoding="utf-8")
    corpus = {"path": str(sentences), "pivot": "fra_Latn"}
    config = ProbeConfig(
        corpus=corpus, n_pairs=10, metrics=("navca", "mexa"), nav_site="gate", batch_tokens=256
    )
    saves = {"save_strategy": "steps", "save_steps": 3, "bf16": True}
    trainer_of(tokenizer, folder, [NeuronXACallback(config, every=3)], args=saves).train()
    return folder, sentences


def test_a_sweep_with_the_sentences_of_the_run_gives_the_reports_of_the_training(
    neuronxa, own, tmp_path
):
    folder, sentences = own
    options = ("--corpus", sentences, "--json", "-o", tmp_path / "own.jsonl")
    _, out, _ = neuronxa("sweep", folder, *options)
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    assert swept == [report for report in read_reports(folder) if report.step]
    assert swept[0].pivot == "fra_Latn"
    assert swept[0].fingerprint["model"]["states"] == "bfloat16"
    code, out, err = neuronxa("sweep", folder, *options, "--dtype", "float32")
    assert (code, out) == (2, "")
    assert "agree in model, but autocast is 'bfloat16' in one and None in the other;" in err


@pytest.mark.slow
def test_an_option_changes_nothing_else(neuronxa, own, tmp_path):
    folder, sentences = own
    trained = read_reports(folder)[-1].fingerprint

    def swept(*options):
        options = ("--corpus", sentences, "--json", "-o", tmp_path / f"{len(options)}", *options)
        _, out, _ = neuronxa("sweep", folder, *options)
        return AlignmentReport.from_json(out.splitlines()[-1]).fingerprint

    result = swept("--metrics", "nasca")
    assert result["definition"] == trained["definition"] | {"metrics": {"nasca": 1}}
    assert result["model"] == trained["model"]
    assert result["environment"] == trained["environment"]
    (tmp_path / "probe.toml").write_text("batch_tokens = 128\n")
    result = swept("--dtype", "float32", "--config", tmp_path / "probe.toml")
    assert result["definition"] == trained["definition"]
    assert result["environment"]["batch_tokens"] == 128
    assert result["model"] == trained["model"] | {"states": "float32"}


@pytest.mark.slow
def test_checkpoints_of_adapters_are_measured_with_their_base(neuronxa, tokenizer, saved, tmp_path):
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
    assert swept == [report for report in read_reports(tmp_path) if report.step]


def test_a_run_on_other_sentences_needs_the_option_corpus(neuronxa, tokenizer, tmp_path):
    corpus = ParallelCorpus.builtin(languages=LANGUAGES)
    own = ParallelCorpus("eng_Latn", corpus.pairs, name="mine")
    callback = NeuronXACallback(ProbeConfig(corpus=own, n_pairs=10), every=6)
    saves = {"save_strategy": "steps", "save_steps": 6}
    trainer_of(tokenizer, tmp_path, [callback], args=saves).train()
    code, _, err = neuronxa("sweep", tmp_path)
    assert code == 2
    assert err == (
        "neuronxa: this run measured the sentences 'mine', which are not built in; "
        "name their file or folder with --corpus or --config\n"
    )


def test_a_run_with_a_function_for_neurons_needs_neuron_modules(neuronxa, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    report = read_reports(copy)[-1]
    report.fingerprint["definition"]["neuron_modules"] = {"function": "mine", "code": "f00"}
    (copy / "neuronxa" / "reports.jsonl").write_text(report.to_json())
    code, _, err = neuronxa("sweep", copy)
    assert (code, err) == (
        2,
        "neuronxa: this run found its neurons with a Python function 'mine', which a record cannot "
        "contain; set neuron_modules in a file and pass it with --config\n",
    )


def test_checkpoints_in_parts_are_refused_with_the_command_that_merges_them(
    neuronxa, run, tmp_path
):
    copy = shutil.copytree(run, tmp_path / "copy")
    pieces = copy / "checkpoint-4" / "pytorch_model_fsdp_0"
    pieces.mkdir()
    (pieces / "__0_0.distcp").touch()
    (copy / "checkpoint-4" / "model.safetensors").unlink()
    code, out, err = neuronxa("sweep", copy)
    folder = copy / "checkpoint-4"
    assert code == 2
    assert err == (
        f"neuronxa: {folder} must hold whole weights, got one part per rank from FSDP; "
        f"merge them: accelerate merge-weights {pieces} {folder}\n"
    )
    assert out.startswith("NeuronXA step 2: ")
    assert [report.step for report in read_reports(copy / "neuronxa" / "sweep.jsonl")] == [2]


def test_a_line_that_is_not_a_report_is_named_and_measured_again(neuronxa, run, lines, tmp_path):
    record = tmp_path / "sweep.jsonl"
    record.write_bytes(b"".join((lines[0], lines[1][:99] + b"\n", lines[2])))
    code, out, err = neuronxa("sweep", run, "-o", record)
    assert code == 0
    assert f"neuronxa: {record}:2 is left out: not an alignment report: " in err
    assert out.count("measured before") == 2
    assert [report.step for report in read_reports(record)] == [2, 4, 6]


def test_a_line_of_the_run_that_is_not_a_report_is_named(neuronxa, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    trained = copy / "neuronxa" / "reports.jsonl"
    with trained.open("a") as file:
        file.write('{"step": 8')
    code, out, err = neuronxa("sweep", copy, "--json")
    assert code == 0
    assert f"neuronxa: {trained}:5 is left out: not an alignment report: " in err
    assert [AlignmentReport.from_json(line) for line in out.splitlines()] == read_reports(run)[1:]


def test_a_folder_without_checkpoints_is_refused(neuronxa, tmp_path):
    code, _, err = neuronxa("sweep", tmp_path)
    assert code == 2
    assert "holds none; for one model use `neuronxa score`, for the hub --revisions" in err


def test_a_sweep_takes_groups_of_languages(neuronxa, run, tmp_path):
    record = tmp_path / "grouped.jsonl"
    code, out, _ = neuronxa("sweep", run, "--groups", "mine=fr", "-o", record, "--json")
    assert code == 0
    found = [AlignmentReport.from_json(line) for line in out.splitlines()]
    assert [report.groups for report in found] == [{"mine": ("fra_Latn",)}] * 3
    for report in found:
        assert report.interval("nasca", "group:mine") == report.interval("nasca", "fra_Latn")


def test_a_sweep_repeats_every_statistic_of_the_reports(neuronxa, tokenizer, tmp_path):
    config = replace(
        CONFIG,
        diagnostics=("tokens", "loss"),
        neurons=("overlap", "language_neurons", "beyond_surface", "rivals"),
    )
    saves = {"save_strategy": "steps", "save_steps": 3, "learning_rate": 0.05}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(config, every=3)], args=saves).train()
    trained = [report for report in read_reports(tmp_path) if report.step]
    assert {*config.diagnostics, *config.neurons} <= {*trained[0].diagnostics}
    _, out, _ = neuronxa("sweep", tmp_path, "--json")
    assert [AlignmentReport.from_json(line) for line in out.splitlines()] == trained
