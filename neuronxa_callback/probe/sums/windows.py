"""The similarity sums of a window of languages, from those of its microbatches."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PartialSimilarity:
    """What one microbatch adds to the similarity matrices of its window."""

    rows: tuple[int, ...]
    """Which sentences of the window these are."""
    dot: Mapping[str, Tensor]
    """metric -> [layers, sentences of the pivot, batch]."""
    squares: Mapping[str, Tensor]
    """metric -> [layers, batch]."""
    statistics: Mapping[str, Tensor]
    """``"shares"``, of the largest token in NAV, and ``"activity"``, of active states, if computed:
    each [layers, batch] in [0, 1]."""


@dataclass(frozen=True)
class WindowSums:
    """What a rank has computed of a window; zero where other ranks compute.

    The sum over ranks is exact: in each place at most one rank has a value other than zero.
    """

    dot: Mapping[str, Tensor]
    """metric -> [layers, sentences of the pivot, sentences]."""
    squares: Mapping[str, Tensor]
    """metric -> [layers, sentences]."""
    pivot_squares: Mapping[str, Tensor]
    """metric -> [layers, sentences of the pivot], from the rank that runs the first sentence."""
    statistics: Mapping[str, Tensor]
    """``"shares"`` or ``"activity"``, if computed -> [layers, sentences]."""

    @classmethod
    def zeros(
        cls,
        layers: Mapping[str, int],
        statistics: Mapping[str, int],
        sentences: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> "WindowSums":
        """Those of a window of which nothing is computed yet.

        Args:
            layers: metric -> the number of its layers.
            statistics: statistic -> the number of its layers.
            sentences: How many the pivot and the window have.
            dtype: Of dot products and squared lengths.
            device: Where they are kept.
        """
        pivots, targets = sentences
        return cls(
            {
                m: torch.zeros(n, pivots, targets, dtype=dtype, device=device)
                for m, n in layers.items()
            },
            {m: torch.zeros(n, targets, dtype=dtype, device=device) for m, n in layers.items()},
            {m: torch.zeros(n, pivots, dtype=dtype, device=device) for m, n in layers.items()},
            {
                name: torch.zeros(n, targets, dtype=torch.float32, device=device)
                for name, n in statistics.items()
            },
        )

    def add(self, part: PartialSimilarity, pivot_squares: Mapping[str, Tensor]) -> None:
        """Puts the sums of one microbatch in their places."""
        if 0 in part.rows:
            for metric, squares in pivot_squares.items():
                self.pivot_squares[metric].copy_(squares)
        # Once per microbatch, since a copy from the host waits for the device.
        device = next(iter(self.dot.values())).device
        index = torch.tensor(part.rows, dtype=torch.long, device=device)
        for whole, parts in (
            (self.dot, part.dot),
            (self.squares, part.squares),
            (self.statistics, part.statistics),
        ):
            for name, values in parts.items():
                whole[name][..., index] = values

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in the same order on every rank."""
        return (
            *self.dot.values(),
            *self.squares.values(),
            *self.pivot_squares.values(),
            *self.statistics.values(),
        )
