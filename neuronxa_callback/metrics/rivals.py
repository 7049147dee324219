"""Which other sentence wins where a pair is not aligned."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment

NOBODY = -1
"""The rival of a pair that is aligned in every layer."""


@dataclass(frozen=True)
class Rivals:
    """The rival of each pair: the sentence that wins in most layers in which the pair fails.

    Tensors [pairs] on the device.
    """

    pair: Tensor
    """The pair of that sentence, int64; ``NOBODY`` where no layer fails."""
    by_pivot: Tensor
    """Bool: it is the pivot sentence of that pair, else the target sentence."""
    layers: Tensor
    """The number of layers in which it wins, int64."""


def find_rivals(similarity: Tensor) -> Rivals:
    """The rivals of all pairs; layers with NaN are left out.

    In a layer in which pair i fails, the sentence wins that has the highest of the cosines c_ij
    (target sentence j) and c_ji (pivot sentence j), j != i. Of equal ones (``tie_width``), targets
    come before pivots and smaller numbers first; so do sentences that win in equally many layers.

    Args:
        similarity: [layers, pairs, pairs] cosines; row i is pivot sentence i.

    Example:
        >>> found = find_rivals(torch.tensor([[[0.9, 0.1], [0.95, 0.8]]]))
        >>> found.pair.tolist(), found.by_pivot.tolist(), found.layers.tolist()
        ([1, 0], [True, False], [1, 1])
    """
    pairs, width = similarity.shape[-1], alignment.tie_width(similarity)
    fails = ~alignment.weakly_aligned(similarity)
    fails &= ~alignment.holds_nan(similarity)[:, None]
    (target, from_target), (pivot, from_pivot) = (
        _nearest(each, width) for each in (similarity, similarity.mT)
    )
    winner = torch.where(from_target >= from_pivot - width, target, pairs + pivot)
    votes = torch.zeros(pairs, 2 * pairs, dtype=torch.int64, device=similarity.device)
    votes.scatter_add_(1, winner.T, fails.T.long())
    layers = votes.amax(dim=1)
    # The first of the largest.
    place = (votes == layers[:, None]).int().argmax(dim=1)
    return Rivals(
        pair=torch.where(layers > 0, place % pairs, NOBODY),
        by_pivot=(place >= pairs) & (layers > 0),
        layers=layers,
    )


def _nearest(similarity: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """The column of the highest other cell of each row [layers, pairs], and its value."""
    own = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    others = similarity.masked_fill(own, -torch.inf)
    highest = others.amax(dim=-1)
    return (others >= highest[..., None] - width).int().argmax(dim=-1), highest
