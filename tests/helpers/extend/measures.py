"""Measures of one's own in tests: the examples, an installed package, and faulty ones."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from neuronxa_callback import Probe, extend
from neuronxa_callback.extend import Metric
from tests.helpers.probes import config_of, half_translated, trained

EXAMPLES = Path(__file__).parents[3] / "examples"
CORPUS = half_translated(10)
ALL = {
    "metrics": ("nasca", "navca", "fires_anywhere"),
    "neurons": ("overlap", "never_fires"),
    "diagnostics": ("margins", "sinks", "never_nearest"),
}
"""Options with every example."""


def run(tokenizer, model=None, **options):
    """The report of a probe of ``CORPUS``."""
    config = config_of(CORPUS, batch_tokens=64, **options)
    return Probe(config, tokenizer).run(model or trained())


@contextmanager
def registry():
    """What is registered inside is forgotten at the end."""
    before = {kind: dict(known) for kind, known in extend._registered.items()}
    try:
        yield extend
    finally:
        extend._registered.update(before)


def register_examples():
    """Import the examples again, so that they register themselves."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        for name in ("own_metric", "own_neuron_statistic", "own_diagnostic"):
            sys.modules.pop(name, None)
            importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


def breaks(*arguments):
    raise ZeroDivisionError("planned")


def spoils(*arguments):
    """Overwrites what it gets, then fails."""
    for each in arguments:
        each.fill_(7)
    breaks()


def spoils_and_goes_on(states):
    return states.fill_(7.0).clone()


def spoil_counts(layers, languages):
    for layer in layers:
        for counts in layer.tensors():
            counts.fill_(7)
    return {"spoiled": True}


def spoil_similarity(compared):
    compared.similarity.fill_(7.0)
    return 1


class Second:
    """A similarity that fails for the second language only."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *sums):
        self.calls += 1
        return breaks() if self.calls == 2 else Metric().similarity(*sums)


FAULTY = {
    "value": Metric(value=breaks),
    "value_spoils": Metric(value=spoils),
    "weights": Metric(weights=spoils),
    "vector": Metric(vector=spoils),
    "similarity": Metric(similarity=spoils),
    "shape": Metric(similarity=lambda dot, pivot, target: dot[0]),
    "kind": Metric(value=lambda states: None),
    "complex_numbers": Metric(value=lambda states: states.to(torch.complex64)),
    "second_language": Metric(similarity=Second()),
    "memory": Metric(vector=lambda sums: torch.empty(2**60)),
}
"""Name -> a metric that fails, in one way each."""
