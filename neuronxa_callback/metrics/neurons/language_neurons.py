"""Language neurons: neurons that fire often in few languages (LAPE, arXiv:2402.16438).

Two views. *Counts* compare every firing rate with a bar that is fixed at the first probe of a run,
so that they can move: a neuron is above the bar in one language (specific), in some (related), in
all (agnostic) or in none (silent), after arXiv:2505.21505. *Selection* takes the 1 % of neurons
with the lowest entropy over languages, as LAPE does; its size is fixed by construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BAR_QUANTILE = 0.95
SELECTED_SHARE = 0.01
KINDS = ("specific", "related", "agnostic", "silent")


@dataclass(frozen=True)
class LanguageNeuron:
    """One selected neuron."""

    layer: int
    """The number of the layer, from 0."""
    index: int
    """The number of the neuron in its layer, from 0."""
    entropy: float
    """Of its rates over languages, in nats; low is specific."""
    languages: tuple[int, ...]
    """The languages in which its rate is above the bar."""
    rates: tuple[float, ...]
    """Its firing rate in each language."""


def firing_bar(rates: Sequence[Tensor], quantile: float = BAR_QUANTILE) -> float:
    """The rate that 5 % of all rates (neurons x languages of all layers) exceed.

    Args:
        rates: p [languages, neurons] of each layer.
        quantile: The share of rates that are at or below the bar.

    Example:
        >>> firing_bar([torch.arange(100).reshape(2, 50)])
        95.0
    """
    flat = torch.cat([layer.double().flatten() for layer in rates])
    rank = min(len(flat), int(quantile * len(flat)) + 1)
    return float(flat.kthvalue(rank).values)


def count_kinds(rates: Tensor, bar: float) -> tuple[int, ...]:
    """The neurons of one layer in the order of ``KINDS``; they sum to the number of neurons.

    Args:
        rates: p [languages, neurons].
        bar: From ``firing_bar`` of the first probe of a run.

    Example:
        >>> count_kinds(torch.tensor([[0.9, 0.9, 0.9, 0], [0, 0.9, 0.9, 0], [0, 0, 0.9, 0]]), 0.5)
        (1, 1, 1, 1)
    """
    above = (rates > bar).sum(dim=0)
    silent, specific, agnostic = (int((above == n).sum()) for n in (0, 1, len(rates)))
    return specific, len(above) - silent - specific - agnostic, agnostic, silent


def count_specific(rates: Tensor, bar: float) -> tuple[int, ...]:
    """The specific neurons of each language in one layer [languages].

    Example:
        >>> count_specific(torch.tensor([[0.9, 0.9, 0.1], [0.0, 0.9, 0.1]]), 0.5)
        (1, 0)
    """
    above = rates > bar
    alone = above & (above.sum(dim=0) == 1)
    return tuple(alone.sum(dim=1).tolist())


def select(
    rates: Sequence[Tensor], bar: float, share: float = SELECTED_SHARE
) -> tuple[LanguageNeuron, ...]:
    """LAPE's neurons: the lowest entropies of those that are above the bar in a language.

    Args:
        rates: p [languages, neurons] of each layer.
        bar: Neurons below it in all languages are left out.
        share: The share of all neurons to select.

    Returns:
        The neurons from the lowest entropy on; equal ones by layer and index.

    Example:
        >>> rates = torch.tensor([[0.8, 0.4, 0.0], [0.0, 0.4, 0.1]])
        >>> [(neuron.index, neuron.languages) for neuron in select([rates], bar=0.3, share=0.67)]
        [(0, (0,)), (1, (0, 1))]
    """
    widths = [layer.shape[1] for layer in rates]
    entropies = torch.cat([_entropy(layer) for layer in rates])
    above = torch.cat([(layer > bar).any(dim=0) for layer in rates])
    entropies = torch.where(above, entropies, torch.inf)
    wanted = min(round(share * len(entropies)), int(above.sum()))
    order = entropies.argsort(stable=True)[:wanted].tolist()
    starts = torch.tensor([0, *widths]).cumsum(0)
    found = []
    for flat in order:
        layer = int(torch.searchsorted(starts, flat, right=True)) - 1
        column = rates[layer][:, flat - int(starts[layer])]
        found.append(
            LanguageNeuron(
                layer,
                flat - int(starts[layer]),
                float(entropies[flat]),
                tuple((column > bar).nonzero().flatten().tolist()),
                tuple(column.tolist()),
            )
        )
    return tuple(found)


def jaccard(one: Sequence[LanguageNeuron], other: Sequence[LanguageNeuron]) -> float:
    """Stability of a selection: the neurons of both over those of either; NaN if both are empty."""
    a, b = ({(neuron.layer, neuron.index) for neuron in side} for side in (one, other))
    return len(a & b) / len(a | b) if a | b else float("nan")


def _entropy(rates: Tensor) -> Tensor:
    """Entropy in nats of the rates of each neuron over languages, scaled to sum 1 [neurons]."""
    q = rates.double() / rates.double().sum(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    return -torch.xlogy(q, q).sum(dim=0)
