"""From the states of one microbatch to columns of the similarity matrix.

The pivot's pooled vectors are held; a target's are compared with them layer by layer, while the
forward pass runs, and dropped. What remains of a microbatch are dot products and squared lengths,
so that memory does not grow with the number of languages.

Axes: ``sentences`` of the pivot side, ``batch`` sentences of the microbatch, ``layers``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from neuronxa_callback.measure import alignment
from neuronxa_callback.measure.batching import Batch
from neuronxa_callback.measure.distributed import World
from neuronxa_callback.measure.metrics import Pooling, Read, Vectors


class Parts(Protocol):
    """What is needed of a plan: for every part its layer's place and its number of experts."""

    @property
    def places(self) -> Sequence[int]:
        """The place 0, 1, .. of every part's layer."""

    @property
    def experts(self) -> Sequence[int]:
        """The number of experts of every part; 0 where it is dense."""


@dataclass
class Pivot:
    """The pooled vectors of a pivot side, and their squared lengths."""

    vectors: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """(metric, part) -> [sentences, width]."""
    squares: dict[str, Tensor] = field(default_factory=dict)
    """metric -> [layers, sentences]."""


@dataclass(frozen=True)
class Columns:
    """What one microbatch of a target adds to the similarity matrices of its language."""

    rows: tuple[int, ...]
    dot: Mapping[str, Tensor]
    """metric -> [layers, sentences, batch]."""
    squares: Mapping[str, Tensor]
    """metric -> [layers, batch]."""
    shares: Tensor | None
    """[layers, batch] share of the largest token in NAV."""
    activity: Tensor | None
    """[layers, batch] fraction of active states."""


class Comparison:
    """Receives the states of a microbatch (a ``StateSink``) and sums up what is asked for.

    Args:
        parts: Where the states come from.
        reads: What is wanted, per site (``"gate"``, ``"product"``, ``"hidden"``).
        world: The ranks, for slices of neurons.
        home: The device on which results are collected.
    """

    def __init__(
        self,
        parts: Parts,
        reads: Mapping[str, Sequence[Read]],
        world: World,
        home: torch.device,
    ) -> None:
        self.parts, self.reads, self.world, self.home = parts, reads, world, home
        self.every = [read for each in reads.values() for read in each]

    def begin(self, batch: Batch, pivot: Pivot, side: int | None, rows: Sequence[int]) -> None:
        """Make ready for one forward pass.

        Args:
            batch: The microbatch.
            pivot: The pivot to compare with, or to fill.
            side: The number of sentences of the pivot, where it is filled; else None.
            rows: Which sentences of the pivot these are; empty for a dummy.
        """
        self.pooling = Pooling(batch, self.every)
        self.pivot, self.side, self.rows = pivot, side, list(rows)
        self.counts = batch.counts
        self.chunks: dict[tuple[str, int], Vectors] = {}
        self.dot: dict[str, dict[int, Tensor]] = defaultdict(dict)
        self.squares: dict[str, dict[int, Tensor]] = defaultdict(dict)
        self.sizes: dict[int, Tensor] = {}
        self.active: dict[int, Tensor] = {}
        self.width: dict[int, int] = defaultdict(int)

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """States [batch, tokens, width] of a part, for tokens from ``start`` on."""
        last = start + states.shape[1] >= self.counts.shape[1]
        for read in self.reads[site]:
            vectors = self.pooling.dense(read, states, start)
            self._gather(read, part, vectors, last)

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """States [rows, d_ff] of (token, expert) pairs of a part."""
        for read in self.reads[site]:
            experts = self.parts.experts[part]
            vectors = self.pooling.routed(read, states, token, expert, experts)
            self._gather(read, part, vectors, last)

    def hidden(self, states: Sequence[Tensor]) -> None:
        """The hidden states of all layers, each [batch, tokens, hidden size]."""
        for read in self.reads.get("hidden", ()):
            for layer, each in enumerate(states):
                self._take(read, layer, layer, self.pooling.dense(read, each, 0))

    def columns(self) -> Columns:
        """Sums of the microbatch that has just run, complete over slices of neurons."""
        dot = {name: self.world.whole(self._stack(each)) for name, each in self.dot.items()}
        squares = {name: self.world.whole(self._stack(each)) for name, each in self.squares.items()}
        shares = activity = None
        if self.sizes:
            sizes = self.world.whole(self._stack(self.sizes))
            shares = sizes.amax(dim=2) / sizes.sum(dim=2)
        if self.active:
            active = self.world.whole(self._stack(self.active))
            slots = [[self.width[layer]] for layer in sorted(self.active)]
            widths = self.world.whole(torch.tensor(slots, dtype=active.dtype, device=self.home))
            activity = active / (widths * self.counts.sum(dim=1).to(self.home))
        return Columns(tuple(self.rows), dot, squares, shares, activity)

    def fill(self) -> None:
        """Put the squared lengths of the microbatch that has just run into the pivot."""
        for name, layers in self.squares.items():
            here = self.world.whole(self._stack(layers))
            if name not in self.pivot.squares:
                self.pivot.squares[name] = here.new_zeros(len(here), self.side or 0)
            if self.rows:
                self.pivot.squares[name][:, self.rows] = here

    def _gather(self, read: Read, part: int, vectors: Vectors, last: bool) -> None:
        key = (read.source, part)
        if key in self.chunks:
            vectors = self.chunks.pop(key).add(vectors)
        if last:
            self._take(read, part, self.parts.places[part], vectors)
        else:
            self.chunks[key] = vectors

    def _take(self, read: Read, part: int, layer: int, vectors: Vectors) -> None:
        for k, name in enumerate(read.names):
            self._vector(name, part, layer, vectors.pooled[:, k])
        if vectors.sizes is not None:
            _increase(self.sizes, layer, vectors.sizes)
        if vectors.active is not None:
            _increase(self.active, layer, vectors.active)
            self.width[layer] += vectors.pooled.shape[2]

    def _vector(self, name: str, part: int, layer: int, vectors: Tensor) -> None:
        _increase(self.squares[name], layer, alignment.squares(vectors))
        if self.side is None:
            _increase(self.dot[name], layer, alignment.dots(self.pivot.vectors[name, part], vectors))
            return
        held = self.pivot.vectors
        if (name, part) not in held:
            held[name, part] = vectors.new_zeros(self.side, vectors.shape[1])
        if self.rows:
            held[name, part][self.rows] = vectors

    def _stack(self, layers: Mapping[int, Tensor]) -> Tensor:
        return torch.stack([layers[layer].to(self.home) for layer in sorted(layers)])


def _increase(sums: dict[int, Tensor], layer: int, more: Tensor) -> None:
    sums[layer] = sums[layer] + more.to(sums[layer].device) if layer in sums else more
