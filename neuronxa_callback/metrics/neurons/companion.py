"""A continuous companion of the verdict: how far a pair stands out of its row and column.

After arXiv:2204.06457: d_i = c_ii minus the mean of the other cells of row i and of column i. A
mean cosine alone misleads: training moves pairs and non-pairs together.
"""

from torch import Tensor


def contrast(similarity: Tensor) -> Tensor:
    """d_i of every pair [..., pairs], in [-2, 2].

    Args:
        similarity: Cosines [..., pairs, pairs].

    Example:
        >>> import torch
        >>> contrast(torch.tensor([[0.75, 0.25], [0.5, 1.0]])).tolist()
        [0.375, 0.625]
    """
    n = similarity.shape[-1]
    own = similarity.diagonal(dim1=-2, dim2=-1)
    others = similarity.sum(dim=-1) + similarity.sum(dim=-2) - 2 * own
    return own - others / (2 * (n - 1))
