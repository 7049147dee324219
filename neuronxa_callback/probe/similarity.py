"""From the states of one microbatch to its part of the similarity matrices.

The pooled vectors of the pivot are kept. A target's vectors are compared with them layer by layer
during the forward pass and dropped; dot products and squared lengths remain, so memory does not
grow with the number of languages.

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
from neuronxa_callback.probe.language_pairs.vectors import LanguageVectors
from neuronxa_callback.probe.memory import storage_device
from neuronxa_callback.probe.neurons.counter import FiringCounter
from neuronxa_callback.probe.pooling import Pooling, Vectors, finish
from neuronxa_callback.probe.sums.fused import SOURCES, FusedReduction, kernels_run_on
from neuronxa_callback.probe.sums.windows import PartialSimilarity
from neuronxa_callback.taps.plan import TapPlan


@dataclass(frozen=True)
class LayerLayout:
    """The parts that make up the layers of a source; a hidden state is a layer of one part."""

    layer_of_part: tuple[int, ...]
    """Index 0, 1, .. of each part's layer."""
    widths: tuple[int, ...]
    """Number of neurons of each part, on this rank."""
    experts: tuple[int, ...]
    """Number of experts of each part; 0 where it is dense."""

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(dict.fromkeys(self.layer_of_part))

    @property
    def width(self) -> int:
        """Neurons of each layer, where all are alike (parts, widths, experts); else 0."""
        kinds = set(zip(self.widths, self.experts, strict=True))
        alike = self.layer_of_part == tuple(range(len(self.widths))) and len(kinds) == 1
        return self.widths[0] if alike else 0


def layouts_of(plan: TapPlan, hidden_sizes: Sequence[int]) -> dict[str, LayerLayout]:
    """Source (``"nas"``, ``"nav"``, ``"hidden"``) -> the parts of its layers."""
    index = {label: k for k, label in enumerate(plan.layers)}
    neurons = LayerLayout(
        tuple(index[part.layer] for part in plan.parts),
        tuple(part.width for part in plan.parts),
        tuple(part.experts for part in plan.parts),
    )
    states = len(hidden_sizes)
    hidden = LayerLayout(tuple(range(states)), tuple(hidden_sizes), (0,) * states)
    return {"nas": neurons, "nav": neurons, "hidden": hidden}


@dataclass
class Pivot:
    """Pooled vectors of a pivot side and their squared lengths, zero until filled."""

    vectors: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """(metric, part) -> [sentences, width]."""
    squares: dict[str, Tensor] = field(default_factory=dict)
    """metric -> [layers, sentences]."""
    stacked: dict[str, Tensor] = field(default_factory=dict)
    """source -> [layers, its metrics, sentences, width], where layers are alike: the vectors."""

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return sum(vectors.nbytes for vectors in self.vectors.values())


