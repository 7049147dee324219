"""The sums of one read in one microbatch, by the kernels: buffers of several layers, few launches.

The plain path (``Pooling`` and ``alignment``) is their definition, and takes what they do not.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronxa_callback.metrics.registry import Read
from neuronxa_callback.probe.sums.bags import Bags

BUFFER_BYTES = 128 * 2**20
"""Bytes of the pooled vectors that wait for their dot products, over all reads."""
MOST_TOKENS = 512
"""Up to this length the kernel multiplies pooled activation states exactly, as two digits."""
CountFirings = Callable[[int, Tensor], None]
SOURCES = ("nas", "nav")
"""The sources that the kernels know, in the order of their numbers."""
Keep = Callable[[Sequence[str], int, Tensor], None]


def kernels_run_on(device: torch.device) -> bool:
    """Whether Triton is installed and runs on ``device``: CUDA, or any in its interpreter."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return (
        (device.type == "cuda" or interpreted)
        and importlib.util.find_spec("triton") is not None
        and hasattr(torch.library, "triton_op")
    )


@dataclass(frozen=True)
class FusedSums:
    """The sums of a forward pass; zero in the layers that nobody took."""

    squares: Tensor
    """[layers, rows, batch] fp64."""
    token_sizes: Tensor | None
    """[layers, batch, tokens] fp32, if computed."""
    active: Tensor | None
    """[layers, batch] fp32, if computed."""


