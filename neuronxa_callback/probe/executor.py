"""This rank's microbatches, round by round, and the exchanges between rounds.

Every rank runs as many forwards as every other. What goes wrong on one is noted, and before the
next exchange all ranks leave together: none waits for a sum that another will never give.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from neuronxa_callback.errors import BrokenForwardError
from neuronxa_callback.metrics import alignment
from neuronxa_callback.probe.batching import Batch, Group, Microbatch, Sentence, collate
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.sharding import Stage
from neuronxa_callback.probe.similarity import PartialSimilarity, Pivot, SimilarityAccumulator
from neuronxa_callback.taps.plan import Reader

Forward = Callable[[Batch], Sequence[Tensor]]
"""One microbatch through the model; its hidden states where they are wanted."""
Judge = Callable[[str, Mapping[str, Tensor], Tensor | None, Tensor | None], None]
"""Takes a language, similarities [layers, pairs, pairs] by metric, token shares and activity."""


class Executor:
    """Runs the stages of one probe on one rank.

    Args:
        forward: Runs the model.
        compare: Where the states go.
        world: The ranks.
        groups: The sentences.
        dummy: What a rank runs where it has no work.
        pad: Token id of padding.
        judge: Gets every language as soon as it is complete, on all ranks alike.
        collective: Whether the forward itself is collective (sharded weights).
        told: Called after each microbatch of this rank.
    """

    def __init__(
        self,
        forward: Forward,
        compare: SimilarityAccumulator,
        world: World,
        groups: Sequence[Group],
        dummy: Sequence[Sentence],
        pad: int,
        judge: Judge,
        collective: bool,
        told: Callable[[], None],
    ) -> None:
        self.forward, self.compare, self.world, self.groups = forward, compare, world, groups
        self.dummy, self.pad, self.collect = dummy, pad, judge
        self.collective, self.told = collective, told
        self.failure: Exception | None = None
        self.broken = False
        """Whether a collective forward failed here: other ranks wait in it and hear nothing."""
        self.shape = (0, 0)
        self.pivots: dict[int, Pivot] = {}
        self.waiting: dict[tuple[int, int], list[PartialSimilarity]] = {}
        self.flag = torch.zeros(1, device=compare.home)

    def run(self, stages: Sequence[Stage], reader: Reader) -> None:
        """All stages. Collective: all ranks leave it at the same place.

        Raises the failure of this rank, if any; where another rank has failed, it just ends.
        """
        try:
            for stage in stages:
                self._stage(stage, reader)
        except _ElsewhereError:
            return
        if self.failure is not None:
            raise self.failure

    def _stage(self, stage: Stage, reader: Reader) -> None:
        if stage.pivots:
            self.pivots = {}
            with self._noted():
                for g in stage.groups:
                    if self.world.rank in stage.hands(g):
                        self.pivots[g] = self._empty(g)
        for now, languages in zip(stage.rounds, _completions(stage), strict=True):
            self._one(stage, now[self.world.rank], reader)
            for group, target in languages:
                self._exchange(group, target)
        if stage.pivots:
            self._share(stage)

    def drop(self) -> None:
        """Let go of all vectors and sums."""
        self.failure = None
        self.pivots, self.waiting = {}, {}

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """What fails in here is kept until all ranks can hear of it."""
        try:
            yield
        except Exception as error:
            if self.broken or isinstance(error, BrokenForwardError):
                raise
            self.failure = self.failure or error

    def _together(self) -> None:
        """Collective: every rank goes on, or, where any has failed, every rank leaves."""
        if not self.world.all_ok(self.failure is None, self.flag):
            raise self.failure or _ElsewhereError

    def _one(self, stage: Stage, work: Microbatch | None, reader: Reader) -> None:
        """Run one microbatch, or a dummy where this rank has none; keep what it gives."""
        sentences = self.dummy if work is None else self._sentences(work)
        batch = collate(sentences, self.pad)
        if self.failure is None or self.collective:
            with self._noted():
                self._begin(stage, work, batch, reader)
        # A collective forward runs also where this rank has failed: others wait in it.
        if self.failure is None or self.collective:
            with self._noted():
                self.broken = self.collective
                hidden = self.forward(batch)
                self.broken = False
                reader.end()
                self.compare.hidden(hidden)
        self.failure = self.failure or reader.error
        if self.collective:
            self._together()
        if self.failure is None:
            with self._noted():
                self._keep(stage, work)
        if work is not None:
            self.told()

    def _begin(self, stage: Stage, work: Microbatch | None, batch: Batch, reader: Reader) -> None:
        rows = () if work is None else work.rows
        pivot = self.pivots.get(stage.groups[0] if work is None else work.group)
        if pivot is None:
            pivot = self.compare.pivot(1)
        self.shape = (batch.ids.shape[0], batch.ids.shape[1])
        reader.begin()
        self.compare.begin(batch, pivot, stage.pivots, rows)

    def _keep(self, stage: Stage, work: Microbatch | None) -> None:
        """Collective over slices of neurons: what one microbatch has given."""
        if stage.pivots:
            self.compare.fill()
            return
        columns = self.compare.columns()
        if work is not None and work.target is not None:
            self.waiting.setdefault((work.group, work.target), []).append(columns)

    def _sentences(self, work: Microbatch) -> list[Sentence]:
        group = self.groups[work.group]
        side = group.pivot if work.target is None else group.targets[work.target]
        return [side.sentences[row] for row in work.rows]

    def _empty(self, group: int) -> Pivot:
        return self.compare.pivot(len(self.groups[group].pivot.sentences))

    def _share(self, stage: Stage) -> None:
        """Put the pivots together over all ranks, and keep those that are needed here."""
        for g, homes in zip(stage.groups, stage.homes, strict=True):
            if len(stage.hands(g)) > 1:
                self._share_one(g)
            if self.world.rank not in homes:
                self.pivots.pop(g, None)
        self._together()

    def _share_one(self, group: int) -> None:
        tensors: list[Tensor] = []
        with self._noted():
            pivot = self.pivots.get(group) or self._empty(group)
            tensors = [*pivot.vectors.values(), *pivot.squares.values()]
        self._together()
        for tensor in tensors:
            # What is held on the host travels by way of the device.
            here = tensor.to(self.compare.home)
            self.world.sum_over_data_ranks(here)
            tensor.copy_(here)

    def _exchange(self, group: int, target: int) -> None:
        """Put the columns of a language together over all ranks, and have it judged."""
        blocks = self.waiting.pop((group, target), [])
        pairs = list(self.groups[group].rows[target])
        language = self.groups[group].targets[target].language
        for name, source in self.compare.names.items():
            layers = self.compare.layouts[source].layers
            pivot = self.pivots.get(group)
            sums = self._shared(partial(self._sums, name, layers, blocks, pairs, pivot))
            with self._noted():
                dot, lengths = sums["dot"], sums["lengths"]
                found = alignment.cosines(dot[:, :, :-1], lengths, dot[:, :, -1])
                self.collect(language, {name: found}, None, None)
        seen = self._shared(partial(self._seen, blocks, len(pairs)))
        with self._noted():
            self.collect(language, {}, seen.get("shares"), seen.get("activity"))

    def _shared(self, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Collective: sums over all ranks of what each of them makes."""
        mine: dict[str, Tensor] = {}
        with self._noted():
            mine = make()
        self._together()
        for tensor in mine.values():
            self.world.sum_over_data_ranks(tensor)
        return mine

    def _sums(
        self,
        name: str,
        layers: int,
        blocks: Sequence[PartialSimilarity],
        pairs: Sequence[int],
        pivot: Pivot | None,
    ) -> dict[str, Tensor]:
        """This rank's share of dot products and squared lengths of a language.

        ``dot`` has [layers, pairs, pairs + 1]: its last column holds the squared lengths of the
        targets. ``lengths`` has those of the pivot's sentences, on one rank: [layers, pairs].
        """
        home, n = self.compare.home, len(pairs)
        sums = torch.zeros((layers, n, n + 1), dtype=alignment.widest(home), device=home)
        lengths = torch.zeros_like(sums[:, :, 0])
        for block in blocks:
            sums[:, :, list(block.rows)] = block.dot[name][:, pairs]
            sums[:, list(block.rows), n] = block.squares[name]
        # Of all ranks, the one that has the first sentence of the language.
        if pivot is not None and any(0 in block.rows for block in blocks):
            lengths.copy_(pivot.squares[name][:, pairs])
        return {"dot": sums, "lengths": lengths}

    def _seen(self, blocks: Sequence[PartialSimilarity], n: int) -> dict[str, Tensor]:
        """This rank's statistics per sentence [layers, pairs]: those that are asked for."""
        found = {}
        for wish in ("shares", "activity"):
            wanted = [read.source for read in self.compare.every if getattr(read, wish)]
            if wanted:
                layers = self.compare.layouts[wanted[0]].layers
                found[wish] = torch.zeros(layers, n, device=self.compare.home)
            for block in blocks if wanted else ():
                found[wish][:, list(block.rows)] = getattr(block, wish)
        return found


class _ElsewhereError(Exception):
    """Another rank has failed; its words are heard after the probe."""


def _completions(stage: Stage) -> list[list[tuple[int, int]]]:
    """Per round the targets whose last microbatch runs in it, in one order on all ranks."""
    last: dict[tuple[int, int], int] = {}
    for r, now in enumerate(stage.rounds):
        for work in now:
            if work is not None and work.target is not None:
                last[work.group, work.target] = r
    found: list[list[tuple[int, int]]] = [[] for _ in stage.rounds]
    for key in sorted(last):
        found[last[key]].append(key)
    return found
