"""Token-weighted sums of a microbatch's states: one vector per sentence, part and weighting.

Axes: ``batch`` sentences of a microbatch, ``tokens`` padded, ``width`` neurons of one part (one
FFN of one layer). A layer's dot products and squared lengths are sums over its parts, so that
parts are never concatenated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import STATES, WEIGHTS, Read
from neuronxa_callback.probe.batching import Batch


@dataclass
class Vectors:
    """Pooled vectors of some sentences in one part, and what was seen on the way.

    Everything is a sum: over chunks of tokens, over the parts of a layer, over slices of neurons.
    """

    pooled: Tensor
    """[batch, rows, width] fp32, one row per weighting."""
    sizes: Tensor | None = None
    """[batch, tokens] weighted sum of a token's states, zero outside of the chunk."""
    active: Tensor | None = None
    """[batch] number of active (token, neuron) states."""

    def add(self, other: "Vectors") -> "Vectors":
        """The sum of two chunks of the same sentences in the same part."""
        self.pooled = self.pooled + other.pooled
        self.sizes = _both(self.sizes, other.sizes)
        self.active = _both(self.active, other.active)
        return self


class Pooling:
    """Token weights of the running microbatch, and the pooling of its states."""

    def __init__(self, batch: Batch, reads: Sequence[Read]) -> None:
        self.counts = batch.counts
        self.weights = {
            read.source: torch.stack(
                [WEIGHTS[name](batch.counts, batch.special) for name in read.weights], dim=1
            )
            for read in reads
        }

    def dense(self, read: Read, states: Tensor, start: int) -> Vectors:
        """States [batch, tokens, width] of tokens start, start + 1, ... to vectors."""
        stop = start + states.shape[1]
        weights = self.weights[read.source][:, :, start:stop].to(states.device)
        rows, values = weights.shape[1], STATES[read.source](states)
        if read.activity:
            # One row more in the same pass over the states.
            counts = self.counts[:, None, start:stop].to(weights)
            weights = torch.cat([weights, counts], dim=1)
        pooled = alignment.pool(values, weights)
        found = Vectors(pooled[:, :rows])
        if read.activity:
            found.active = pooled[:, -1].sum(dim=1)
        if read.source == "nas":
            # NaN > 0 is false and would count as 0.
            found.pooled += _nan_of(states, dim=(1, 2))[:, None, None]
        if read.shares:
            rest = self.counts.shape[1] - stop
            sizes = values.sum(dim=2) * weights[:, 0]
            found.sizes = torch.nn.functional.pad(sizes, (start, rest))
        return found

    def routed(
        self, read: Read, states: Tensor, token: Tensor, expert: Tensor, experts: int
    ) -> Vectors:
        """States [rows, d_ff] of (token, expert) pairs to vectors over all experts' neurons."""
        weights = self.weights[read.source].to(states.device)
        batch, rows, tokens = weights.shape
        sentence, place = token // tokens, token % tokens
        values = STATES[read.source](states)
        if read.source == "nas":
            values = values + _nan_of(states, dim=1)[:, None]
        pooled = torch.zeros(batch * experts, rows, states.shape[1], device=states.device)
        weighted = weights[sentence, :, place][:, :, None] * values[:, None, :]
        pooled.index_add_(0, sentence * experts + expert, weighted)
        pooled = pooled.view(batch, experts, rows, -1).transpose(1, 2).reshape(batch, rows, -1)
        found = Vectors(pooled)
        summed = values.sum(dim=1)
        if read.shares:
            sizes = torch.zeros(batch * tokens, device=states.device)
            sizes.index_add_(0, token, summed * weights[sentence, 0, place])
            found.sizes = sizes.view(batch, tokens)
        if read.activity:
            counted = summed * self.counts.to(states.device)[sentence, place]
            active = torch.zeros(batch, device=states.device)
            found.active = active.index_add_(0, sentence, counted)
        return found


def _nan_of(states: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """0, or NaN where any state is NaN."""
    # Not a sum: that of an infinity and its opposite is NaN.
    highest = states.amax(dim=dim).float()
    return torch.where(highest.isnan(), highest, torch.zeros_like(highest))


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other
