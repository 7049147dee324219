"""``neuronxa score``."""

import shutil
import subprocess
import sys

import pytest

from neuronxa_callback import AlignmentReport, ParallelCorpus, Probe, ProbeConfig
from tests.helpers.runs import SHELL
from tests.helpers.shell import LANGUAGES, OPTIONS
from tests.helpers.tiny import llama


def test_score_prints_the_report_of_a_probe(neuronxa, saved, tokenizer):
    code, out, _ = neuronxa("score", saved, *OPTIONS, "--json")
    config = ProbeConfig(languages=LANGUAGES, n_pairs=10)
    assert code == 0
    assert AlignmentReport.from_json(out) == Probe(config, tokenizer).run(llama())


def test_a_repeated_option_adds_to_its_list(neuronxa, saved):
    repeated = ("--languages", "de", "--languages", "fr,deu", "--metrics", "mexa")
    repeated += ("--metrics", "nasca, mexa", "--n-pairs", "10", "--json")
    code, out, _ = neuronxa("score", saved, *repeated)
    assert code == 0
    report = AlignmentReport.from_json(out)
    assert (report.languages, [*report.metrics]) == (LANGUAGES, ["mexa", "nasca"])


def test_score_prints_a_table_or_csv(neuronxa, saved):
    code, out, _ = neuronxa("score", saved, *OPTIONS)
    assert code == 0
    assert "deu_Latn" in out
    assert "chance is 0.053" in out
    code, out, _ = neuronxa("score", saved, *OPTIONS, "--csv", "--metrics", "nasca")
    rows = out.splitlines()
    assert rows[0] == "step,language,layer,metric,score,low,high"
    assert len(rows) == 1 + 2 * 3


def test_options_override_a_toml_file(neuronxa, saved, tmp_path):
    file = tmp_path / "probe.toml"
    file.write_text('languages = ["deu_Latn"]\nn_pairs = 5\nmetrics = ["mexa"]\n')
    _, out, _ = neuronxa("score", saved, "--config", file, "--n-pairs", 8, "--json")
    report = AlignmentReport.from_json(out)
    assert (report.languages, report.n_pairs, list(report.metrics)) == (("deu_Latn",), 8, ["mexa"])


def test_score_measures_sentences_of_a_folder(neuronxa, saved, tmp_path):
    corpus = ParallelCorpus.builtin(languages=["deu_Latn"])
    for code, side in (("eng_Latn", 0), ("deu_Latn", 1)):
        text = "\n".join(pair[side] for pair in corpus.pairs["deu_Latn"])
        (tmp_path / f"{code}.dev").write_text(text, encoding="utf-8")
    _, folder, _ = neuronxa("score", saved, "--corpus", tmp_path, "--json")
    _, builtin, _ = neuronxa("score", saved, "--languages", "de", "--json")
    spread, given = AlignmentReport.from_json(folder), AlignmentReport.from_json(builtin)
    # All 100 pairs are measured: spreading them over the file changes their order only.
    assert spread.score("nasca") == given.score("nasca")
    assert spread.run["order"].startswith("spread over 100 lines, ")
    file = tmp_path / "probe.toml"
    file.write_text('[corpus]\npath = "."\norder = "file"\n', encoding="utf-8")
    _, ordered, _ = neuronxa("score", saved, "--config", file, "--json")
    assert AlignmentReport.from_json(ordered).metrics == given.metrics


def test_dtype_and_attention_are_those_of_the_options(neuronxa, saved):
    options = ("--dtype", "bfloat16", "--attn", "eager", "--json")
    _, out, _ = neuronxa("score", saved, *OPTIONS, *options)
    model = AlignmentReport.from_json(out).fingerprint["model"]
    assert (model["weights"], model["states"], model["attention"]) == ("bfloat16",) * 2 + ("eager",)


@pytest.mark.slow
def test_score_under_torchrun_is_the_same_report(neuronxa, saved):
    _, alone, _ = neuronxa("score", saved, *OPTIONS, "--json")
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments += ["-m", "neuronxa_callback", "score", str(saved), *OPTIONS, "--json"]
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=240, env=SHELL
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert AlignmentReport.from_json(done.stdout) == AlignmentReport.from_json(alone)


def test_score_takes_groups_of_languages(neuronxa, saved):
    groups = ("--groups", "script,mine=de+French")
    code, out, _ = neuronxa("score", saved, *OPTIONS, *groups, "--json")
    report = AlignmentReport.from_json(out)
    assert code == 0
    assert report.groups == {"Latn": LANGUAGES, "mine": LANGUAGES}
    _, plain, _ = neuronxa("score", saved, *OPTIONS, "--json")
    without = AlignmentReport.from_json(plain)
    assert report.score("nasca", "group:mine") == without.score("nasca")
    assert [report.score("nasca", name) for name in LANGUAGES] == [
        without.score("nasca", name) for name in LANGUAGES
    ]
    code, _, err = neuronxa("score", saved, *OPTIONS, "--groups", "scripts")
    assert code == 2
    assert "unknown kind of groups: 'scripts'; did you mean 'script'?" in err
    code, _, err = neuronxa("score", saved, *OPTIONS, "--groups", "mine=sw")
    assert code == 2
    assert "the group 'mine' must name measured languages" in err


@pytest.mark.parametrize("text", ["null", "[]", "", '{"global_step": {}}'])
def test_a_damaged_state_of_the_trainer_is_named(neuronxa, saved, tmp_path, text):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / "trainer_state.json").write_text(text)
    code, out, err = neuronxa("score", folder, *OPTIONS)
    assert (code, out) == (2, "")
    start = f"neuronxa: {folder / 'trainer_state.json'} must be an object with a global_step"
    assert err.startswith(start)
    assert err.endswith(("wrong type\n", "at line 1, column 1\n"))
