"""Token-weighted sums of a microbatch's states: one vector per sentence, part and weighting.

Axes: ``batch`` sentences of a microbatch, ``tokens`` padded, ``width`` neurons of one part (one
FFN of one layer), ``rows`` weightings. A layer's dot products and squared lengths are sums over
its parts, so parts are never concatenated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import STATES, WEIGHTS, Read
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.sums.bags import Bags

CPU_BLOCK = 2**19
"""States converted to fp32 at a time on a CPU: 2 MiB, which stay in its cache and cost no new pages
of memory."""
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
        self.bags: Bags | None = None
        """Those of the latest routed rows: gate and product have the same."""
        names = (name for read in reads if read.own is None for name in read.weights)
        known = {name: WEIGHTS[name](batch.mask, batch.special) for name in dict.fromkeys(names)}
        self.weights = {
            read.source: torch.stack(
                [known[name] for name in read.weights]
                if read.own is None
                else [read.own.weights(batch.mask, batch.special)],
                dim=1,
            )
            for read in reads
        }
        """Source -> token weights [batch, rows, tokens]."""

    def dense(self, read: Read, states: Tensor, start: int) -> Vectors:
        """Pools states [batch, tokens, width] of the tokens ``start``, ``start + 1``, ..."""
        stop = start + states.shape[1]
        weights = self.weights[read.source][:, :, start:stop].to(states.device)
        rows = weights.shape[1]
        if read.activity:
            # One more row in the same pass over the states.
            mask = self.mask[:, None, start:stop].to(weights)
            weights = torch.cat([weights, mask], dim=1)
        pooled, sizes = _pool_in_blocks(read, states, weights)
        vectors = Vectors(pooled[:, :rows])
        if read.activity:
            vectors.active = pooled[:, -1].sum(dim=1)
        if read.source not in KEEP_NAN:
            # NaN > 0 is false and would count as 0.
            vectors.pooled += _nan_of(states, dim=(1, 2))[:, None, None]
        if sizes is not None:
            padding = (start, self.mask.shape[1] - stop)
            vectors.token_sizes = torch.nn.functional.pad(sizes, padding)
        return vectors

    def bags_of(self, token: Tensor, expert: Tensor, experts: int) -> Bags:
        """The bags of routed rows, sorted once for gate and product."""
        if self.bags is None or self.bags.token is not token or self.bags.expert is not expert:
            self.bags = Bags(token, expert, self.mask.shape, experts)
        return self.bags

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
        bags = self.bags_of(token, expert, experts)
        sentence, position = token // tokens, token % tokens
        factors = weights[sentence, :, position]
        values, sizes = _values(read, states, factors), None
        if read.source not in KEEP_NAN:
            invalid = _nan_of(states, dim=1)
            factors = factors + invalid[:, None]
        if read.shares or read.activity:
            sizes = values.sum(dim=1)
            if read.source == "nas":
                sizes += invalid
        pooled = bags.sum_by_expert(values, factors)
        vectors = Vectors(pooled.view(rows, batch, -1).transpose(0, 1))
        if sizes is not None and read.shares:
            vectors.token_sizes = bags.sum_by_token(sizes * factors[:, 0]).view(batch, tokens)
        if sizes is not None and read.activity:
            counted = sizes * self.mask.to(states.device)[sentence, position]
            vectors.active = bags.sum_by_sentence(counted)
        return vectors


def finish(read: Read, sums: Tensor) -> Tensor:
    """The vectors [batch, width] of sums over all tokens."""
    return sums if read.own is None else read.own.vector(sums)


def _values(read: Read, states: Tensor, weights: Tensor) -> Tensor:
    """The values of states; the weights [.., rows] of their tokens say which are used."""
    if read.own is None:
        return STATES[read.source](states)
    return read.own.values(states, weights.abs().sum(dim=-1, keepdim=True))


def _pool_in_blocks(read: Read, states: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """``_pool``, on a CPU for some sentences at a time; the result has the same bits."""
    step = CPU_BLOCK * len(states) // max(states.numel(), 1)
    if states.device.type != "cpu" or step >= len(states):
        return _pool(read, states, weights)
    step = max(1, step)
    blocks = [
        _pool(read, states[first : first + step], weights[first : first + step])
        for first in range(0, len(states), step)
    ]
    sizes = [each for _, each in blocks if each is not None]
    return torch.cat([each for each, _ in blocks]), torch.cat(sizes) if sizes else None


def _pool(read: Read, states: Tensor, weights: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weighted sums over tokens, and the weighted size of each token if its share is read."""
    values = _values(read, states, weights.transpose(1, 2))
    sizes = values.sum(dim=2) * weights[:, 0] if read.shares else None
    return alignment.pool(values, weights), sizes


def _nan_of(states: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """0, or NaN where any state is NaN."""
    # Not a sum: an infinity plus its opposite is NaN too.
    highest = states.amax(dim=dim).float()
    return torch.where(highest.isnan(), highest, torch.zeros_like(highest))


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other
