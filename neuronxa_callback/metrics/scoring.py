"""From similarity matrices to verdicts: what of a language goes into the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.scores import Counts

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class PairScores:
    """One metric of one language over layers, still on the device: no host waits for it."""

    hits: Tensor
    """[layers, pairs] bool: weakly aligned."""
    pivot_to_target: Tensor
    """[layers] pairs that are nearest neighbours from pivot to target."""
    target_to_pivot: Tensor
    """[layers] the same from target to pivot."""
    mutual: Tensor
    """[layers] M, strict maxima of both row and column."""
    nan: Tensor
    """[layers] bool: the layer holds NaN."""
    margins: Mapping[str, Tensor]
    """Named statistics [layers]; empty where they were not asked for."""


def score_similarity(similarity: Tensor, margins: bool) -> PairScores:
    """Verdicts on similarities [layers, pairs, pairs]."""
    pivot_to_target, target_to_pivot = alignment.retrieved(similarity)
    return PairScores(
        # By definition: the own pair is the strictly nearest in both directions.
        hits=pivot_to_target & target_to_pivot,
        pivot_to_target=pivot_to_target.sum(dim=1),
        target_to_pivot=target_to_pivot.sum(dim=1),
        mutual=alignment.mutual_maxima(similarity),
        nan=alignment.holds_nan(similarity),
        margins=margins_of(similarity) if margins else {},
    )


def margins_of(similarity: Tensor) -> dict[str, Tensor]:
    """What moves when the score sits at floor or ceiling, per layer.

    ``margin_10``, ``_50``, ``_90``: quantiles over pairs of c_ii - best rival in row or column.
    ``mrr``: mean reciprocal rank of the own pair over both directions, ties counted against it.
    ``non_pairs``: mean cosine of sentences that are no pair. ``ties``: pairs that tie with their
    best rival.
    """
    own = similarity.diagonal(dim1=-2, dim2=-1)
    row, column = alignment.rivals(similarity)
    margin = own - torch.maximum(row, column)
    pairs = similarity.shape[-1]
    levels = torch.tensor(QUANTILES, dtype=margin.dtype, device=margin.device)
    quantiles = margin.quantile(levels, dim=-1)
    ranks = [(similarity >= own.unsqueeze(axis)).sum(dim=axis).to(own) for axis in (-1, -2)]
    off = similarity.sum(dim=(-2, -1)) - own.sum(dim=-1)
    named = {
        f"margin_{level * 100:.0f}": quantile
        for level, quantile in zip(QUANTILES, quantiles, strict=True)
    }
    return named | {
        "mrr": sum((1 / rank).mean(dim=-1) for rank in ranks) / 2,
        "non_pairs": off / (pairs * (pairs - 1)),
        "ties": (margin == 0).sum(dim=-1),
    }


def masks(hits: Tensor, nan: Tensor) -> Counts:
    """One whole number per layer whose bit i is the verdict on pair i; None for NaN."""
    return tuple(
        None if bad else sum(1 << i for i, hit in enumerate(row) if hit)
        for row, bad in zip(hits.tolist(), nan.tolist(), strict=True)
    )


def counts(numbers: Tensor, nan: Tensor) -> Counts:
    """Whole numbers per layer; None for NaN."""
    both: Sequence[tuple[int, bool]] = list(zip(numbers.tolist(), nan.tolist(), strict=True))
    return tuple(None if bad else int(number) for number, bad in both)
