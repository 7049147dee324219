"""Every Python and shell block of the README runs with a small model; every path exists."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from neuronxa_callback import NeuronXACallback, ParallelCorpus
from tests.helpers import shell
from tests.helpers.runs import trainer_of
from tests.helpers.tiny import llama, tokenizer_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
neuronxa = pytest.fixture(shell.neuronxa)


def lines_of(program):
    """The arguments of every line that starts a program, after ``NAME=value``."""
    commands = [[word for word in words if not re.match(r"[A-Z]+=", word)] for words in LINES]
    arguments = [words[1:] for words in commands if words[0] == program]
    assert arguments, f"the README must show {program}"
    return arguments


def small():
    return llama(vocab_size=2000, num_hidden_layers=2, intermediate_size=48)


@pytest.fixture(scope="module")
def tokenizer():
    corpus = ParallelCorpus.builtin()
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    return tokenizer_of(texts, vocab_size=2000)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A folder with every file that the shell lines of the README name."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("out", "other"):
        callback = NeuronXACallback(shell.CONFIG, every=2)
        saves = {"save_strategy": "steps", "save_steps": 4}
        trainer_of(tokenizer, folder / "runs" / name, [callback], small(), saves).train()
    shutil.copytree(folder / "runs/out/checkpoint-4", folder / "runs/out/checkpoint-500")
    shutil.copytree(folder / "runs/out/checkpoint-4", folder / "Qwen/Qwen3-8B")
    for number in (1, 2):
        (folder / f"train-{number}.jsonl").write_text('{"text": "Some other sentence here."}\n')
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_python_blocks_run_in_order(tokenizer, tmp_path, monkeypatch):
    assert len(BLOCKS) >= 5
    monkeypatch.chdir(tmp_path)
    corpus = ParallelCorpus.builtin()
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    rows = [
        {"input_ids": ids, "labels": ids}
        for ids in (tokenizer(text)["input_ids"][:8] for text in texts[:40])
        if len(ids) == 8
    ]
    names = {
        "model": small(),
        "tokenizer": tokenizer,
        "train_dataset": rows,
        "eval_dataset": rows[:8],
    }
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "out" / "neuronxa" / "reports.jsonl").exists()
    assert 0 <= names["report"].score("nasca") <= 1


@pytest.mark.parametrize("words", lines_of("neuronxa"), ids=lambda words: words[0])
def test_the_shell_lines_run(words, folder, neuronxa, monkeypatch):
    monkeypatch.chdir(folder)
    words = [
        str(path)
        for word in words
        for path in (sorted(Path().glob(word)) if "*" in word else [word])
    ]
    code, out, err = neuronxa(*words)
    assert (code, err) == (0, "")
    assert out.strip()
    if words[0] == "page":
        assert (folder / out.strip()).stat().st_size > 10_000


def test_every_other_shell_line_is_a_valid_command():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for (target,) in lines_of("make"):
        assert target in targets
    for words in lines_of("accelerate"):
        assert words[0] == "launch"
        launch_command_parser().parse_args(words[1:])
    for _ in lines_of("configs/launch/torchrun.sh"):
        assert os.access(ROOT / "configs/launch/torchrun.sh", os.X_OK)
    for file, script in lines_of("sbatch"):
        assert (file, script) == ("configs/launch/slurm.sbatch", "train.py")
    known = ("neuronxa", "make", "accelerate", "configs/launch/torchrun.sh", "sbatch")
    assert sum(len(lines_of(program)) for program in known) == len(LINES)


def test_every_path_and_make_target_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) >= 4
    files = re.findall(r"\b(?:configs|examples|docs|benchmarks|neuronxa_callback)/[\w./-]+", TEXT)
    assert len(files) >= 10
    for name in [*links, *files]:
        assert (ROOT / name.rstrip(".")).exists(), name
    targets = re.findall(r"`make ([\w-]+)`", TEXT)
    assert targets
    assert all(f"\n{each}:" in (ROOT / "Makefile").read_text(encoding="utf-8") for each in targets)
