"""From similarity matrices to scores per pair and layer, as a report holds them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.scores import Counts

QUANTILES = (0.1, 0.5, 0.9)
"""Quantiles of the margin over pairs."""


@dataclass(frozen=True)
class PairScores:
    """One metric of one language. Tensors stay on the device, so that no host waits for it."""

    hits: Tensor
    """[layers, pairs] bool: weakly aligned."""
    pivot_to_target: Tensor
    """[layers] number of pivot sentences whose nearest target is their own pair."""
    target_to_pivot: Tensor
    """[layers] the same from target to pivot."""
    mutual: Tensor
    """[layers] M, the cells that are strict maxima of their row and column."""
    nan: Tensor
    """[layers] bool: the layer holds NaN."""
    margins: Mapping[str, Tensor]
    """Statistic -> [layers]; empty unless requested."""


def score_similarity(similarity: Tensor, margins: bool) -> PairScores:
    """Scores the pairs of one language in all layers.

    Args:
        similarity: [layers, pairs, pairs] cosines; row i is pivot sentence i.
        margins: Whether to compute ``margins_of`` too.

    Raises:
        ValueError: If ``similarity`` is not square or has fewer than 2 pairs.
    """
    pivot_to_target, target_to_pivot = alignment.retrieved(similarity)
    return PairScores(
        hits=alignment.weakly_aligned(similarity),
        pivot_to_target=pivot_to_target.sum(dim=1),
        target_to_pivot=target_to_pivot.sum(dim=1),
        mutual=alignment.mutual_maxima(similarity),
        nan=alignment.holds_nan(similarity),
        margins=margins_of(similarity) if margins else {},
    )


def margins_of(similarity: Tensor) -> dict[str, Tensor]:
    """Statistics [layers] that still move when the score is at its floor or ceiling.

    ``margin_10``, ``_50``, ``_90``: quantiles over pairs of c_ii - best rival in row or column.
    ``mrr``: mean reciprocal rank of the own pair over both directions, ties counted against it.
    ``non_pairs``: mean cosine of sentences that are not a pair. ``ties``: pairs that tie with
    their best rival.

    Args:
        similarity: [layers, pairs, pairs] cosines.
    """
    own = similarity.diagonal(dim1=-2, dim2=-1)
    row, column = alignment.rivals(similarity)
    margin = own - torch.maximum(row, column)
    pairs = similarity.shape[-1]
    levels = torch.tensor(QUANTILES, dtype=margin.dtype, device=margin.device)
    quantiles = margin.quantile(levels, dim=-1)
    ranks = [(similarity >= own.unsqueeze(axis)).sum(dim=axis).to(own) for axis in (-1, -2)]
    others = similarity.sum(dim=(-2, -1)) - own.sum(dim=-1)
    statistics = {
        f"margin_{level * 100:.0f}": quantile
        for level, quantile in zip(QUANTILES, quantiles, strict=True)
    }
    return statistics | {
        "mrr": sum((1 / rank).mean(dim=-1) for rank in ranks) / 2,
        "non_pairs": others / (pairs * (pairs - 1)),
        "ties": (margin == 0).sum(dim=-1),
    }


def pack_hits(hits: Tensor, nan: Tensor) -> Counts:
    """One whole number per layer whose bit i says whether pair i is aligned; None for NaN.

    >>> hits = torch.tensor([[True, False, True], [True, True, True]])
    >>> pack_hits(hits, torch.tensor([False, True]))
    (5, None)

    Args:
        hits: [layers, pairs] bool.
        nan: [layers] bool.
    """
    return tuple(
        None if bad else sum(1 << i for i, hit in enumerate(row) if hit)
        for row, bad in zip(hits.tolist(), nan.tolist(), strict=True)
    )


def layer_counts(counts: Tensor, nan: Tensor) -> Counts:
    """Whole numbers [layers] as plain numbers; None for NaN.

    >>> layer_counts(torch.tensor([3, 7]), torch.tensor([False, True]))
    (3, None)
    """
    return tuple(
        None if bad else int(count)
        for count, bad in zip(counts.tolist(), nan.tolist(), strict=True)
    )
