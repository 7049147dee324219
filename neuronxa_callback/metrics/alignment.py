"""The method as pure functions of tensors, in the order in which a probe calls them.

Axes: ``batch`` sentences of a microbatch, ``tokens`` of a padded sentence, ``width`` neurons,
``rows`` token weightings, ``pairs`` parallel sentences (row i of one language translates row i of
the other). Leading axes (``layers``) are carried along. NaN in gives NaN out.

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


def positions(mask: Bool[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens"]:
    """Position t = 1..T of every token in the mask, 0 elsewhere, for padding on either side.

    The method's weights are w_t = t / (1 + 2 + .. + T). The divisor cancels in the cosine, so the
    numerators are used: whole numbers up to 2^24 are exact in fp32, and a pooled activation state
    does not depend on the order of summation.

    >>> positions(torch.tensor([[False, True, True], [True, True, False]])).tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 0.0]]
    """
    return mask.cumsum(dim=1).mul_(mask).float()


def active(states: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """NAS per token: 1 where a neuron's state is above zero, else 0 (fp32); NaN becomes 0.

    >>> active(torch.tensor([0.5, 0.0, -1.0])).tolist()
    [1.0, 0.0, 0.0]
    """
    # One kernel instead of a comparison and a conversion.
    result = torch.empty(states.shape, dtype=torch.float32, device=states.device)
    return torch.gt(states, 0, out=result)


def magnitude(states: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """NAV per token: |p|, the size of the coefficient of a neuron's value vector (fp32).

    >>> magnitude(torch.tensor([0.5, -1.0])).tolist()
    [0.5, 1.0]
    """
    # abs() first: it then runs in the narrower dtype.
    return states.abs().float()


def pool(
    values: Float[Tensor, "batch tokens width"], weights: Float[Tensor, "batch rows tokens"]
) -> Float[Tensor, "batch rows width"]:
    """Weighted sums over tokens in full fp32, also inside autocast and with TF32 enabled.

    >>> pool(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[1.0, 2.0]]])).tolist()
    [[[7.0]]]
    """
    with full_precision(values.device):
        return torch.bmm(weights, values)


def dots(
    pivot: Float[Tensor, "pairs width"], target: Float[Tensor, "batch width"]
) -> Float[Tensor, "pairs batch"]:
    """Dot products in fp64 (fp32 on a device without fp64).

    For activation states all terms are whole numbers below 2^53, so the result is exact.

    >>> dots(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[11.0, 2.0]]
    """
    dtype = product_dtype(pivot.device)
    with full_precision(pivot.device):
        return pivot.to(dtype) @ target.to(dtype).T


def squares(vectors: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
    """Squared lengths, in the precision of ``dots``.

    >>> squares(torch.tensor([[3.0, 4.0]])).tolist()
    [25.0]
    """
    return vectors.to(product_dtype(vectors.device)).square().sum(dim=1)


def cosines(
    dot: Float[Tensor, "*layers pairs batch"],
    pivot_squares: Float[Tensor, "*layers pairs"],
    target_squares: Float[Tensor, "*layers batch"],
) -> Float[Tensor, "*layers pairs batch"]:
    """Cosine similarities in [-1, 1]; 0 for a zero vector, which is similar to nothing.

    >>> cosines(torch.tensor([[6.0, 0.0]]), torch.tensor([4.0]), torch.tensor([9.0, 0.0])).tolist()
    [[1.0, 0.0]]
    """
    lengths = (pivot_squares[..., :, None] * target_squares[..., None, :]).sqrt()
    return (dot / lengths).masked_fill_(lengths == 0, 0.0)


def tie_width(similarity: Tensor) -> float:
    """Cosines this near to each other are ties: 1e-12 in fp64, 1e-6 in fp32.

    Two sentences with the same vector are equally near to a third one, but the rounding of a matrix
    product depends on where in the matrix they stand.

    >>> tie_width(torch.zeros(1, dtype=torch.float64))
    1e-12
    """
    return 1e-12 if similarity.dtype == torch.float64 else 1e-6


def rivals(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> tuple[Float[Tensor, "*layers pairs"], Float[Tensor, "*layers pairs"]]:
    """Per pair the highest other cell of its row (targets) and of its column (pivots).

    >>> rivals(torch.tensor([[9.0, 1.0], [2.0, 8.0]]))
    (tensor([1., 2.]), tensor([2., 1.]))
    """
    own = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    others = similarity.masked_fill(own, -torch.inf)
    return others.amax(dim=-1), others.amax(dim=-2)


def weakly_aligned(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> Bool[Tensor, "*layers pairs"]:
    """Which pairs are nearer to each other than to any other sentence, in both directions.

    Pair i is aligned when c_ii > c_ij and c_ii > c_ji for every j != i. Both comparisons are
    strict: a tie (``tie_width``) is no evidence. The result for a layer with NaN has no meaning;
    ``holds_nan`` finds such layers.

    >>> weakly_aligned(torch.tensor([[0.9, 0.1, 0.1], [0.2, 0.8, 0.8], [0.1, 0.1, 0.7]])).tolist()
    [True, False, False]

    Raises:
        ValueError: If ``similarity`` is not square or has fewer than 2 pairs.
    """
    pivot_to_target, target_to_pivot = retrieved(similarity)
    return pivot_to_target & target_to_pivot


def retrieved(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> tuple[Bool[Tensor, "*layers pairs"], Bool[Tensor, "*layers pairs"]]:
    """Which pairs are strict nearest neighbours from pivot to target, and from target to pivot.

    >>> retrieved(torch.tensor([[0.9, 0.1], [0.95, 0.99]]))
    (tensor([True, True]), tensor([False,  True]))

    Raises:
        ValueError: If ``similarity`` is not square or has fewer than 2 pairs.
    """
    _check_square(similarity)
    row, column = rivals(similarity)
    own = similarity.diagonal(dim1=-2, dim2=-1) - tie_width(similarity)
    return own > row, own > column


def mutual_maxima(
    similarity: Float[Tensor, "*layers pairs pairs"],
) -> Int[Tensor, "*layers"]:
    """M, the number of cells that are strict maxima of their row and of their column.

    With randomly shuffled pairs the expected share of weakly aligned pairs is M / n^2.

    >>> mutual_maxima(torch.tensor([[0.1, 0.9], [0.2, 0.3]])).item()
    1

    Raises:
        ValueError: If ``similarity`` is not square or has fewer than 2 pairs.
    """
    _check_square(similarity)
    width = tie_width(similarity)
    row_maxima = similarity >= similarity.amax(dim=-1, keepdim=True) - width
    column_maxima = similarity >= similarity.amax(dim=-2, keepdim=True) - width
    unique = (row_maxima.sum(dim=-1, keepdim=True) == 1) & (
        column_maxima.sum(dim=-2, keepdim=True) == 1
    )
    return (row_maxima & column_maxima & unique).sum(dim=(-2, -1))


def holds_nan(similarity: Float[Tensor, "*layers pairs pairs"]) -> Bool[Tensor, "*layers"]:
    """Which layers hold a NaN, so that their score must be NaN too."""
    # Cosines are finite or NaN, so the sum is NaN exactly where one of them is.
    return similarity.sum(dim=(-2, -1)).isnan()


def product_dtype(device: torch.device) -> torch.dtype:
    """The dtype of dot products: fp64, or fp32 on a device without fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switches autocast and TF32 off inside, and restores both afterwards."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with _without_tf32():
            yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    # From torch 2.9 on the older setting cannot be read once the newer one is in use.
    name = "fp32_precision" if hasattr(matmul, "fp32_precision") else "allow_tf32"
    before = getattr(matmul, name)
    setattr(matmul, name, "ieee" if name == "fp32_precision" else False)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def _check_square(similarity: Tensor) -> None:
    shape = tuple(similarity.shape)
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        raise ValueError(f"similarity must be square with at least 2 pairs, got shape {shape}")
