"""How far the pivot's own states have turned since the first probe.

A falling score can mean that a language moves, or that the pivot does. What is kept of the first
probe is the direction of a few of the pivot's vectors, on the host.
"""

from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.probe.diagnostics import curve
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.similarity import Layout, Pivot

SENTENCES = 8
"""How many of the pivot's sentences are followed."""


class Drift:
    """Remembers the first probe of this process."""

    def __init__(self) -> None:
        self.since: int | None = None
        self.first: dict[tuple[str, int], Tensor] = {}

    def of(
        self, pivot: Pivot, layouts: dict[str, Layout], world: World, step: int
    ) -> dict[str, Any] | None:
        """Collective over slices of neurons: metric -> per layer, 1 - cosine with the first probe.

        Args:
            pivot: Its vectors and squared lengths as this probe found them.
            layouts: metric -> how its layers are made up.
            world: The ranks.
            step: The step of this probe.

        Returns:
            Means over ``SENTENCES`` sentences, in [0, 2] (NAS and NAV vectors have no negative
            entries: in [0, 1]), with ``since``, the step of the first probe; None at the first.
        """
        now = {
            (name, part): _directions(vectors, pivot.squares[name], layouts[name].places[part])
            for (name, part), vectors in pivot.vectors.items()
            if name in layouts
        }
        if self.since is None or not _alike(self.first, now):
            self.since, self.first = step, now
            return None
        found: dict[str, Any] = {"since": self.since}
        for name, layout in layouts.items():
            cosines = torch.zeros(layout.layers, min(SENTENCES, pivot.squares[name].shape[1]))
            for part, layer in enumerate(layout.places):
                first, here = self.first[name, part].float(), now[name, part].float()
                cosines[layer] += (first * here).sum(dim=1)
            whole = world.sum_over_tensor_ranks(cosines.to(pivot.squares[name].device)).cpu()
            found[name] = curve((1 - whole.mean(dim=1)).clamp(min=0))
        return found


def _directions(vectors: Tensor, squares: Tensor, layer: int) -> Tensor:
    """[sentences, width] of whole-layer length 1, in half the bytes."""
    lengths = squares[layer, :SENTENCES].sqrt().float()[:, None].to(vectors.device)
    return (vectors[:SENTENCES].float() / lengths).to("cpu", torch.float16)


def _alike(one: dict[tuple[str, int], Tensor], other: dict[tuple[str, int], Tensor]) -> bool:
    shapes = ({key: each.shape for key, each in side.items()} for side in (one, other))
    return next(shapes) == next(shapes)
