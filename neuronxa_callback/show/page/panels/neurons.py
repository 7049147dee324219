"""The curves of neuron statistics of a run: overlap, sharing and language neurons, step by step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.metrics.neurons import language_neurons
from neuronxa_callback.metrics.neurons import sharing as sharing_kinds
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.page.packer import UNKNOWN, Packer, packed_shares

RULES = ("any", "last")
PARTS = ("shares", "null", "errors")
Diagnostics = Mapping[str, Any]


class NeuronCurves:
    """Collects the neuron statistics of one report after another.

    Args:
        first: The first report; the others have its languages.
        steps: The number of reports.
    """

    def __init__(self, first: AlignmentReport, steps: int) -> None:
        self.languages = first.languages
        self.steps, self.filled = steps, 0
        self.arrays: dict[str, NDArray[np.uint16]] = {}
        """Name -> shares [steps, ..., layers]; a step without the statistic is unknown."""

    def add(self, report: AlignmentReport) -> None:
        """Take the statistics of the next report, if it has any."""
        for name, read in READERS.items():
            found = report.diagnostics.get(name)
            if found:
                for key, numbers in read(found, self.languages).items():
                    self._put(f"{name}_{key}", numbers)
        self.filled += 1

    def _put(self, key: str, numbers: Sequence[Any]) -> None:
        shares = packed_shares(np.array(numbers, dtype=float))
        if key not in self.arrays:
            self.arrays[key] = np.full((self.steps, *shares.shape), UNKNOWN, "<u2")
        if self.arrays[key].shape[1:] == shares.shape:
            self.arrays[key][self.filled] = shares

    def entry(self, packer: Packer) -> dict[str, Any]:
        """Name -> packed shares; empty if no report has the statistics."""
        return {key: packer.put(array) for key, array in self.arrays.items()}


def _overlap(found: Diagnostics, languages: Sequence[str]) -> dict[str, Any]:
    """``with_pivot`` [languages, layers], and ``chance`` and the mean ``ceiling`` [layers]."""
    layers = len(found["chance"])
    unknown = [None] * layers
    return {
        "with_pivot": [found["with_pivot"].get(name, unknown) for name in languages],
        "chance": found["chance"],
        "ceiling": np.mean(np.array([*found["ceiling"].values()], dtype=float), axis=0),
    }


def _sharing(found: Diagnostics, languages: Sequence[str]) -> dict[str, Any]:
    """Rule -> [``PARTS``, kinds, layers]."""
    return {
        rule: [[found[rule][part][kind] for kind in sharing_kinds.KINDS] for part in PARTS]
        for rule in RULES
    }


def _language_neurons(found: Diagnostics, languages: Sequence[str]) -> dict[str, Any]:
    """The share of each kind of neurons [kinds, layers], and of specific ones [languages, layers].

    The share is that of the layer's neurons.
    """
    counts = np.array([found["neurons"][kind] for kind in language_neurons.KINDS], dtype=float)
    unknown = [None] * counts.shape[1]
    specific = [found["specific"].get(name, unknown) for name in languages]
    neurons = counts.sum(axis=0)
    return {
        "kinds": counts / neurons,
        "specific": np.array(specific, dtype=float) / neurons,
        "stability": [found["stability"]],
    }


READERS: Mapping[str, Callable[[Diagnostics, Sequence[str]], dict[str, Any]]] = {
    "overlap": _overlap,
    "sharing": _sharing,
    "language_neurons": _language_neurons,
}
