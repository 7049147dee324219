"""From the states of one microbatch to columns of the similarity matrix.

The pivot's pooled vectors are held; a target's are compared with them layer by layer, while the
forward pass runs, and dropped. What remains of a microbatch are dot products and squared lengths,
so that memory does not grow with the number of languages.

Axes: ``sentences`` of the pivot side, ``batch`` sentences of the microbatch, ``layers``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import Read
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.pooling import Pooling, Vectors

HELD_ON_DEVICE = 4 * 2**30
"""Bytes above which a pivot's vectors are held on the host: those of a mixture of experts with 128
experts of 768 neurons in 48 layers take 1.9 GB for each metric."""


@dataclass(frozen=True)
class Layout:
    """Of which parts a source's layers are made; hidden states are layers of one part each."""

    places: tuple[int, ...]
    """The place 0, 1, .. of every part's layer."""
    widths: tuple[int, ...]
    """The neurons of every part, on this rank."""
    experts: tuple[int, ...]
    """The number of experts of every part; 0 where it is dense."""

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(dict.fromkeys(self.places))


@dataclass
class Pivot:
    """The pooled vectors of a pivot side, and their squared lengths, zero until filled."""

    vectors: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """(metric, part) -> [sentences, width]."""
    squares: dict[str, Tensor] = field(default_factory=dict)
    """metric -> [layers, sentences]."""

    @property
    def nbytes(self) -> int:
        """What the vectors take."""
        return sum(each.nbytes for each in self.vectors.values())


@dataclass(frozen=True)
class PartialSimilarity:
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


def storage_device(nbytes: int, home: torch.device) -> torch.device:
    """Where vectors of so many bytes are held."""
    return home if nbytes <= HELD_ON_DEVICE else torch.device("cpu")


