"""Shared by the tests of sums."""

import pytest
import torch


@pytest.fixture(autouse=True)
def new_memory_holds_nan():
    """Memory that nothing is written to is then no zero by chance."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
