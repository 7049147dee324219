"""The command line, as a person at a shell uses it."""

import json
import shutil
import subprocess
import sys

import pytest
import transformers
from safetensors.torch import load_file, save_file

from neuronxa_callback import AlignmentReport, ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.cli import commands
from tests.helpers import browser, shell
from tests.helpers.reports import make_report
from tests.helpers.runs import SHELL
from tests.helpers.shell import LANGUAGES, OPTIONS, is_one_sentence_on_the_hub
from tests.helpers.tiny import llama

COMMANDS = ("score", "sweep", "compare", "page", "check", "taps", "languages")


neuronxa = pytest.fixture(shell.neuronxa)
tokenizer = pytest.fixture(scope="module")(shell.tokenizer)
saved = pytest.fixture(scope="module")(shell.saved)
run = pytest.fixture(scope="module")(shell.run)


# score


def test_score_prints_the_report_of_a_probe(neuronxa, saved, tokenizer):
    code, out, _ = neuronxa("score", saved, *OPTIONS, "--json")
    config = ProbeConfig(languages=LANGUAGES, n_pairs=10)
    assert code == 0
    assert AlignmentReport.from_json(out) == Probe(config, tokenizer).run(llama())


def test_score_prints_a_table_or_csv(neuronxa, saved):
    code, out, _ = neuronxa("score", saved, *OPTIONS)
    assert code == 0
    assert "deu_Latn" in out
    assert "chance is 0.053" in out
    code, out, _ = neuronxa("score", saved, *OPTIONS, "--csv", "--metrics", "nasca")
    rows = out.splitlines()
    assert rows[0] == "step,language,layer,metric,score,low,high"
    assert len(rows) == 1 + 2 * 3


def test_a_toml_file_is_read_and_options_go_before_it(neuronxa, saved, tmp_path):
    file = tmp_path / "probe.toml"
    file.write_text('languages = ["deu_Latn"]\nn_pairs = 5\nmetrics = ["mexa"]\n')
    _, out, _ = neuronxa("score", saved, "--config", file, "--n-pairs", 8, "--json")
    report = AlignmentReport.from_json(out)
    assert (report.languages, report.n_pairs, list(report.metrics)) == (("deu_Latn",), 8, ["mexa"])


def test_score_measures_own_sentences(neuronxa, saved, tmp_path):
    corpus = ParallelCorpus.builtin(languages=["deu_Latn"])
    for code, side in (("eng_Latn", 0), ("deu_Latn", 1)):
        text = "\n".join(pair[side] for pair in corpus.pairs["deu_Latn"])
        (tmp_path / f"{code}.dev").write_text(text, encoding="utf-8")
    _, own, _ = neuronxa("score", saved, "--corpus", tmp_path, "--json")
    _, builtin, _ = neuronxa("score", saved, "--languages", "de", "--json")
    assert AlignmentReport.from_json(own).metrics == AlignmentReport.from_json(builtin).metrics


def test_dtype_and_attention_are_what_was_asked_for(neuronxa, saved):
    options = ("--dtype", "bfloat16", "--attn", "eager", "--json")
    _, out, _ = neuronxa("score", saved, *OPTIONS, *options)
    model = AlignmentReport.from_json(out).fingerprint["model"]
    assert (model["weights"], model["states"], model["attention"]) == ("bfloat16",) * 2 + ("eager",)


@pytest.mark.slow
def test_score_under_torchrun_is_the_same_report(neuronxa, saved):
    _, alone, _ = neuronxa("score", saved, *OPTIONS, "--json")
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "neuronxa_callback", "score", str(saved), *OPTIONS, "--json"]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=240, env=SHELL
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert AlignmentReport.from_json(done.stdout) == AlignmentReport.from_json(alone)


# what cannot be loaded


@pytest.mark.parametrize("command", ["score", "taps"])
@pytest.mark.parametrize("name", ["{0}/nothing", "./nothing", "a/b/c"])
def test_a_model_that_is_not_there_is_one_sentence(name, command, neuronxa, tmp_path):
    name = name.format(tmp_path)
    assert neuronxa(command, name) == (
        2,
        "",
        f"neuronxa: a model must be a folder or a name on the hub, {name!r} is neither\n",
    )


@pytest.mark.parametrize("command", ["score", "taps"])
def test_a_hub_that_cannot_be_reached_is_one_sentence(command, neuronxa):
    assert is_one_sentence_on_the_hub(neuronxa(command, "no-such/model"))


def test_a_model_without_a_tokenizer_asks_for_one_and_says_why(neuronxa, tmp_path):
    llama().save_pretrained(tmp_path)
    code, _, err = neuronxa("score", tmp_path)
    assert code == 2
    before, after = (
        f"neuronxa: a tokenizer must be saved with the model, got none in {str(tmp_path)!r} (",
        "); name one with --tokenizer\n",
    )
    assert err.startswith(before)
    assert err.endswith(after)
    assert len(err) > len(before + after) + 10
    assert len(err.splitlines()) == 1


