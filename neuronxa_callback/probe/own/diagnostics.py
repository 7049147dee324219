"""The diagnostics of one's own in a probe: each gets every metric of every language."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from neuronxa_callback.metrics.own import Compared, Faults, owner_of, plain_result


class OwnDiagnostics:
    """Runs registered diagnostics and keeps what they return.

    Args:
        functions: Name -> diagnostic.
        pairs: language -> (pivot sentence, translation), as measured.
        faults: Where their errors go; a fault in one metric costs no other.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[[Compared], Any]],
        pairs: Mapping[str, Sequence[tuple[str, str]]],
        faults: Faults,
    ) -> None:
        self.functions, self.pairs, self.faults = functions, pairs, faults
        self.found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in functions}
        """Name -> metric -> language -> plain values; None after a fault."""

    def add(self, metric: str, language: str, similarity: Tensor) -> None:
        """Takes the similarities [layers, pairs, pairs] of a complete language."""
        pairs = tuple((pivot, target) for pivot, target in self.pairs[language])
        for name, function in self.functions.items():
            compared = Compared(metric, language, similarity.clone(), pairs)
            self.found[name].setdefault(metric, {})[language] = self.faults.run(
                owner_of("diagnostic", name, metric), partial(plain_result, function, compared)
            )
