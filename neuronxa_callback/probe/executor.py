"""Runs the microbatches of this rank, and the exchanges between ranks.

Every rank runs equally many forwards. An error may be raised anywhere, except in a forward in which
other ranks take part (hooks keep theirs): the others learn of it at their next exchange and leave.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import Read
from neuronxa_callback.probe.batching import Batch, Microbatch, PivotGroup, collate
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.language_pairs.vectors import LanguageVectors
from neuronxa_callback.probe.neurons.counter import FiringCounter
from neuronxa_callback.probe.results import ResultCollector
from neuronxa_callback.probe.sharding import Stage
from neuronxa_callback.probe.similarity import (
    LayerLayout,
    Pivot,
    SimilarityAccumulator,
)
from neuronxa_callback.probe.sums.windows import WindowSums
from neuronxa_callback.taps.plan import Reader, TapPlan

STATISTICS = ("shares", "activity")
"""Statistics per sentence, each a field of ``Read``."""


@dataclass(frozen=True)
class ProbeContext:
    """Everything that the executor needs to run one probe on one rank."""

    model: nn.Module
    forward: Forward
    plan: TapPlan
    layouts: Mapping[str, LayerLayout]
    """Source (``"nas"``, ``"nav"``, ``"hidden"``) -> the parts of its layers."""
    reads: Mapping[str, Sequence[Read]]
    """Site (``"gate"``, ``"product"``, ``"hidden"``) -> what to compute there."""
    world: World
    device: torch.device
    """Where vectors are compared and sums are exchanged."""
    groups: Sequence[PivotGroup]
    stages: Sequence[Stage]
    dummy: Batch
    """What a rank runs when it has no microbatch."""
    pad: int
    """Token id of padding."""
    results: ResultCollector
    """Empty: where the scores of each language go."""
    counter: FiringCounter | None = None
    """Empty: counts firings, if a statistic needs them."""
    vectors: LanguageVectors | None = None
    """Empty: keeps the vectors of all languages, if they are compared with each other."""
    progress: Callable[[int, int], None] | None = None
    """Called with (microbatches done, microbatches in all) of this rank."""


@dataclass(frozen=True)
class Measurement:
    """What the executor returns."""

    results: ResultCollector
    """Equal on all ranks."""
    pivots: Mapping[int, Pivot]
    """group -> the pivots that this rank still holds."""
    dtype: str
    """The dtype in which the neurons computed."""
    reduction: str
    """``"fused"`` if the kernels were there to sum the states, else ``"plain"``."""


class Executor:
    """One run of a probe on one rank."""

    def __init__(self, context: ProbeContext) -> None:
        self.context, self.world, self.device = context, context.world, context.device
        self.batch = context.dummy
        self.pivots: dict[int, Pivot] = {}
        self.pending: dict[tuple[int, int], WindowSums] = {}
        """(group, window) -> what this rank has computed of an incomplete window."""
        own = [work[self.world.rank] for stage in context.stages for work in stage.rounds]
        self.total, self.done = sum(work is not None for work in own), 0

    def run(self) -> Measurement:
        """Runs all stages. Collective.

        Raises:
            OtherRankFailedError: If another rank failed; the failing rank raises its own error.
        """
        context = self.context
        self.accumulator = SimilarityAccumulator(
            context.layouts,
            context.reads,
            self.world,
            self.device,
            context.counter,
            context.vectors,
        )
        sites = tuple(site for site in context.reads if site != "hidden")
        with context.plan.attach(
            context.model, sites, self.accumulator, self._batch_shape
        ) as reader:
            for stage in context.stages:
                self._run_stage(stage, reader)
        if context.counter is not None:
            context.counter.exchange(self.world, self.device)
        reduction = "fused" if self.accumulator.fused else "plain"
        return Measurement(context.results, self.pivots, self.accumulator.dtype, reduction)

    def _batch_shape(self) -> tuple[int, int]:
        sentences, tokens = self.batch.ids.shape
        return sentences, tokens

    def _run_stage(self, stage: Stage, reader: Reader) -> None:
        if stage.pivots:
            self.pivots = {
                group: self._empty_pivot(group)
                for group in stage.groups
                if self.world.rank in stage.ranks_of(group)
            }
        for one_round, complete in zip(stage.rounds, stage.complete_windows(), strict=True):
            self._run_microbatch(stage, one_round[self.world.rank], reader)
            for group, window in complete:
                self._score_window(group, window)
        if stage.pivots:
            self._exchange_pivots(stage)

    def _run_microbatch(self, stage: Stage, work: Microbatch | None, reader: Reader) -> None:
        """Runs one microbatch, or a dummy if this rank has none, and keeps its sums."""
        self.batch = self.context.dummy if work is None else self._collate(work)
        self._begin(stage, work, reader)
        hidden = self.context.forward(self.batch)
        reader.end()
        if reader.error is not None:
            raise reader.error
        self.accumulator.hidden(hidden)
        self._keep_sums(stage, work)
        self._report_progress(work)

    def _collate(self, work: Microbatch) -> Batch:
        sentences = self.context.groups[work.group].sentences(work.window)
        return collate([sentences[row] for row in work.rows], self.context.pad)

    def _begin(self, stage: Stage, work: Microbatch | None, reader: Reader) -> None:
        pivot = self.pivots.get(stage.groups[0] if work is None else work.group)
        if pivot is None:
            pivot = self.accumulator.empty_pivot(1)
        reader.begin()
        rows = () if work is None else work.rows
        for kept in (self.context.counter, self.context.vectors):
            if kept is not None:
                kept.begin(work)
        self.accumulator.begin(self.batch, pivot, stage.pivots, rows)

    def _keep_sums(self, stage: Stage, work: Microbatch | None) -> None:
        """Collective over slices of neurons."""
        if stage.pivots:
            self.accumulator.fill_pivot()
            return
        part = self.accumulator.partial_similarity()
        if work is not None and work.window is not None:
            key = (work.group, work.window)
            if key not in self.pending:
                self.pending[key] = self._empty_window(*key)
            self.pending[key].add(part, self.pivots[work.group].squares)

    def _report_progress(self, work: Microbatch | None) -> None:
        if work is not None:
            self.done += 1
            if self.context.progress is not None:
                self.context.progress(self.done, self.total)

    # Exchanges

    def _exchange_pivots(self, stage: Stage) -> None:
        """Sums pivots over the ranks that ran a part, and keeps those that are needed here."""
        for group, comparers in zip(stage.groups, stage.comparers, strict=True):
            if len(stage.ranks_of(group)) > 1:
                self._exchange_pivot(group)
            if self.world.rank not in comparers:
                self.pivots.pop(group, None)

    def _exchange_pivot(self, group: int) -> None:
        pivot = self.pivots.get(group) or self._empty_pivot(group)
        for tensor in (*pivot.vectors.values(), *pivot.squares.values()):
            # A tensor on the host is exchanged through the device.
            on_device = tensor.to(self.device)
            self.world.sum_over_data_ranks(on_device)
            tensor.copy_(on_device)

    def _empty_pivot(self, group: int) -> Pivot:
        return self.accumulator.empty_pivot(len(self.context.groups[group].pivot.sentences))

    def _empty_window(self, group: int, window: int) -> WindowSums:
        layouts, accumulator = self.context.layouts, self.accumulator
        sides = self.context.groups[group]
        return WindowSums.zeros(
            {metric: layouts[source].layers for metric, source in accumulator.source_of.items()},
            {
                name: layouts[read.source].layers
                for name in STATISTICS
                for read in accumulator.all_reads
                if getattr(read, name)
            },
            (len(sides.pivot.sentences), len(sides.sentences(window))),
            alignment.product_dtype(self.device),
            self.device,
        )

    def _score_window(self, group: int, window: int) -> None:
        """Sums a complete window over all ranks and scores its languages."""
        sums = self._sum_window(group, window)
        for target, rows in self.context.groups[group].windows[window].rows.items():
            self._score_language(group, target, sums, rows)

    def _sum_window(self, group: int, window: int) -> WindowSums:
        key = (group, window)
        sums = self.pending.pop(key) if key in self.pending else self._empty_window(*key)
        self.world.sum_over_data_ranks(*sums.tensors())
        return sums

    def _score_language(self, group: int, target: int, sums: WindowSums, rows: slice) -> None:
        pairs = self._pivot_rows(self.context.groups[group].rows[target])
        language = self.context.groups[group].targets[target].language
        own = [read.own for read in self.accumulator.all_reads if read.own is not None]
        similarities = {metric.name: metric.similarity for metric in own}
        for metric, dot in sums.dot.items():
            lengths = sums.pivot_squares[metric][:, pairs], sums.squares[metric][:, rows]
            compare = similarities.get(metric, alignment.cosines)
            similarity = compare(dot[:, pairs, rows], *lengths)
            self.context.results.add_similarity(metric, language, similarity)
        for name, values in sums.statistics.items():
            self.context.results.add_statistic(name, language, values[:, rows])

    def _pivot_rows(self, pairs: Sequence[int]) -> slice | Tensor:
        """The pivot sentence of each pair; a slice, without a copy to the device, if in order."""
        if pairs == tuple(range(len(pairs))):
            return slice(0, len(pairs))
        return torch.tensor(pairs, dtype=torch.long, device=self.device)


def run_info(world: World, measurement: Measurement) -> dict[str, Any]:
    """About the run, not part of the measurement."""
    return {
        "ranks": world.size,
        "time": round(time.time(), 3),
        "pivot_bytes": max((pivot.nbytes for pivot in measurement.pivots.values()), default=0),
    }
