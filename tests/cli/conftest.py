"""Fixtures of the command line: the program, a saved model, a run with checkpoints."""

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
