"""What the README and ``docs/`` say: blocks run, links lead somewhere, lists are complete."""

import csv
import inspect
import os
import re
import shutil
import tomllib
from dataclasses import fields

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig
from neuronxa_callback.cli.neuron_commands import app
from neuronxa_callback.cli.workspace import panels
from tests.helpers import shell
from tests.helpers.corpus_files import to_folder
from tests.helpers.documents import (
    BLOCK,
    DOCS,
    PAGES,
    ROOT,
    anchors,
    blocks,
    first_column,
    links,
    shell_lines,
)  # fmt: skip
from tests.helpers.output import wandb_file
from tests.helpers.runs import trainer_of
from tests.helpers.tiny import llama, tokenizer_of

BUILTIN = ParallelCorpus.builtin()
LANGUAGES = ("deu_Latn", "fra_Latn", "spa_Latn", "tur_Latn", "swh_Latn", "hin_Deva",
             "jpn_Jpan", "vie_Latn")  # fmt: skip
ELSEWHERE = {"docs/recipes.md": "test_recipes.py", "docs/neurons.md": "test_neuron_docs.py",
             "docs/extend.md": "test_own_measures.py"}  # fmt: skip
"""Pages whose Python blocks run in another test."""
README = PAGES["README.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SHELL = sorted({tuple(line) for text in PAGES.values() for line in shell_lines(text)})
neuronxa = pytest.fixture(shell.neuronxa)


def small():
    return llama(vocab_size=2000, num_hidden_layers=2, intermediate_size=48)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [text for pairs in BUILTIN.pairs.values() for pair in pairs for text in pair]
    return tokenizer_of(texts, vocab_size=2000)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A folder with every file that the blocks name."""
    folder = tmp_path_factory.mktemp("documents")
    config = ProbeConfig(languages=LANGUAGES, n_pairs=10, batch_tokens=512)
    for name in ("out", "other"):
        saves = {"save_strategy": "steps", "save_steps": 4}
        callback = NeuronXACallback(config, every=2)
        trainer_of(tokenizer, folder / "runs" / name, [callback], small(), saves).train()
    shutil.copytree(folder / "runs/out/checkpoint-4", folder / "runs/out/checkpoint-500")
    shutil.copytree(folder / "runs/out/checkpoint-4", folder / "Qwen/Qwen3-8B")
    for number in (1, 2):
        (folder / f"train-{number}.jsonl").write_text('{"text": "Some other sentence here."}\n')
    scores = [f"{code},belebele,0.{3 + k}" for k, code in enumerate(LANGUAGES)]
    (folder / "belebele.csv").write_text("\n".join(["language,task,score", *scores]))
    some = BUILTIN.select(("deu_Latn", "swh_Latn"))
    for name in ("my", "flores_plus/dev", "NTREX/NTREX-128"):
        to_folder(some, folder / name)
    for file in (folder / "NTREX/NTREX-128").iterdir():
        kind = "src" if file.stem == "eng_Latn" else "ref"
        file.rename(file.with_name(f"newstest2019-{kind}.{file.stem[:3]}.txt"))
    return folder


def rows_of(tokenizer):
    encoded = (tokenizer(pair[0])["input_ids"][:8] for pair in BUILTIN.pairs["deu_Latn"])
    return [{"input_ids": ids, "labels": ids} for ids in encoded if len(ids) == 8]


def names_for(tokenizer):
    """What the blocks take for granted."""
    rows = rows_of(tokenizer)
    return {"model": small(), "tokenizer": tokenizer, "train_dataset": rows,
            "eval_dataset": rows[:8]}  # fmt: skip


def test_every_block_is_in_a_language_that_is_tested():
    found = {name for text in PAGES.values() for _, name, _ in BLOCK.findall(text)}
    assert found <= {"python", "bash", "toml", "yaml", "text", "", "bibtex", "{toctree}",
                     "{eval-rst}"}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "page", [name for name, text in PAGES.items() if name != "README.md"
             and name not in ELSEWHERE and blocks(text, "python")],
)  # fmt: skip
def test_the_python_blocks_of_a_page_run_in_order(page, tokenizer, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = names_for(tokenizer)
    for block in blocks(PAGES[page], "python"):
        exec(compile(block, page, "exec"), names)


@pytest.mark.filterwarnings("ignore")
def test_the_start_script_ends_with_scores_in_the_file_of_wandb(tokenizer, tmp_path, monkeypatch):
    import wandb

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (start,) = blocks(README, "python")
    exec(compile(start, "README.md", "exec"), names_for(tokenizer))
    wandb.finish()
    wandb.teardown()
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    probes = [row for row in wandb_file.history(file) if "neuronxa/nasca/mean" in row]
    assert [row["train/global_step"] for row in probes] == [0, 5, 10]
    assert all(0 <= row["neuronxa/nasca/deu_Latn"] <= 1 for row in probes)
    assert any("train/loss" in row or "eval/loss" in row for row in wandb_file.history(file))
    assert (tmp_path / "out" / "neuronxa" / "reports.jsonl").exists()


@pytest.mark.parametrize(
    "words", [line[1:] for line in SHELL if line[0] == "neuronxa"], ids=" ".join
)
def test_a_command_runs(words, folder, neuronxa, monkeypatch):
    if words[0] == "workspace":
        pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(panels, "save", lambda workspace: f"saved in {workspace.project}")
    words = [
        str(path)
        for word in words
        for path in (sorted(folder.glob(word)) if "*" in word else [word])
    ]
    code, out, err = neuronxa(*words)
    assert code == 0, err
    assert out.strip() or err.strip() or "--out" in words


def test_every_other_shell_line_is_a_valid_command():
    for program, *words in SHELL:
        match program:
            case "neuronxa":
                continue
            case "make":
                assert f"\n{words[0]}:" in MAKEFILE
            case "accelerate":
                launch_command_parser().parse_args(words[1:])
            case "torchrun":
                get_args_parser().parse_args(words)
            case "configs/launch/torchrun.sh":
                assert os.access(ROOT / program, os.X_OK)
            case "sbatch":
                assert words == ["configs/launch/slurm.sbatch", "train.py"]
            case _:
                known = ("axolotl", "export", "git", "hf", "pip", "python")
                assert program in known, (program, *words)


@pytest.mark.parametrize("page", PAGES)
def test_the_options_of_a_file_are_known(page):
    for block in blocks(PAGES[page], "toml"):
        assert ProbeConfig(**tomllib.loads(block))


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page):
    place = (ROOT / page).parent
    for file, anchor in links(PAGES[page]):
        target = (place / file).resolve() if file else ROOT / page
        assert target.exists(), f"{page} links to {file}"
        if anchor:
            name = target.relative_to(ROOT).as_posix()
            assert anchor in anchors(PAGES[name]), f"{page} links to {file}#{anchor}"


def test_links_are_found():
    assert sum(len(list(links(text))) for text in PAGES.values()) > 30
    assert list(anchors("# My score is 0.005, is it `broken`?")) == [
        "my-score-is-0005-is-it-broken"
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_make_target_that_is_named_exists(page):
    named = r"(?<![\w/.])(?:configs|examples|docs|benchmarks|tests|neuronxa_callback)/[\w./-]*\w"
    for name in re.findall(named, BLOCK.sub("", PAGES[page])):
        if page != "CONTRIBUTING.md":
            assert (ROOT / name).exists(), name
    for target in re.findall(r"`make ([\w-]+)`", PAGES[page]):
        assert f"\n{target}:" in MAKEFILE


def test_the_readme_is_short_and_names_the_tests():
    assert len(README.splitlines()) <= 120
    assert {("make", "quickstart"), ("make", "test"), ("make", "test-all")} <= {
        tuple(line) for line in shell_lines(README)
    }


def test_every_command_has_a_section_with_an_example():
    page = PAGES["docs/cli.md"]
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert sorted(re.findall(r"^## (\S+)$", page, re.MULTILINE)) == sorted(names)
    for name in names:
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert any(line[:2] == ["neuronxa", name] for line in shell_lines(section)), name


def test_every_option_is_in_the_tables():
    page = PAGES["docs/parameters.md"]
    tables = {
        "ProbeConfig": {field.name: field.default for field in fields(ProbeConfig)},
        "NeuronXACallback": {
            name: option.default
            for name, option in inspect.signature(NeuronXACallback).parameters.items()
        },
    }
    for heading, options in tables.items():
        assert first_column(page, heading) == list(options)
        for name, default in options.items():
            shown = re.search(rf"^\| `{name}` \| `(.*?)` \|", page, re.MULTILINE)
            assert shown is None or eval(shown[1]) == default, name


def test_the_families_are_in_the_survey_and_read():
    with (DOCS / "architectures.csv").open(encoding="utf-8", newline="") as file:
        kinds = {}
        for row in csv.DictReader(file):
            kinds.setdefault(row["model"].partition("/")[0], set()).add(row["kind"])
    families = PAGES["docs/architectures.md"].split("## Families")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [^|`]+ \| (`[^|]*) \|", families, re.MULTILINE)
    assert len(rows) == 15
    for row in rows:
        for name in re.findall(r"`([^`]+)`", row):
            assert kinds[name] & {"plain", "gated", "routed", "fused"}, name


def test_the_citation_names_this_version():
    from neuronxa_callback import __version__

    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in text
    assert "arXiv:2507.14900" in text