def test_weights_that_are_cut_off_are_one_sentence(neuronxa, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    code, out, err = neuronxa("score", weights.parent)
    assert (code, out) == (2, "")
    assert err.startswith("neuronxa: a model must be a folder or a name on the hub that can be ")
    assert len(err.splitlines()) == 1


def test_what_nobody_foresaw_is_one_sentence_and_not_a_finding(neuronxa, monkeypatch):
    def broken():
        raise LookupError("no such\nthing")

    monkeypatch.setattr(commands, "app", broken)
    assert neuronxa("languages") == (2, "", "neuronxa: LookupError: no such thing\n")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--dtype", "float61"), "unknown dtype: 'float61'; did you mean 'float16'"),
        (("--device", "toaster"), "a device must be cpu, cuda, cuda:1 or the like, got 'toaster'"),
        (("--metrics", "nascar"), "unknown metric: 'nascar'; did you mean 'nasca'"),
        (("--languages", "Germn"), "unknown language: 'Germn'; did you mean 'deu_Latn'"),
        (("--config", "none.toml"), "there is no configuration file 'none.toml'"),
        (("--languages", "de", "--n-pairs", "101"), "deu_Latn has 100"),
        (("--n-pairs", "1"), "greater than or equal to 2"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(option, words, neuronxa, saved):
    code, out, err = neuronxa("score", saved, *option)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["score", "taps"])
def test_a_folder_without_a_model_is_refused(command, neuronxa, tmp_path):
    code, _, err = neuronxa(command, tmp_path)
    assert code == 2
    assert err == (
        "neuronxa: a model's folder must hold config.json or adapter_config.json, "
        f"{str(tmp_path)!r} holds neither\n"
    )


def test_weights_that_are_missing_are_not_made_up(neuronxa, saved, tmp_path):
    shutil.copy(saved / "config.json", tmp_path)
    weights = load_file(saved / "model.safetensors")
    weights.pop("model.layers.1.mlp.gate_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    code, _, err = neuronxa("taps", tmp_path)
    assert code == 2
    assert err == (
        f"neuronxa: {tmp_path} must hold all weights that its neurons depend on, 1 are missing, "
        "such as model.layers.1.mlp.gate_proj.weight: what is random gives a curve that means "
        "nothing\n"
    )


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (("pytorch_model_fsdp_0/__0_0.distcp",),
         "accelerate merge-weights {0}/pytorch_model_fsdp_0 {0}"),
        (("zero_to_fp32.py", "global_step2/mp_rank_00_model_states.pt"),
         "python {0}/zero_to_fp32.py {0} {0} --safe_serialization"),
    ],
)  # fmt: skip
def test_pieces_of_weights_are_refused_with_the_command_that_merges_them(
    files, command, neuronxa, tmp_path
):
    llama().config.save_pretrained(tmp_path)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    code, _, err = neuronxa("taps", tmp_path)
    assert code == 2
    assert command.format(tmp_path) in err


# page


def seen(page):
    """The text that a browser shows."""
    if browser.find() is None:
        pytest.skip("no Chromium here (`apt-get install chromium`)")
    with browser.Browser() as shown:
        shown.open(page)
        return shown.value("document.body.textContent")


