"""Token-weighted sums of a microbatch's states: one vector per sentence, part and weighting.

Axes: ``batch`` sentences of a microbatch, ``tokens`` padded, ``width`` neurons of one part (one
FFN of one layer), ``rows`` weightings. A layer's dot products and squared lengths are sums over
its parts, so parts are never concatenated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import STATES, WEIGHTS, Read
from neuronxa_callback.probe.batching import Batch

KEEP_NAN = ("nav", "hidden")
"""The sources whose values are NaN where a state is."""


@dataclass
class Vectors:
    """Pooled vectors of some sentences in one part, and statistics of the same states.

    Every field is a sum: over chunks of tokens, parts of a layer and slices of neurons.
    """

    pooled: Tensor
    """[batch, rows, width] fp32."""
    token_sizes: Tensor | None = None
    """[batch, tokens] weighted sum of a token's states, zero outside the chunk."""
    active: Tensor | None = None
    """[batch] number of active (token, neuron) states."""

    def add(self, other: "Vectors") -> "Vectors":
        """The sum of two chunks of the same sentences in the same part."""
        return Vectors(
            self.pooled + other.pooled,
            _sum(self.token_sizes, other.token_sizes),
            _sum(self.active, other.active),
        )


class Pooling:
    """Pools the states of one microbatch."""

    def __init__(self, batch: Batch, reads: Sequence[Read]) -> None:
        self.mask = batch.mask
        self.weights = {
            read.source: torch.stack(
                [weigh(batch.mask, batch.special) for weigh in _weights_of(read)], dim=1
            )
            for read in reads
        }
        """Source -> token weights [batch, rows, tokens]."""

    def dense(self, read: Read, states: Tensor, start: int) -> Vectors:
        """Pools states [batch, tokens, width] of the tokens ``start``, ``start + 1``, ..."""
        stop = start + states.shape[1]
        weights = self.weights[read.source][:, :, start:stop].to(states.device)
        rows, values = weights.shape[1], _values(read, states, weights.transpose(1, 2))
        if read.activity:
            # One more row in the same pass over the states.
            mask = self.mask[:, None, start:stop].to(weights)
            weights = torch.cat([weights, mask], dim=1)
        pooled = alignment.pool(values, weights)
        vectors = Vectors(pooled[:, :rows])
        if read.activity:
            vectors.active = pooled[:, -1].sum(dim=1)
        if read.source not in KEEP_NAN:
            # NaN > 0 is false and would count as 0.
            vectors.pooled += _nan_of(states, dim=(1, 2))[:, None, None]
        if read.shares:
            rest = self.mask.shape[1] - stop
            sizes = values.sum(dim=2) * weights[:, 0]
            vectors.token_sizes = torch.nn.functional.pad(sizes, (start, rest))
        return vectors

    def routed(
        self, read: Read, states: Tensor, token: Tensor, expert: Tensor, experts: int
    ) -> Vectors:
        """Pools states [pairs, d_ff] of (token, expert) pairs over the neurons of all experts.

        Args:
            read: What to compute.
            states: One row per pair; all other states are 0.
            token: [pairs], index into the flattened ``batch * tokens``.
            expert: [pairs], in 0 .. ``experts`` - 1.
            experts: The number of experts; the result has ``experts * d_ff`` neurons.
        """
        weights = self.weights[read.source].to(states.device)
        batch, rows, tokens = weights.shape
        sentence, position = token // tokens, token % tokens
        values = _values(read, states, weights[sentence, :, position])
        like: Any = {"dtype": torch.float32, "device": states.device}
        if read.source not in KEEP_NAN:
            values = values + _nan_of(states, dim=1)[:, None]
        pooled = torch.zeros(batch * experts, rows, states.shape[1], **like)
        weighted = weights[sentence, :, position][:, :, None] * values[:, None, :]
        pooled.index_add_(0, sentence * experts + expert, weighted)
        pooled = pooled.view(batch, experts, rows, -1).transpose(1, 2).reshape(batch, rows, -1)
        vectors = Vectors(pooled)
        summed = values.sum(dim=1)
        if read.shares:
            sizes = torch.zeros(batch * tokens, **like)
            sizes.index_add_(0, token, summed * weights[sentence, 0, position])
            vectors.token_sizes = sizes.view(batch, tokens)
        if read.activity:
            counted = summed * self.mask.to(states.device)[sentence, position]
            active = torch.zeros(batch, **like)
            vectors.active = active.index_add_(0, sentence, counted)
        return vectors


def finish(read: Read, sums: Tensor) -> Tensor:
    """The vectors [batch, width] of sums over all tokens."""
    return sums if read.own is None else read.own.vector(sums)


def _weights_of(read: Read) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
    return [WEIGHTS[name] for name in read.weights] if read.own is None else [read.own.weights]


def _values(read: Read, states: Tensor, weights: Tensor) -> Tensor:
    """The values of states; the weights [.., rows] of their tokens say which are used."""
    if read.own is None:
        return STATES[read.source](states)
    return read.own.values(states, weights.abs().sum(dim=-1, keepdim=True))


def _nan_of(states: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """0, or NaN where any state is NaN."""
    # Not a sum: an infinity plus its opposite is NaN too.
    highest = states.amax(dim=dim).float()
    return torch.where(highest.isnan(), highest, torch.zeros_like(highest))


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other
