"""The examples in the docstrings run."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import neuronxa_callback

NEEDS_TRITON = "neuronxa_callback.probe.sums.kernels"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(neuronxa_callback.__path__, "neuronxa_callback.")
    if not module.name.endswith("__main__")
    and (module.name != NEEDS_TRITON or importlib.util.find_spec("triton"))
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        example
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) > 25