class SimilarityAccumulator:
    """Receives the states of a microbatch (a ``StateSink``) and sums what the reads need.

    Args:
        layouts: Source (``"nas"``, ``"nav"``, ``"hidden"``) -> the parts of its layers.
        reads: Site (``"gate"``, ``"product"``, ``"hidden"``) -> what to compute there.
        world: The ranks, for slices of neurons.
        device: Where vectors are compared and results are collected.
        counter: Counts firings; None if no read has any.
        kept: Keeps the vectors of all languages; None if they are only compared with the pivot.
    """

    def __init__(
        self,
        layouts: Mapping[str, LayerLayout],
        reads: Mapping[str, Sequence[Read]],
        world: World,
        device: torch.device,
        counter: FiringCounter | None = None,
        kept: LanguageVectors | None = None,
    ) -> None:
        self.counter, self.kept = counter, kept
        self.layouts, self.reads, self.world, self.device = layouts, reads, world, device
        self.all_reads = [read for at_site in reads.values() for read in at_site]
        self.source_of = {name: read.source for read in self.all_reads for name in read.names}
        """metric -> its source."""
        self.dtype = "none"
        """The dtype of the latest neuron states."""
        self.fused: dict[str, FusedReduction] = {}
        """source -> its kernels, where they run."""
        neurons = [read for read in self.all_reads if read.source in SOURCES]
        more = (None if kept is None else kept.add_layers, None if counter is None else counter.add)
        for read in neurons if kernels_run_on(device) else ():
            layout = layouts[read.source]
            if layout.width:
                sizes = (layout.layers, layout.width, len(neurons), device, layout.experts[0])
                self.fused[read.source] = FusedReduction(read, *sizes, *more)

    def empty_pivot(self, sentences: int) -> Pivot:
        """A pivot of zeros for so many sentences; on the host where it is large."""
        dtype = alignment.product_dtype(self.device)
        pivot = Pivot()
        width = sum(sum(self.layouts[source].widths) for source in self.source_of.values())
        storage = storage_device(4 * sentences * width, self.device)
        for source in self.fused:
            names = [name for name, its in self.source_of.items() if its == source]
            layout = self.layouts[source]
            stacked = torch.zeros(
                layout.layers, len(names), sentences, layout.width,
                dtype=torch.float32, device=storage,
            )  # fmt: skip
            pivot.stacked[source] = stacked
            for part in range(layout.layers):
                for k, name in enumerate(names):
                    pivot.vectors[name, part] = stacked[part, k]
        for metric, source in self.source_of.items():
            layout = self.layouts[source]
            for part, part_width in enumerate(layout.widths if source not in self.fused else ()):
                pivot.vectors[metric, part] = torch.zeros(
                    sentences, part_width, dtype=torch.float32, device=storage
                )
            shape = (layout.layers, sentences)
            pivot.squares[metric] = torch.zeros(shape, dtype=dtype, device=self.device)
        return pivot

    def begin(self, batch: Batch, pivot: Pivot, filling: bool, rows: Sequence[int]) -> None:
        """Prepares for one forward pass.

        Args:
            batch: The microbatch.
            pivot: The pivot to compare with, or to fill.
            filling: Whether the sentences belong to the pivot.
            rows: Which sentences of their side these are; empty for a dummy.
        """
        # Once per microbatch, since a copy from the host waits for the device.
        batch = batch.to(self.device)
        self.pooling = Pooling(batch, self.all_reads)
        self.pivot, self.filling, self.rows = pivot, filling, tuple(rows)
        self.row_index = torch.tensor(self.rows, dtype=torch.long, device=self.device)
        self.mask = batch.mask
        self.chunks: dict[tuple[str, int], Vectors] = {}
        self.dot: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        dtype, size = alignment.product_dtype(self.device), len(batch.mask)
        for metric, source in self.source_of.items():
            if source not in self.fused:
                sentences = pivot.squares[metric].shape[1]
                self.squares[metric] = self._zeros(source, size, dtype=dtype)
                if not filling:
                    self.dot[metric] = self._zeros(source, sentences, size, dtype=dtype)
        self.token_sizes = self._zeros_if("shares", batch.mask.shape)
        self.active = self._zeros_if("activity", batch.mask.shape[:1])
        for source, fused in self.fused.items():
            weights, stacked = self.pooling.weights[source], pivot.stacked[source]
            fused.begin(weights, batch.mask, stacked, self.row_index, filling)
            # The kernels fill the layers that they take, and the plain path adds to the others.
            for k, metric in enumerate(fused.read.names):
                self.squares[metric] = fused.squares[:, k, :, 0]
                if not filling:
                    self.dot[metric] = fused.dot[:, k]
            self.token_sizes = fused.sizes[..., 0] if fused.read.shares else self.token_sizes
            self.active = fused.active[..., 0] if fused.read.activity else self.active

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """Takes states [batch, tokens, width] of a part, for tokens from ``start`` on."""
        last = start + states.shape[1] >= self.mask.shape[1]
        self.dtype = str(states.dtype).removeprefix("torch.")
        for read in self.reads[site]:
            fused = self.fused.get(read.source)
            if fused is not None and fused.takes(states, start):
                fused.add(part, states)
                continue
            vectors = self.pooling.dense(read, states, start)
            self._add_chunk(read, part, vectors, last)

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """Takes states [rows, d_ff] of (token, expert) pairs of a part."""
        for read in self.reads[site]:
            experts, fused = self.layouts[read.source].experts[part], self.fused.get(read.source)
            whole = last and (read.source, part) not in self.chunks
            if fused is not None and fused.takes_routed(states, whole):
                fused.add_routed(part, states, self.pooling.bags_of(token, expert, experts))
                continue
            vectors = self.pooling.routed(read, states, token, expert, experts)
            self._add_chunk(read, part, vectors, last)

    def hidden(self, states: Sequence[Tensor]) -> None:
        """Takes the hidden states of all layers, each [batch, tokens, hidden size]."""
        for read in self.reads.get("hidden", ()):
            for layer, layer_states in enumerate(states):
                self._add_vectors(read, layer, self.pooling.dense(read, layer_states, 0))

    def partial_similarity(self) -> PartialSimilarity:
        """Collective over slices of neurons: the sums of the microbatch that has just run."""
        self._end_fused()
        total = self.world.sum_over_tensor_ranks
        dot = {name: total(sums) for name, sums in self.dot.items()}
        squares = {name: total(sums) for name, sums in self.squares.items()}
        statistics = {}
        if self.token_sizes is not None:
            sizes = total(self.token_sizes)
            statistics["shares"] = sizes.amax(dim=2) / sizes.sum(dim=2)
        if self.active is not None:
            active = total(self.active)
            statistics["activity"] = active / (self._neurons_per_layer() * self.mask.sum(dim=1))
        return PartialSimilarity(self.rows, dot, squares, statistics)

    def fill_pivot(self) -> None:
        """Collective over slices: puts the squared lengths of this microbatch into the pivot."""
        self._end_fused()
        for metric, sums in self.squares.items():
            squares = self.world.sum_over_tensor_ranks(sums)
            if self.rows:
                self.pivot.squares[metric][:, self.row_index] = squares

    def _end_fused(self) -> None:
        """Takes the sums of the kernels, with those that the plain path added."""
        for fused in self.fused.values():
            sums = fused.end()
            for k, metric in enumerate(fused.read.names):
                self.squares[metric] = sums.squares[:, k]
            if sums.token_sizes is not None:
                self.token_sizes = sums.token_sizes
            if sums.active is not None:
                self.active = sums.active

    def _zeros_if(self, statistic: str, shape: Sequence[int]) -> Tensor | None:
        """Zeros [layers, *shape] if any read computes the statistic without kernels."""
        source = next((read.source for read in self.all_reads if getattr(read, statistic)), None)
        return None if source is None or source in self.fused else self._zeros(source, *shape)

    def _zeros(self, source: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        layers = self.layouts[source].layers
        return torch.zeros(layers, *shape, dtype=dtype, device=self.device)

    def _neurons_per_layer(self) -> Tensor:
        layout = self.layouts["nas"]
        widths = [0.0] * layout.layers
        for layer, width in zip(layout.layer_of_part, layout.widths, strict=True):
            widths[layer] += width
        neurons = torch.tensor(widths, dtype=torch.float32, device=self.device)[:, None]
        return self.world.sum_over_tensor_ranks(neurons)

    def _add_chunk(self, read: Read, part: int, vectors: Vectors, last: bool) -> None:
        """Keeps the sum of a part's chunks, until the last one completes its vectors."""
        key = (read.source, part)
        vectors = self.chunks.pop(key).add(vectors) if key in self.chunks else vectors
        if last:
            self._add_vectors(read, part, vectors)
        else:
            self.chunks[key] = vectors

    def _add_vectors(self, read: Read, part: int, vectors: Vectors) -> None:
        layer = self.layouts[read.source].layer_of_part[part]
        if read.source in self.fused:
            self.fused[read.source].leave(layer)
        for k, metric in enumerate(read.names):
            pooled = finish(read, vectors.pooled[:, k])
            self._compare(metric, part, layer, pooled.to(self.device))
        if read.firings and self.counter is not None:
            self.counter.add(part, vectors.pooled[:, len(read.names) :])
        if vectors.token_sizes is not None and self.token_sizes is not None:
            self.token_sizes[layer] += vectors.token_sizes.to(self.device)
        if vectors.active is not None and self.active is not None:
            self.active[layer] += vectors.active.to(self.device)

    def _compare(self, metric: str, part: int, layer: int, vectors: Tensor) -> None:
        """Adds the dot products of a part's vectors [batch, width], or stores those of a pivot."""
        self.squares[metric][layer] += alignment.squares(vectors)
        if self.kept is not None:
            self.kept.add(metric, part, vectors)
        stored = self.pivot.vectors[metric, part]
        if not self.filling:
            self.dot[metric][layer] += alignment.dots(stored.to(self.device), vectors)
        elif self.rows:
            stored[self.row_index.to(stored.device)] = vectors.to(stored.device)