class FusedReduction:
    """One read of layers of equal width, each of one part: all dense, or all of routed experts.

    Args:
        read: What to compute.
        layers: The number of layers.
        width: Neurons per layer, on this rank.
        reads: The number of reads that share ``BUFFER_BYTES``.
        device: Where all of it happens.
        experts: The number of routed experts of a layer; 0 if it is dense.
        keep: Gets the names of the read, the first layer, and vectors [layers, rows, batch, width]
            of some layers, before they are dropped.
        count_firings: Takes a layer and its firings [batch, 2, width], if the read has any.
    """

    def __init__(
        self,
        read: Read,
        layers: int,
        width: int,
        reads: int,
        device: torch.device,
        experts: int = 0,
        keep: Keep | None = None,
        count_firings: CountFirings | None = None,
    ) -> None:
        from neuronxa_callback.probe.sums import kernels

        self.kernels, self.read, self.layers, self.width = kernels, read, layers, width
        self.device, self.bytes, self.keep = device, BUFFER_BYTES // reads, keep
        self.count_firings, self.compared_rows = count_firings, len(read.names)
        self.experts = experts
        self.blocks = max(1, experts) * -(-width // max(1, experts) // kernels.BLOCK)
        self.space = self.none = torch.empty(0, dtype=torch.float32, device=device)

    def begin(
        self, weights: Tensor, mask: Tensor, pivot: Tensor, rows: Tensor, filling: bool
    ) -> None:
        """Prepares for one forward pass.

        Args:
            weights: [batch, rows, tokens] fp32.
            mask: [batch, tokens] bool.
            pivot: [layers, rows of metrics, sentences, width] fp32, to compare with or to fill; on
                the device or the host.
            rows: [batch], the sentences of the pivot to fill; empty for a dummy.
            filling: Whether to fill the pivot.
        """
        batch, count, tokens = weights.shape
        self.weights, self.mask = weights.contiguous(), mask.float()
        self.pivot, self.rows, self.filling = pivot, rows, filling
        one = count * batch * self.width
        self.slots = max(1, min(self.layers, self.bytes // (4 * one)))
        if self.space.numel() < self.slots * one:
            self.space = torch.empty(self.slots * one, dtype=torch.float32, device=self.device)
        self.buffer = self.space[: self.slots * one].view(self.slots, count, batch, self.width)
        self.first = self.waiting = 0
        self.missing = set(range(self.layers))
        compared = 0 if filling else pivot.shape[2]
        self.dot = self._empty(  # [layers, rows of metrics, sentences of the pivot, batch]
            self.layers, self.compared_rows, compared, batch, dtype=torch.float64
        )
        self.squares = self._empty(self.layers, count, batch, self.blocks, dtype=torch.float64)
        self.sizes = self.active = self.none
        if self.read.shares:
            per_token = 1 if self.experts else self.blocks
            self.sizes = self._empty(self.layers, batch, tokens, per_token)
        if self.read.activity:
            self.active = self._empty(self.layers, batch, self.blocks)

    def takes(self, states: Tensor, start: int) -> bool:
        """Whether the kernels can read these states: all tokens at once, neurons side by side."""
        return (
            start == 0
            and states.shape == (*self.mask.shape, self.width)
            and states.shape[1] <= MOST_TOKENS
            and states.stride(-1) == 1
            and states.device == self.weights.device
        )

    def takes_routed(self, states: Tensor, whole: bool) -> bool:
        """Whether the kernels can read these states: those of all experts, neurons side by side."""
        return (
            whole
            and states.shape[1] * self.experts == self.width
            and self.mask.shape[1] <= MOST_TOKENS
            and states.stride(1) == 1
            and states.device == self.weights.device
        )

    def add(self, layer: int, states: Tensor) -> None:
        """Sums states [batch, tokens, width] of one layer."""
        self._begin_layer(layer)
        sizes = self.sizes[layer] if self.read.shares else self.none
        self.kernels.pool(states, self.weights, self.mask, *self._sums(layer, sizes))
        self._end_layer(layer)

    def add_routed(self, layer: int, states: Tensor, bags: Bags) -> None:
        """Sums states [pairs, d_ff] of tokens and experts of one layer."""
        self._begin_layer(layer)
        shares, blocks = self.read.shares, self.blocks // self.experts
        sizes = self._empty(len(states), blocks) if shares else self.none
        pairs = (bags.token, bags.order, bags.starts)
        self.kernels.pool_routed(states, *pairs, self.weights, self.mask, *self._sums(layer, sizes))
        if shares:
            self.sizes[layer] = bags.sum_by_token(sizes.sum(1)).view(*self.mask.shape, 1)
        self._end_layer(layer)

    def _sums(self, layer: int, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """What the kernels fill, and the number of the source."""
        active = self.active[layer] if self.read.activity else self.none
        source = SOURCES.index(self.read.source)
        return self.buffer[self.waiting], self.squares[layer], sizes, active, source

    def leave(self, layer: int) -> None:
        """Leaves a layer to the plain path, which adds to zeros."""
        self.missing.discard(layer)
        for sums in (self.dot, self.squares, self.sizes, self.active):
            sums[layer : layer + 1].zero_()

    def _begin_layer(self, layer: int) -> None:
        self.missing.discard(layer)
        if layer != self.first + self.waiting:
            self._flush()
            self.first = layer

    def _end_layer(self, layer: int) -> None:
        if self.read.firings and self.count_firings is not None:
            firings = self.buffer[self.waiting, self.compared_rows :]
            self.count_firings(layer, firings.transpose(0, 1))
        self.waiting += 1
        if self.waiting == self.slots:
            self._flush()

    def end(self) -> FusedSums:
        """The sums of this forward pass."""
        self._flush()
        for layer in tuple(self.missing):
            self.leave(layer)
        return FusedSums(
            self.squares.sum(-1),
            self.sizes.sum(-1) if self.read.shares else None,
            self.active.sum(-1) if self.read.activity else None,
        )

    def _flush(self) -> None:
        """Compares the vectors that wait, or stores those of a pivot."""
        if self.waiting:
            layers = slice(self.first, self.first + self.waiting)
            # Without the rows that count firings, which come last.
            vectors = self.buffer[: self.waiting, : self.compared_rows]
            pivot = self.pivot[layers]
            if self.keep is not None and self.compared_rows:
                self.keep(self.read.names, self.first, vectors)
            if not self.filling and self.compared_rows:
                exact = self.read.source == "nas"
                self.kernels.compare(
                    pivot.to(self.device).flatten(0, 1),
                    vectors.flatten(0, 1).contiguous(),
                    self.dot[layers].flatten(0, 1),
                    exact,
                )
            elif self.filling and len(self.rows):
                pivot[:, :, self.rows.to(pivot.device)] = vectors.to(pivot.device)
        self.first, self.waiting = self.first + self.waiting, 0

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)
