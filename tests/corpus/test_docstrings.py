"""The examples in the docstrings of the corpus run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["parallel", "constructors", "check", "languages", "surface"])
def test_the_examples_of_a_module_run(module):
    tested = importlib.import_module(f"neuronxa_callback.corpus.{module}")
    failed, run = doctest.testmod(tested)
    assert failed == 0
    assert run > 0
