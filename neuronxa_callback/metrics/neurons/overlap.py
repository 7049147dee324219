"""Overlap: how many of the most active neurons a language shares with the pivot.

An analogue of arXiv:2406.13229, which selects dimensions of the residual stream by a probe; here a
layer's neurons with the highest firing rates are selected. The coefficient is |A and B| / k, never
Jaccard's (J = o / (2 - o)).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SHARE = 0.05
"""The share of a layer's neurons that is selected, rounded, at least one."""


@dataclass(frozen=True)
class Overlap:
    """Overlap of one layer; the arrays have one entry per language, the pivot first."""

    with_pivot: tuple[float, ...]
    """With the pivot's neurons, in [0, 1]; 1 for the pivot itself."""
    ceiling: tuple[float, ...]
    """Of the same language with itself: even sentences against odd ones."""
    chance: float
    """The expected overlap of k neurons drawn at random: k / D."""
    selected: int
    """k."""
    tied: tuple[int, ...]
    """Neurons that are not selected although they fire as often as one that is."""


def overlap(rates: Tensor, half_rates: Tensor, share: float = SHARE) -> Overlap:
    """The overlap of every language with the pivot.

    Args:
        rates: p [languages, neurons]; the pivot is language 0.
        half_rates: [2, languages, neurons], the same of disjoint halves of the sentences.
        share: The share of neurons to select; equal rates are selected by index.

    Example:
        >>> rates = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.8, 0.0]])
        >>> found = overlap(rates, torch.stack([rates, rates]), share=0.5)
        >>> found.with_pivot, found.ceiling, found.chance
        ((1.0, 0.5), (1.0, 1.0), 0.5)
    """
    neurons = rates.shape[-1]
    k = max(1, round(share * neurons))
    chosen, halves = _top(rates, k), _top(half_rates, k)
    lowest = torch.where(chosen, rates, torch.inf).amin(dim=-1, keepdim=True)
    tied = ((rates == lowest) & ~chosen).sum(dim=-1)
    return Overlap(
        with_pivot=_shares(chosen & chosen[0], k),
        ceiling=_shares(halves[0] & halves[1], k),
        chance=k / neurons,
        selected=k,
        tied=tuple(tied.tolist()),
    )


def _top(rates: Tensor, k: int) -> Tensor:
    """A mask of the k highest rates of each row, the first ones of equals."""
    order = rates.argsort(dim=-1, descending=True, stable=True)[..., :k]
    return torch.zeros_like(rates, dtype=torch.bool).scatter_(-1, order, True)


def _shares(both: Tensor, k: int) -> tuple[float, ...]:
    return tuple((both.sum(dim=-1).double() / k).tolist())
