"""How far the pivot's own states have turned since the first probe.

A score can fall because a language moves or because the pivot does. The directions of a few pivot
vectors of the first probe are kept on the host.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.probe.diagnostics import curve
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.similarity import LayerLayout, Pivot

SENTENCES = 8
"""Number of pivot sentences that are followed."""

Directions = dict[tuple[str, int], Tensor]
"""(metric, part) -> [sentences, width] fp16."""


class PivotDrift:
    """Remembers the first probe."""

    def __init__(self) -> None:
        self.since: int | None = None
        self.first: Directions = {}
        self._next: tuple[int, Directions] | None = None

    def keep(self) -> None:
        """Remembers what the latest ``measure`` found, once its probe has succeeded on all ranks.

        Else ranks could differ in whether a probe is their first one.
        """
        if self._next is not None:
            self.since, self.first = self._next
            self._next = None

    def entries(
        self, pivot: Pivot, layouts: Mapping[str, LayerLayout], world: World, step: int
    ) -> dict[str, Any]:
        """Collective over slices of neurons: ``measure`` as an entry of a report's ``run``.

        It depends on an earlier probe, so it is no score. Empty at the first probe.
        """
        drift = self.measure(pivot, layouts, world, step)
        return {} if drift is None else {"pivot_drift": drift}

    def measure(
        self, pivot: Pivot, layouts: Mapping[str, LayerLayout], world: World, step: int
    ) -> dict[str, Any] | None:
        """Collective over slices of neurons: 1 - cosine with the first probe, per layer.

        Call ``keep`` after it.

        Args:
            pivot: The vectors and squared lengths of this probe.
            layouts: metric -> the parts of its layers.
            world: The ranks.
            step: The step of this probe.

        Returns:
            metric -> means over ``SENTENCES`` sentences, in [0, 2] (NAS and NAV vectors have no
            negative entries: in [0, 1]), and ``since``, the step of the first probe. None at the
            first probe.
        """
        now = {
            (name, part): _directions(
                vectors, pivot.squares[name], layouts[name].layer_of_part[part]
            )
            for (name, part), vectors in pivot.vectors.items()
            if name in layouts
        }
        if self.since is None or _shapes(self.first) != _shapes(now):
            self._next = step, now
            return None
        drift: dict[str, Any] = {"since": self.since}
        for name, layout in layouts.items():
            sentences = min(SENTENCES, pivot.squares[name].shape[1])
            shape = (layout.layers, sentences)
            cosines = torch.zeros(shape, dtype=torch.float32, device="cpu")
            for part, layer in enumerate(layout.layer_of_part):
                first, latest = self.first[name, part].float(), now[name, part].float()
                cosines[layer] += (first * latest).sum(dim=1)
            device = pivot.squares[name].device
            cosines = world.sum_over_tensor_ranks(cosines.to(device)).cpu()
            drift[name] = curve((1 - cosines.mean(dim=1)).clamp(min=0))
        return drift


def _directions(vectors: Tensor, squares: Tensor, layer: int) -> Tensor:
    """[sentences, width] in fp16, scaled so that the vector of the whole layer has length 1."""
    lengths = squares[layer, :SENTENCES].sqrt().float()[:, None].to(vectors.device)
    return (vectors[:SENTENCES].float() / lengths).to("cpu", torch.float16)


def _shapes(directions: Directions) -> dict[tuple[str, int], torch.Size]:
    return {key: vectors.shape for key, vectors in directions.items()}
