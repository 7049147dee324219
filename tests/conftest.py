"""Settings and fixtures of all tests: offline, one thread, fixed random examples."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_CONSOLE", "off")

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.helpers.tiny import SPELLING, llama, parallel, tokenizer_of

torch.set_num_threads(1)
# No deadline, since a busy machine is no failure; the same examples are drawn in every run.
settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


@pytest.fixture
def corpus():
    return parallel()


@pytest.fixture(scope="session")
def tokenizer():
    pairs = parallel(40, tuple(SPELLING), seed=1).pairs.values()
    return tokenizer_of([text for each in pairs for pair in each for text in pair])


@pytest.fixture
def model():
    return llama()
