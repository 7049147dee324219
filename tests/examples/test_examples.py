"""The examples run as a reader would run them: in a process of their own, with no network."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from neuronxa_callback.history import read_reports

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

import toy_languages as toy  # noqa: E402

LANGUAGES = (toy.PIVOT, *toy.LANGUAGES)


def run(name, *arguments, cwd, threads=1):
    """Standard output of an example, with its progress bar and warnings left out."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("WANDB")},
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a tiny model that reads bytes."""
    import accelerate_loop

    model, tokenizer = accelerate_loop.load(None)
    folder = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def lines():
    """Forty lines of text that are not in the probe."""
    return [toy.say(m, language) for m in islice(toy.meanings(5), 10) for language in LANGUAGES]


def test_every_example_has_a_test():
    files = Path(__file__).parent.glob("test_*.py")
    tests = "".join(f"def {file.stem}\n{file.read_text(encoding='utf-8')}" for file in files)
    names = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert len(names) >= 4
    marks = {name: (f"def test_{name}", f'"{name}"') for name in names}
    assert [name for name in names if not any(mark in tests for mark in marks[name])] == []


def test_toy_languages_have_a_distinct_sentence_for_each_meaning():
    meanings = list(islice(toy.meanings(0), 3000))
    assert len(set(meanings)) == 3000
    for language in LANGUAGES:
        assert len({toy.say(m, language) for m in meanings}) == 3000


def test_toy_languages_share_almost_no_word_with_the_pivot():
    meanings = list(islice(toy.meanings(0), 3000))
    words = {k: {w for m in meanings for w in toy.say(m, k).split()} for k in LANGUAGES}
    shared = {k: sorted(words[toy.PIVOT] & words[k]) for k in toy.LANGUAGES}
    assert shared == {
        "deu_Latn": [".", "in"], "fra_Latn": ["."], "spa_Latn": ["."], "tur_Latn": ["."],
    }  # fmt: skip


def test_toy_languages_keep_their_word_orders():
    m = toy.Meaning(True, 0, 4, 0, 1, 0, 2)
    assert [toy.say(m, language) for language in LANGUAGES] == [
        "we know that every day the small dog sees the key in the garden .",
        "wir wissen , dass jeden Tag der kleine Hund den Schlüssel im Garten sieht .",
        "nous savons que chaque jour le petit chien voit la clé dans le jardin .",
        "sabemos que todos los días el perro pequeño ve la llave en el jardín .",
        "her gün küçük köpek bahçede anahtarı görür , bunu biliyoruz .",
    ]


def test_quickstart_trains_on_none_of_the_probes_sentences():
    meanings = list(islice(toy.meanings(0), 3000))
    for language in LANGUAGES:
        probe = {toy.say(m, language) for m in meanings[:100]}
        assert probe.isdisjoint(toy.say(m, language) for m in meanings[100:])


def test_quickstart_writes_every_file_that_it_prints(tmp_path):
    output = run("quickstart", "--steps", 2, cwd=tmp_path)
    out = tmp_path / "runs" / "quickstart"
    assert [report.step for report in read_reports(out / "neuronxa" / "reports.jsonl")] == [0, 2]
    assert (out / "emergence.png").read_bytes().startswith(b"\x89PNG")
    (folder,) = (out / "wandb").glob("offline-run-*")
    assert sorted(folder.glob("*.wandb"))
    last = read_reports(out / "neuronxa" / "reports.jsonl")[-1]
    assert {"overlap", "sharing"} <= {*last.diagnostics}
    assert "neuronxa page runs/quickstart" in output
    for path in (Path("runs/quickstart/neuronxa/reports.jsonl"), "emergence.png", folder.name):
        assert str(path) in output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quickstart_shows_alignment_emerging(tmp_path):
    run("quickstart", cwd=tmp_path, threads=2)
    reports = read_reports(tmp_path / "runs" / "quickstart" / "neuronxa" / "reports.jsonl")
    first, last = reports[0], reports[-1]
    assert max(first.score("nasca", name) for name in first.languages) < 0.05
    best = max(last.languages, key=lambda name: last.score("nasca", name))
    assert last.score("nasca", best) > 0.40
    early, middle, late = last.thirds("nasca")
    assert max(middle, late) > early
    layer, _ = last.peak("nasca", best)
    assert layer > 0, "the best language's curve must not peak early"
    assert reports[-1].run["loss"] < 1


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_finetune_reads_text_and_keeps_the_best_aligned(tmp_path, tiny_model, lines, form):
    data = tmp_path / f"text.{form}"
    rows = lines if form == "txt" else [json.dumps({"body": line}) for line in lines]
    data.write_text("\n".join(rows), encoding="utf-8")
    column = ("--text-column", "body") if form == "jsonl" else ("--lora",)
    output = run(
        "finetune", "--model", tiny_model, "--data", data, *column, "--steps", 4, "--every", 2,
        "--languages", "deu_Latn", "--held-out", 0.2, "--report-to", "none", "--cpu", cwd=tmp_path,
    )  # fmt: skip
    out = tmp_path / "runs" / "finetune"
    reports = {report.step: report for report in read_reports(out / "neuronxa" / "reports.jsonl")}
    assert sorted(reports) == [0, 2, 4]
    best = max((2, 4), key=lambda step: reports[step].score("nasca"))
    assert f"checkpoint-{best}, eval_nasca {reports[best].score('nasca')}" in output
    weights = "model.safetensors" if form == "jsonl" else "adapter_model.safetensors"
    assert (out / "best" / weights).exists()


def test_finetune_stops_without_a_new_best_score(tmp_path, tiny_model, lines):
    data = tmp_path / "text.txt"
    data.write_text("\n".join(lines), encoding="utf-8")
    run(
        "finetune", "--model", tiny_model, "--data", data, "--steps", 9, "--every", 1,
        "--learning-rate", 0, "--patience", 2, "--languages", "deu_Latn", "--held-out", 0.2,
        "--report-to", "none", "--cpu", cwd=tmp_path,
    )  # fmt: skip
    record = tmp_path / "runs" / "finetune" / "neuronxa" / "reports.jsonl"
    assert [report.step for report in read_reports(record)] == [0, 1, 2, 3]


def test_finetune_lists_the_columns_if_one_is_missing(tmp_path, tiny_model):
    data = tmp_path / "text.jsonl"
    data.write_text('{"body": "a line", "mark": 1}\n', encoding="utf-8")
    with pytest.raises(AssertionError) as error:
        run("finetune", "--model", tiny_model, "--data", data, "--cpu", cwd=tmp_path)
    assert "--text-column must name one of the columns body, mark, got 'text'" in str(error.value)


@pytest.mark.parametrize("given", [False, True], ids=["random", "saved"])
def test_accelerate_loop_probes_without_a_trainer(tmp_path, tiny_model, given):
    model = ("--model", tiny_model) if given else ()
    output = run("accelerate_loop", "--steps", 4, "--every", 2, "--cpu", *model, cwd=tmp_path)
    reports = read_reports(tmp_path / "runs" / "accelerate_loop" / "reports.jsonl")
    assert [report.step for report in reports] == [0, 2, 4]
    assert [line.split()[1] for line in output.splitlines() if line.startswith("step")] == [
        "0", "2", "4",
    ]  # fmt: skip


def test_plain_loop_probes_a_model_of_its_own(tmp_path):
    output = run("plain_loop", "--steps", 2, "--every", 1, cwd=tmp_path)
    reports = read_reports(tmp_path / "runs" / "plain_loop" / "reports.jsonl")
    assert [report.step for report in reports] == [0, 1, 2]
    assert all(report.fingerprint["model"]["class"] == "GPT" for report in reports)
    assert "reports: runs/plain_loop/reports.jsonl" in output


def test_lightning_loop_probes_in_a_callback(tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed")
    run("lightning_loop", "--steps", 2, "--every", 1, cwd=tmp_path)
    reports = read_reports(tmp_path / "runs" / "lightning_loop" / "reports.jsonl")
    assert [report.step for report in reports] == [0, 1, 2]
    assert all(report.fingerprint["model"]["class"] == "LitGPT" for report in reports)
    assert reports[0].fingerprint["model"]["modules"] == ["gpt.blocks.#.mlp.#"]
