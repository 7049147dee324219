"""Which pairs block which: the counts behind intervals, hubs and scores at other sizes.

Pair j *blocks* pair i when c_ij >= c_ii or c_ji >= c_ii (j != i): its target or its pivot sentence
is at least as near as pair i's own. A tie blocks; a pair that blocks in both directions counts
once. A pair is weakly aligned when no other pair blocks it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.variance import signs


@dataclass(frozen=True)
class Blocking:
    """Whole numbers [layers, pairs] of one language, int64, on the device."""

    blockers: Tensor
    """b_i, the number of pairs that block pair i."""
    sole_blocks: Tensor
    """u_j, the number of pairs that pair j alone blocks."""
    second_differences: Tensor
    """r_j, signed; see ``neuronxa_callback.metrics.variance``."""
    by_pivot: Tensor
    """The number of pairs that the pivot sentence of pair j blocks."""
    by_target: Tensor
    """The number of pairs that the target sentence of pair j blocks."""


def count_blocks(similarity: Tensor) -> Blocking:
    """Counts the blocks of all layers in a few matrix products; exact.

    Args:
        similarity: [layers, pairs, pairs] cosines; row i is pivot sentence i.

    Example:
        >>> counts = count_blocks(torch.tensor([[[0.9, 0.1], [0.9, 0.8]]]))
        >>> counts.blockers.tolist(), counts.by_pivot.tolist(), counts.by_target.tolist()
        ([[1, 1]], [[0, 1]], [[1, 0]])
    """
    by_target, by_pivot = _blocks(similarity)
    blocks = (by_target | by_pivot).to(alignment.product_dtype(similarity.device))
    blockers = blocks.sum(dim=-1)
    eps = torch.tensor(
        signs(similarity.shape[-1]).tolist(), dtype=blocks.dtype, device=blocks.device
    )
    one, two = (blockers == 1).to(blocks), (blockers == 2).to(blocks)
    with alignment.full_precision(similarity.device):
        signed = blocks @ eps
        weights = torch.stack((one, two * signed, two, one * eps), dim=-1)
        sole, doubly_signed, doubly, sole_signed = (blocks.mT @ weights).unbind(dim=-1)
    second = doubly_signed - eps * doubly - sole_signed - one * signed
    return Blocking(
        blockers=blockers.long(),
        sole_blocks=sole.long(),
        second_differences=second.long(),
        by_pivot=by_pivot.sum(dim=-2),
        by_target=by_target.sum(dim=-2),
    )


def count_sole_blocks(similarity: Tensor, among: Tensor) -> Tensor:
    """How many of some pairs each pair alone blocks [layers, pairs], int64.

    Args:
        similarity: As in ``count_blocks``.
        among: [pairs] bool: the pairs whose blockers are counted. All pairs may block them.

    Example:
        >>> cosines = torch.tensor([[[0.9, 0.1], [0.9, 0.8]]])
        >>> count_sole_blocks(cosines, torch.tensor([True, False])).tolist()
        [[0, 1]]
    """
    by_target, by_pivot = _blocks(similarity)
    blocks = by_target | by_pivot
    alone = (blocks.sum(dim=-1) == 1) & among
    return (blocks & alone[..., None]).sum(dim=-2)


def _blocks(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """[layers, i, j]: whether the target, and whether the pivot, of pair j blocks pair i."""
    own = similarity.diagonal(dim1=-2, dim2=-1) - alignment.tie_width(similarity)
    eye = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return (similarity >= own[..., :, None]) & ~eye, (similarity.mT >= own[..., :, None]) & ~eye
