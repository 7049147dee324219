"""Sums of routed rows: each sum adds the rows of one bag, one after another, in one operator.

Axes: ``pairs`` of a token and an expert, ``batch`` sentences, ``tokens`` padded, ``d_ff`` neurons
of one expert, ``rows`` token weightings.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

BAGS_RUN_ON = ("cpu", "cuda")
"""Devices that have an operator for bags, which adds in a fixed order; others add by index."""


class Bags:
    """Which pairs belong to one sentence and expert, to one sentence, or to one token.

    Args:
        token: [pairs], index into the flattened ``batch * tokens``.
        expert: [pairs], in 0 .. ``experts`` - 1.
        shape: ``batch`` and ``tokens``.
        experts: The number of experts.
    """

    def __init__(self, token: Tensor, expert: Tensor, shape: Sequence[int], experts: int) -> None:
        self.token, self.expert = token, expert
        self.batch, self.tokens, self.experts = shape[0], shape[1], experts
        self.bag, self.order = torch.sort(token // shape[1] * experts + expert, stable=True)
        """Sorted: sentence * experts + expert of each pair; and which pair it is."""

    @cached_property
    def starts(self) -> Tensor:
        """[batch * experts + 1], where the pairs of each sentence and expert begin and end.

        >>> Bags(torch.tensor([0, 1]), torch.tensor([1, 1]), (1, 2), 2).starts.tolist()
        [0, 0, 2]
        """
        return self._starts(self.bag, self.batch * self.experts + 1)

    def sum_by_expert(self, values: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums [rows * batch * experts, d_ff] of values [pairs, d_ff] fp32.

        ``weights`` [pairs, rows]. All weightings are summed in one operator. The result is 0 where
        a sentence has no pair with the expert.

        >>> bags = Bags(torch.tensor([0, 1]), torch.tensor([1, 1]), (1, 2), 2)
        >>> bags.sum_by_expert(torch.tensor([[3.0], [4.0]]), torch.tensor([[1.0], [2.0]])).tolist()
        [[0.0], [11.0]]
        """
        pairs, rows = weights.shape
        starts = self.starts[:-1]
        starts = torch.cat([starts + row * pairs for row in range(rows)])
        return _sums(values, self.order.repeat(rows), weights[self.order].T.reshape(-1), starts)

    def sum_by_sentence(self, values: Tensor) -> Tensor:
        """Sums [batch] of values [pairs] fp32.

        >>> bags = Bags(torch.tensor([0, 3]), torch.tensor([1, 1]), (2, 2), 2)
        >>> bags.sum_by_sentence(torch.tensor([3.0, 4.0])).tolist()
        [3.0, 4.0]
        """
        starts = self.starts[: -1 : self.experts]
        return _sums(values[:, None], self.order, torch.ones_like(values), starts)[:, 0]

    def sum_by_token(self, values: Tensor) -> Tensor:
        """Sums [batch * tokens] of values [pairs] fp32.

        >>> bags = Bags(torch.tensor([1, 1]), torch.tensor([0, 1]), (1, 2), 2)
        >>> bags.sum_by_token(torch.tensor([3.0, 4.0])).tolist()
        [0.0, 7.0]
        """
        bag, order = torch.sort(self.token, stable=True)
        starts = self._starts(bag, self.batch * self.tokens)
        return _sums(values[:, None], order, torch.ones_like(values), starts)[:, 0]

    def _starts(self, bag: Tensor, count: int) -> Tensor:
        """Where each of ``count`` bags begins."""
        return torch.searchsorted(bag, torch.arange(count, device=bag.device))


def _sums(values: Tensor, order: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    if values.device.type in BAGS_RUN_ON:
        return torch.nn.functional.embedding_bag(
            order, values, starts, mode="sum", per_sample_weights=weights
        )
    ends = torch.cat([starts[1:], starts.new_tensor([len(order)])])
    bag = torch.arange(len(starts), device=values.device).repeat_interleave(ends - starts)
    sums = values.new_zeros(len(starts), values.shape[1])
    return sums.index_add_(0, bag, weights[:, None] * values[order])
