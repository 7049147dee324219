"""From similarity matrices to scores per pair and layer, as a report holds them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.blocking import Blocking, count_blocks
from neuronxa_callback.metrics.variance import HUB_SHARE, Array
from neuronxa_callback.scores import Counts, Hub

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
    blocking: Blocking
    """Which pairs block how many others."""
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
        blocking=count_blocks(similarity),
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
    width = alignment.tie_width(similarity)
    ranks = [(similarity >= own.unsqueeze(axis) - width).sum(dim=axis).to(own) for axis in (-1, -2)]
    others = similarity.sum(dim=(-2, -1)) - own.sum(dim=-1)
    statistics = {
        f"margin_{level * 100:.0f}": quantile
        for level, quantile in zip(QUANTILES, quantiles, strict=True)
    }
    return statistics | {
        "mrr": sum((1 / rank).mean(dim=-1) for rank in ranks) / 2,
        "non_pairs": others / (pairs * (pairs - 1)),
        "ties": (margin.abs() <= width).sum(dim=-1),
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


def layer_hubs(scores: PairScores) -> tuple[Hub | None, ...]:
    """The strongest hub of each layer; None if there is none, or NaN.

    A sentence is a hub if its pair alone blocks a tenth of the pairs, or if the sentence blocks a
    tenth of them and four times as many as the median sentence of its side. (If a layer aligns next
    to nothing, every sentence blocks many pairs, and none of them is a hub.)
    """
    blocking = scores.blocking
    columns = torch.stack((blocking.by_pivot, blocking.by_target), dim=1).cpu().numpy()
    layers = zip(columns, blocking.sole_blocks.cpu().numpy(), scores.nan.tolist(), strict=True)
    return tuple(None if nan else _hub_of(blocked, sole) for blocked, sole, nan in layers)


def _hub_of(blocked: Array, sole: Array) -> Hub | None:
    """The strongest hub, from the counts of one layer: [2, pairs] and [pairs]."""
    few = HUB_SHARE * len(sole)
    pair = int(sole.argmax())
    side = int(blocked[:, pair].argmax())
    if sole[pair] < few:
        common = np.median(blocked, axis=1, keepdims=True)
        standing_out = np.where((blocked >= few) & (blocked >= 4 * common), blocked, 0)
        side, pair = map(int, np.unravel_index(standing_out.argmax(), standing_out.shape))
        if not standing_out[side, pair]:
            return None
    return Hub(("pivot", "target")[side], pair, int(blocked[side, pair]), int(sole[pair]))


def sum_layers(values: Tensor, nan: Tensor) -> tuple[int, ...] | None:
    """Whole numbers [layers, pairs] summed over layers; None if a layer holds NaN.

    >>> sum_layers(torch.tensor([[1, 2], [3, 4]]), torch.tensor([False, False]))
    (4, 6)
    """
    return None if bool(nan.any()) else tuple(values.sum(dim=0).tolist())


def blocker_histogram(scores: PairScores) -> tuple[int, ...] | None:
    """Entry b: in how many layers how many pairs are blocked by exactly b others, in all.

    Without the zeros at its end; None if a layer holds NaN.
    """
    if bool(scores.nan.any()):
        return None
    return tuple(torch.bincount(scores.blocking.blockers.flatten().cpu()).tolist())