class SimilarityAccumulator:
    """Receives the states of a microbatch (a ``StateSink``) and sums up what is asked for.

    Args:
        layouts: Per source (``"nas"``, ``"nav"``, ``"hidden"``) how its layers are made up.
        reads: What is wanted, per site (``"gate"``, ``"product"``, ``"hidden"``).
        world: The ranks, for slices of neurons.
        home: The device on which vectors are compared and results are collected.
    """

    def __init__(
        self,
        layouts: Mapping[str, Layout],
        reads: Mapping[str, Sequence[Read]],
        world: World,
        home: torch.device,
    ) -> None:
        self.layouts, self.reads, self.world, self.home = layouts, reads, world, home
        self.every = [read for each in reads.values() for read in each]
        self.names = {name: read.source for read in self.every for name in read.names}
        self.dtype = "none"
        """In which precision the neurons compute."""

    def pivot(self, sentences: int) -> Pivot:
        """An empty pivot, with room for all its vectors: on the host where they are large."""
        wide = alignment.widest(self.home)
        made = Pivot()
        numbers = sum(sum(self.layouts[source].widths) for source in self.names.values())
        shelf = storage_device(4 * sentences * numbers, self.home)
        for name, source in self.names.items():
            layout = self.layouts[source]
            for part, width in enumerate(layout.widths):
                made.vectors[name, part] = torch.zeros(sentences, width, device=shelf)
            shape = (layout.layers, sentences)
            made.squares[name] = torch.zeros(shape, dtype=wide, device=self.home)
        return made

    def begin(self, batch: Batch, pivot: Pivot, filling: bool, rows: Sequence[int]) -> None:
        """Make ready for one forward pass.

        Args:
            batch: The microbatch.
            pivot: The pivot to compare with, or to fill.
            filling: Whether these are sentences of the pivot.
            rows: Which sentences of their side these are; empty for a dummy.
        """
        # Once a microbatch: what comes from the host makes it wait for the device.
        batch = batch.to(self.home)
        self.pooling = Pooling(batch, self.every)
        self.held, self.filling, self.rows = pivot, filling, tuple(rows)
        self.places = torch.tensor(self.rows, dtype=torch.long, device=self.home)
        self.counts = batch.counts
        self.chunks: dict[tuple[str, int], Vectors] = {}
        self.dot: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        wide, size = alignment.widest(self.home), len(batch.counts)
        for name, source in self.names.items():
            sentences, layers = pivot.squares[name].shape[1], self.layouts[source].layers
            shape = (layers, size)
            self.squares[name] = torch.zeros(shape, dtype=wide, device=self.home)
            if not filling:
                shape_of_dots = (layers, sentences, size)
                self.dot[name] = torch.zeros(shape_of_dots, dtype=wide, device=self.home)
        self.sizes = self._room("shares", batch.counts.shape)
        self.active = self._room("activity", batch.counts.shape[:1])

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """States [batch, tokens, width] of a part, for tokens from ``start`` on."""
        last = start + states.shape[1] >= self.counts.shape[1]
        self.dtype = str(states.dtype).removeprefix("torch.")
        for read in self.reads[site]:
            vectors = self.pooling.dense(read, states, start)
            self._gather(read, part, vectors, last)

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """States [rows, d_ff] of (token, expert) pairs of a part."""
        for read in self.reads[site]:
            experts = self.layouts[read.source].experts[part]
            vectors = self.pooling.routed(read, states, token, expert, experts)
            self._gather(read, part, vectors, last)

    def hidden(self, states: Sequence[Tensor]) -> None:
        """The hidden states of all layers, each [batch, tokens, hidden size]."""
        for read in self.reads.get("hidden", ()):
            for layer, each in enumerate(states):
                self._take(read, layer, self.pooling.dense(read, each, 0))

    def columns(self) -> PartialSimilarity:
        """Sums of the microbatch that has just run, complete over slices of neurons."""
        dot = {name: self.world.sum_over_tensor_ranks(each) for name, each in self.dot.items()}
        squares = {
            name: self.world.sum_over_tensor_ranks(each) for name, each in self.squares.items()
        }
        shares = activity = None
        if self.sizes is not None:
            sizes = self.world.sum_over_tensor_ranks(self.sizes)
            shares = sizes.amax(dim=2) / sizes.sum(dim=2)
        if self.active is not None:
            active = self.world.sum_over_tensor_ranks(self.active)
            activity = active / (self._neurons() * self.counts.sum(dim=1))
        return PartialSimilarity(self.rows, dot, squares, shares, activity)

    def fill(self) -> None:
        """Put the squared lengths of the microbatch that has just run into the pivot."""
        for name, each in self.squares.items():
            here = self.world.sum_over_tensor_ranks(each)
            if self.rows:
                self.held.squares[name][:, self.places] = here

    def _room(self, wish: str, shape: Sequence[int]) -> Tensor | None:
        source = next((read.source for read in self.every if getattr(read, wish)), None)
        if source is None:
            return None
        return torch.zeros(self.layouts[source].layers, *shape, device=self.home)

    def _neurons(self) -> Tensor:
        layout = self.layouts["nas"]
        found = torch.zeros(layout.layers, 1, device=self.home)
        for place, width in zip(layout.places, layout.widths, strict=True):
            found[place] += width
        return self.world.sum_over_tensor_ranks(found)

    def _gather(self, read: Read, part: int, vectors: Vectors, last: bool) -> None:
        key = (read.source, part)
        if key in self.chunks:
            vectors = self.chunks.pop(key).add(vectors)
        if last:
            self._take(read, part, vectors)
        else:
            self.chunks[key] = vectors

    def _take(self, read: Read, part: int, vectors: Vectors) -> None:
        layer = self.layouts[read.source].places[part]
        for k, name in enumerate(read.names):
            self._vector(name, part, layer, vectors.pooled[:, k].to(self.home))
        if vectors.sizes is not None and self.sizes is not None:
            self.sizes[layer] += vectors.sizes.to(self.home)
        if vectors.active is not None and self.active is not None:
            self.active[layer] += vectors.active.to(self.home)

    def _vector(self, name: str, part: int, layer: int, vectors: Tensor) -> None:
        self.squares[name][layer] += alignment.squares(vectors)
        held = self.held.vectors[name, part]
        if not self.filling:
            self.dot[name][layer] += alignment.dots(held.to(self.home), vectors)
        elif self.rows:
            held[self.places.to(held.device)] = vectors.to(held.device)
