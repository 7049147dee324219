"""The method as pure functions of tensors, in the order in which it runs.

Axes: ``batch`` sentences of a microbatch, ``tokens`` of a padded sentence, ``width`` neurons,
``rows`` ways of weighting tokens, ``pairs`` parallel sentences, where row i of one language
translates row i of the other; leading axes (``layers``) are carried along. NaN in gives NaN out.

Source: NeuronXA (arXiv:2507.14900); weak alignment and position weights: MEXA (arXiv:2410.05873).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def positions(counts: Bool[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """Position t = 1..T of every token that counts, 0 elsewhere, on whichever side padding is.

    The weights of the method are w_t = t / (1 + 2 + .. + T). These are their whole numbers: the
    divisor cancels in the cosine, and whole numbers up to 2^24 are exact in fp32, so that a pooled
    activation state does not depend on the order of summation.
    """
    return counts.cumsum(dim=1).mul_(counts).float()


def active(states: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """NAS: 1 where a neuron's state is above zero, else 0 (fp32). NaN is not seen here."""
    # One pass, where a comparison and a conversion would be two.
    found = torch.empty(states.shape, dtype=torch.float32, device=states.device)
    return torch.gt(states, 0, out=found)


def magnitude(states: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """NAV: the size of the coefficient by which a neuron scales its value vector (fp32)."""
    # In this order the pass that is left over is over the narrower numbers.
    return states.abs().float()


def pool(
    values: Float[Tensor, "batch tokens width"], weights: Float[Tensor, "batch rows tokens"]
) -> Float[Tensor, "batch rows width"]:
    """Weighted sums over tokens in fp32, whatever autocast and TF32 are set to around it."""
    with exactly(values.device):
        return torch.bmm(weights, values)


def dots(
    pivot: Float[Tensor, "pairs width"], target: Float[Tensor, "batch width"]
) -> Float[Tensor, "pairs batch"]:
    """Dot products in fp64 (fp32 where the device has no fp64).

    For activation states all numbers are whole and below 2^53: the result is exact.
    """
    wide = widest(pivot.device)
    with exactly(pivot.device):
        return pivot.to(wide) @ target.to(wide).T


def squares(vectors: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
    """Squared lengths, in the precision of ``dots``."""
    return vectors.to(widest(vectors.device)).square().sum(dim=1)


def cosines(
    dot: Float[Tensor, "*layers pairs batch"],
    pivot_squares: Float[Tensor, "*layers pairs"],
    target_squares: Float[Tensor, "*layers batch"],
) -> Float[Tensor, "*layers pairs batch"]:
    """Cosine similarities; 0 with a zero vector, which is similar to nothing."""
    lengths = (pivot_squares[..., :, None] * target_squares[..., None, :]).sqrt()
    return torch.where(lengths == 0, torch.zeros_like(dot), dot / lengths)


def rivals(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> tuple[Float[Tensor, "*layers pairs"], Float[Tensor, "*layers pairs"]]:
    """Per pair its best rival in the row (another target) and in the column (another pivot)."""
    own = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    others = similarity.masked_fill(own, -torch.inf)
    return others.amax(dim=-1), others.amax(dim=-2)


def weakly_aligned(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> Bool[Tensor, "*layers pairs"]:
    """Which pairs are nearer to each other than to any other sentence, both ways.

    Pair i holds when c_ii > c_ij and c_ii > c_ji for every j != i. Both are strict: a tie is no
    evidence. A layer that holds NaN must be told apart with ``holds_nan``.

    Raises:
        ValueError: If ``similarity`` is not square or has fewer than 2 pairs.
    """
    forward, backward = retrieved(similarity)
    return forward & backward


def retrieved(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> tuple[Bool[Tensor, "*layers pairs"], Bool[Tensor, "*layers pairs"]]:
    """Which pairs are nearest neighbours from pivot to target, and from target to pivot."""
    _check(similarity)
    row, column = rivals(similarity)
    own = similarity.diagonal(dim1=-2, dim2=-1)
    return own > row, own > column


def mutual_maxima(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> Int[Tensor, "*layers"]:
    """M, the number of cells that are strict maxima of their row and of their column.

    Under random re-pairing of the sentences the expected share of weakly aligned pairs is M / n^2.
    """
    _check(similarity)
    tops_of_rows = similarity == similarity.amax(dim=-1, keepdim=True)
    tops_of_columns = similarity == similarity.amax(dim=-2, keepdim=True)
    alone = (tops_of_rows.sum(dim=-1, keepdim=True) == 1) & (
        tops_of_columns.sum(dim=-2, keepdim=True) == 1
    )
    return (tops_of_rows & tops_of_columns & alone).sum(dim=(-2, -1))


def holds_nan(similarity: Float[Tensor, "*layers pairs pairs"]) -> Bool[Tensor, "*layers"]:
    """Which layers hold a NaN: their score is NaN, never a plausible number."""
    # Cosines are finite or NaN: a sum is NaN where one of them is.
    return similarity.sum(dim=(-2, -1)).isnan()


def widest(device: torch.device) -> torch.dtype:
    """fp64, or fp32 on a device that has no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Full fp32 products: autocast and TF32 off inside, as they were afterwards."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with _without_tf32():
            yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    # torch 2.9 brought a setting of its own, and refuses to be asked by the older one after it.
    name = "fp32_precision" if hasattr(matmul, "fp32_precision") else "allow_tf32"
    before = getattr(matmul, name)
    setattr(matmul, name, "ieee" if name == "fp32_precision" else False)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def _check(similarity: Tensor) -> None:
    shape = tuple(similarity.shape)
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        raise ValueError(f"similarity must be square with at least 2 pairs, got shape {shape}")
