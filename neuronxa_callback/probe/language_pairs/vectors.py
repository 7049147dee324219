"""The pooled vectors of all languages in a block of layers, kept as the sentences run."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuronxa_callback.probe.batching import Microbatch, PivotGroup
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.language_pairs.blocks import Cell


class LanguageVectors:
    """The vectors of every sentence of every language, without the pivot; zero until they come.

    Args:
        group: The sentences; all languages have all pivot sentences, in one order.
        cells: The metrics and layers whose vectors are kept.
        parts: Metric -> (layer, width) of each part.
        device: Where the vectors are kept.
    """

    def __init__(
        self,
        group: PivotGroup,
        cells: Sequence[Cell],
        parts: Mapping[str, Sequence[tuple[int, int]]],
        device: torch.device,
    ) -> None:
        self.device = device
        self.languages, self.pairs = len(group.targets), len(group.rows[0])
        self.layers: dict[str, list[int]] = {}
        """Metric -> the layers whose vectors are kept, in order."""
        for metric, layer in cells:
            self.layers.setdefault(metric, []).append(layer)
        self.held: dict[tuple[str, int], Tensor] = {
            (metric, part): torch.zeros(
                self.languages, self.pairs, width, dtype=torch.float32, device=device
            )
            for metric, layers in self.layers.items()
            for part, (layer, width) in enumerate(parts[metric])
            if layer in layers
        }
        """(metric, part) -> [languages, pairs, width]."""
        self.parts = {
            metric: [
                [p for p, (own, _) in enumerate(parts[metric]) if own == layer] for layer in layers
            ]
            for metric, layers in self.layers.items()
        }
        """Metric -> per kept layer its parts."""
        self._places = [
            [(language, i) for language, rows in window.rows.items() for i in range(_size(rows))]
            for window in group.windows
        ]
        self._rows: tuple[Tensor, Tensor] | None = None

    def begin(self, work: Microbatch | None) -> None:
        """Prepares for one forward pass; those of the pivot and dummies (None) are not kept."""
        self._rows = None
        if work is not None and work.window is not None:
            # Once per microbatch, since a copy from the host waits for the device.
            places = torch.tensor([self._places[work.window][row] for row in work.rows])
            language, pair = places.to(self.device).unbind(dim=1)
            self._rows = language, pair

    def add(self, metric: str, part: int, vectors: Tensor) -> None:
        """Keeps the vectors [batch, width] of a part."""
        held = self.held.get((metric, part))
        if held is not None and self._rows is not None:
            held[self._rows] = vectors.to(held)

    def add_layers(self, metrics: Sequence[str], first: int, vectors: Tensor) -> None:
        """Keeps vectors [layers, metrics, batch, width] of the parts from ``first`` on."""
        for k, of_metrics in enumerate(vectors):
            for metric, each in zip(metrics, of_metrics, strict=True):
                self.add(metric, first + k, each)

    def exchange(self, world: World, device: torch.device) -> None:
        """Collective: every rank gets the vectors of all ranks that share the work; exact."""
        for held in self.held.values() if world.size > 1 else ():
            # Tensors on the host are exchanged through the device.
            on_device = held.to(device)
            world.sum_over_data_ranks(on_device)
            held.copy_(on_device)

    def of_language(self, metric: str, language: int, device: torch.device) -> list[list[Tensor]]:
        """Per kept layer the vectors [pairs, width] of its parts."""
        return [
            [self.held[metric, part][language].to(device) for part in parts]
            for parts in self.parts[metric]
        ]


def _size(rows: slice) -> int:
    return int(rows.stop - rows.start)
