"""Fixtures of the command line: the program, a saved model, a run with checkpoints."""

import contextlib
import io
import sys
from pathlib import Path

import pytest

from neuronxa_callback import NeuronXACallback, ParallelCorpus
from tests.helpers import shell
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import llama

neuronxa = pytest.fixture(shell.neuronxa)


@pytest.fixture(scope="session")
def tokenizer():
    return tokenizer_for(ParallelCorpus.builtin(languages=shell.LANGUAGES))


@pytest.fixture(scope="session")
def saved(tokenizer, tmp_path_factory):
    """A folder with a model and its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def run(tokenizer, tmp_path_factory):
    """A real run with three checkpoints, measured during training."""
    folder = tmp_path_factory.mktemp("run")
    saves = {"save_strategy": "steps", "save_steps": 2}
    trainer_of(tokenizer, folder, [NeuronXACallback(shell.CONFIG, every=2)], args=saves).train()
    return folder


@pytest.fixture
def neuronxa_on_full_disk(neuronxa, monkeypatch):
    """As ``neuronxa``, with standard output on a disk that is full."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")

    def run(*arguments):
        full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closing it may fail
        with contextlib.suppress(OSError), full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(full, encoding="utf-8"))
            result = neuronxa(*arguments)
        return result

    return run
