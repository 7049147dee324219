"""What is computed from a model's states: alignment metrics and diagnostics, as values in tables.

An alignment metric gives a verdict per pair, language and layer. A diagnostic gives small arrays
beside it. Adding one changes no other number by one bit: each has sums of its own.

Axes: ``batch`` sentences of a microbatch, ``tokens`` padded, ``width`` neurons of one part (one
FFN of one layer), ``pairs`` pivot sentences. A layer's dot products and squared lengths are sums
over its parts, so that parts are never concatenated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.measure import alignment
from neuronxa_callback.measure.batching import Batch


@dataclass(frozen=True)
class Alignment:
    """One alignment metric: where it reads, what it makes of a state, how it weighs tokens."""

    source: str
    """``"nas"``, ``"nav"`` (sites as configured), or ``"hidden"`` states."""
    weights: str
    """A name in ``WEIGHTS``."""
    version: int = 1
    """Rises whenever its numbers change."""
    companion: bool = False
    """A companion is a diagnostic's number, not a metric that can be asked for by name."""


ALIGNMENT: Mapping[str, Alignment] = {
    "nasca": Alignment("nas", "position"),
    "navca": Alignment("nav", "position"),
    "mexa": Alignment("hidden", "position"),
    "mexa_last": Alignment("hidden", "last"),
}
"""NASCA and NAVCA: arXiv:2507.14900. MEXA, position-weighted and last token: arXiv:2410.05873."""

COMPANIONS: Mapping[str, Alignment] = {
    "navca_without_special_tokens": Alignment("nav", "no_special", companion=True),
}
"""One token with a huge activation (BOS, an attention sink) can be most of a NAV vector."""

DIAGNOSTICS: Mapping[str, str] = {
    "surface": "score of character 3-grams and of lengths alone, under the same rule",
    "margins": "c_ii - best rival (quantiles), reciprocal rank, cosine of non-pairs, ties",
    "sinks": "share of the largest token in NAV; NAVCA without special tokens",
    "activity": "fraction of active neurons per layer",
    "tokens": "tokens per sentence and per character, padding",
    "drift": "how far the pivot's own states have turned since the first probe (in ``run``)",
}

STATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nas": alignment.active,
    "nav": alignment.magnitude,
    "hidden": lambda states: states.float(),
}


def _last(batch: Batch) -> Tensor:
    places = alignment.positions(batch.counts)
    return (places == places.amax(dim=1, keepdim=True)).float()


WEIGHTS: Mapping[str, Callable[[Batch], Tensor]] = {
    "position": lambda batch: alignment.positions(batch.counts),
    "no_special": lambda batch: alignment.positions(batch.counts & ~batch.special),
    "uniform": lambda batch: batch.counts.float(),
    "last": _last,
}
"""Token weights [batch, tokens]; a common factor cancels in the cosine."""


@dataclass(frozen=True)
class Read:
    """All that one reading of a site's states is used for: one pass, several weightings."""

    source: str
    names: tuple[str, ...]
    """Metrics and companions, in the order of ``weights``."""
    weights: tuple[str, ...]
    shares: bool = False
    """Whether the share of the largest token is taken."""
    activity: bool = False
    """Whether the fraction of active neurons is taken."""


def reads_of(metrics: Sequence[str], diagnostics: Sequence[str]) -> tuple[Read, ...]:
    """What must be read, once per source, for some metrics and diagnostics."""
    found = []
    for source in STATES:
        names = [name for name in metrics if ALIGNMENT[name].source == source]
        if names and "sinks" in diagnostics:
            names += [name for name, each in COMPANIONS.items() if each.source == source]
        if names:
            weights = tuple({**ALIGNMENT, **COMPANIONS}[name].weights for name in names)
            shares = source == "nav" and "sinks" in diagnostics
            activity = source == "nas" and "activity" in diagnostics
            found.append(Read(source, tuple(names), weights, shares, activity))
    return tuple(found)


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
            read.source: torch.stack([WEIGHTS[name](batch) for name in read.weights], dim=1)
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
