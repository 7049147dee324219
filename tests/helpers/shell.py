"""``neuronxa`` as at a shell, and what it is used on: fixtures of several files."""

import sys

import pytest

from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig
from neuronxa_callback.cli import main
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import llama

LANGUAGES = ("deu_Latn", "fra_Latn")
CONFIG = ProbeConfig(languages=LANGUAGES, n_pairs=10, batch_tokens=512)
OPTIONS = ("--languages", "de,French", "--n-pairs", "10")


def neuronxa(monkeypatch, capsys):
    """Runs ``neuronxa ...``: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["neuronxa", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


def tokenizer():
    return tokenizer_for(ParallelCorpus.builtin(languages=LANGUAGES))


def is_one_sentence_on_the_hub(said):
    """Whether a command ended with nothing but why the hub gave it no model."""
    code, out, err = said
    words = "neuronxa: a model must be a folder or a name on the hub that can be loaded, "
    start = err.startswith(f"{words}got 'no-such/model': ")
    return (code, out, start, "huggingface.co" in err, err.count("\n")) == (2, "", True, True, 1)


def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(tokenizer, tmp_path_factory):
    """A real run with three checkpoints, measured while it trained."""
    folder = tmp_path_factory.mktemp("run")
    saves = {"save_strategy": "steps", "save_steps": 2}
    trainer_of(tokenizer, folder, [NeuronXACallback(CONFIG, every=2)], args=saves).train()
    return folder