def test_page_shows_what_can_be_read_and_names_the_rest(neuronxa, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    record, page = tmp_path / "reports.jsonl", tmp_path / "page.html"
    lines = [make_report(step).to_json() for step in (0, 5, 10)]
    lines[1] = lines[1][: len(lines[1]) // 2]
    record.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = neuronxa("page", record, "-o", page)
    assert (code, out) == (0, f"{page}\n")
    assert err.startswith(f"neuronxa: {record}:2 is left out: not an alignment report")
    assert "reports.jsonl:2 is left out" in seen(page)


def test_page_refuses_a_place_that_cannot_be_written(neuronxa, tmp_path):
    out = tmp_path / "nowhere" / "page.html"
    code, _, err = neuronxa("page", tmp_path, "-o", out)
    words = f"neuronxa: the folder of --out must exist, there is no {str(out.parent)!r}\n"
    assert (code, err) == (2, words)
    code, _, err = neuronxa("page", tmp_path, "-o", tmp_path)
    assert code == 2
    assert "Invalid value for '--out'" in err


def test_page_tells_runs_apart_by_their_folders(neuronxa, run, tmp_path):
    pytest.importorskip("plotly", reason="the page needs plotly")
    other = tmp_path / "other" / "out"
    shutil.copytree(run / "neuronxa", other / "neuronxa")
    code, _, _ = neuronxa("page", run, other, "-o", tmp_path / "both.html")
    assert code == 0
    text = seen(tmp_path / "both.html")
    assert run.name in text
    assert "out" in text.split()


def test_page_refuses_two_measurements_as_one_curve_and_no_curve(neuronxa, tmp_path):
    record = tmp_path / "reports.jsonl"
    mixed = (make_report(0), make_report(5, n_pairs=50))
    record.write_text("".join(f"{each.to_json()}\n" for each in mixed), encoding="utf-8")
    code, _, err = neuronxa("page", record)
    assert code == 2
    assert "must agree in definition, but n_pairs is 100 in one and 50 in the other" in err
    record.write_text("", encoding="utf-8")
    code, _, err = neuronxa("page", record)
    assert (code, err) == (2, f"neuronxa: a run must have at least one report, {record} has none\n")
    code, _, err = neuronxa("page", tmp_path / "none")
    assert code == 2
    assert err.startswith("neuronxa: a run must be a JSONL file of reports or a folder that holds")


# check


def test_check_finds_nothing_in_the_built_in_sentences(neuronxa):
    code, out, _ = neuronxa("check", "builtin", "--languages", "de,sw")
    assert code == 0
    assert out == "nothing wrong: 2 languages, 100 pairs each\n"


def defective(folder):
    corpus = ParallelCorpus.builtin(languages=["deu_Latn"])
    english, german = map(list, zip(*corpus.pairs["deu_Latn"], strict=True))
    german[4], german[8] = german[3], english[8]
    for code, lines in (("eng_Latn", english), ("deu_Latn", german)):
        (folder / f"{code}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_check_names_what_is_wrong_by_file_and_line(neuronxa, tmp_path):
    code, out, _ = neuronxa("check", defective(tmp_path))
    assert code == 1
    assert "error: deu_Latn.txt:5: repeats line 4" in out
    assert "error: deu_Latn.txt:9: is not translated" in out
    code, out, _ = neuronxa("check", tmp_path, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["languages"] == ["deu_Latn"]
    wheres = {each["where"] for each in found["findings"] if each["level"] == "error"}
    assert wheres == {"deu_Latn.txt:5", "deu_Latn.txt:9"}


def test_check_says_how_a_tokenizer_cuts_each_language(neuronxa, saved):
    _, out, _ = neuronxa("check", "builtin", "--languages", "de", "--tokenizer", saved)
    assert "deu_Latn: 1." in out
    assert "times the tokens of the pivot" in out


def test_check_finds_the_sentences_in_training_data(neuronxa, tmp_path):
    sentence = ParallelCorpus.builtin(languages=["deu_Latn"]).pairs["deu_Latn"][5][1]
    seen, unseen = tmp_path / "seen.txt", tmp_path / "unseen.txt"
    seen.write_text(f"Etwas.\nDann: {sentence} Und so weiter.\n", encoding="utf-8")
    unseen.write_text("Etwas anderes.\n" * 50, encoding="utf-8")
    options = ("--languages", "de", "--against")
    code, out, _ = neuronxa("check", "builtin", *options, seen, unseen)
    assert code == 1
    assert f"{seen}:2: holds deu_Latn" in out
    assert "searched 2 files: 1 sentences stand in training data" in out
    code, out, _ = neuronxa("check", "builtin", *options, unseen)
    assert code == 0
    assert out.endswith("searched 1 files: none found\n")


def test_check_of_what_is_not_there_is_one_sentence(neuronxa, tmp_path):
    code, _, err = neuronxa("check", tmp_path / "none")
    assert code == 2
    assert err == (
        f"neuronxa: a corpus must be 'builtin', a folder or a file, got '{tmp_path / 'none'}'\n"
    )


# taps and languages


def test_taps_lists_where_the_neurons_are(neuronxa, saved):
    code, out, _ = neuronxa("taps", saved)
    assert code == 0
    assert "model.layers.0.mlp.down_proj" in out
    assert "3 layers, 264 neurons: vectors of 100 pivot sentences take 0.1 MB" in out
    _, out, _ = neuronxa("taps", saved, "--json")
    parts = json.loads(out)
    assert [part["layer"] for part in parts] == [0, 1, 2]
    assert {part["kind"] for part in parts} == {"gated"}


@pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 needs weights")
def test_taps_of_a_configuration_alone_are_those_of_the_model(neuronxa, saved, tmp_path):
    shutil.copy(saved / "config.json", tmp_path)
    _, build_on_meta, _ = neuronxa("taps", tmp_path, "--empty", "--json")
    _, whole, _ = neuronxa("taps", saved, "--json")
    assert json.loads(build_on_meta) == json.loads(whole)


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
    assert [each["code"] for each in json.loads(out)] == ["deu_Latn", "swh_Latn"]
    code, _, err = neuronxa("languages", "Germn")
    assert code == 2
    assert "German" in err


# help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command, neuronxa):
    code, out, _ = neuronxa(command, "--help")
    assert code == 0
    assert f"neuronxa {command}" in out
    assert "Examples" in out


def test_the_installed_command_says_what_there_is(tmp_path):
    words = [sys.executable, "-m", "neuronxa_callback", "--help"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=SHELL
    )
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)
