"""This rank's microbatches, round by round, and the exchanges between rounds.

Every rank runs as many forwards as every other and takes part in every exchange, whatever goes
wrong on it: its failure is told to all after the last one.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from neuronxa_callback.measure import alignment
from neuronxa_callback.measure.batching import Batch, Group, Microbatch, Sentence, Stage, collate
from neuronxa_callback.measure.compare import Columns, Comparison, Pivot
from neuronxa_callback.measure.distributed import World
from neuronxa_callback.measure.taps import Reader

Forward = Callable[[Batch], Sequence[Tensor]]
"""One microbatch through the model; its hidden states where they are wanted."""
Judge = Callable[[str, Mapping[str, Tensor], Tensor | None, Tensor | None], None]
"""Takes a language, similarities [layers, pairs, pairs] by metric, token shares and activity."""


class Rounds:
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
        compare: Comparison,
        world: World,
        groups: Sequence[Group],
        dummy: Sequence[Sentence],
        pad: int,
        judge: Judge,
        collective: bool,
        told: Callable[[], None],
    ) -> None:
        self.forward, self.compare, self.world, self.groups = forward, compare, world, groups
        self.dummy, self.pad, self.judge = dummy, pad, judge
        self.collective, self.told = collective, told
        self.failure: Exception | None = None
        self.broken = False
        """Whether a collective forward failed here: other ranks wait in it and hear nothing."""
        self.shape = (0, 0)
        self.pivots: dict[int, Pivot] = {}
        self.waiting: dict[tuple[int, int], list[Columns]] = {}

    def run(self, stages: Sequence[Stage], reader: Reader) -> None:
        """All stages. Collective; raises the failure of this rank, if any, at the very end."""
        for stage in stages:
            if stage.pivots:
                self.pivots = {}
                for g in stage.groups:
                    if self._mine(stage, g):
                        self.pivots[g] = self.compare.pivot(len(self.groups[g].pivot.sentences))
            complete = _completions(stage)
            for now, languages in zip(stage.rounds, complete, strict=True):
                self._one(stage, now[self.world.rank], reader)
                for group, target in languages:
                    self._exchange(group, target)
            if stage.pivots:
                self._share(stage)
        if self.failure is not None:
            raise self.failure

    def _mine(self, stage: Stage, group: int) -> bool:
        """A shared pivot is held by all; one of a single language where it runs."""
        if len(self.groups[group].targets) > 1:
            return True
        mine = [now[self.world.rank] for now in stage.rounds]
        return any(work is not None and work.group == group for work in mine)

    def _one(self, stage: Stage, work: Microbatch | None, reader: Reader) -> None:
        """Run one microbatch, or a dummy where this rank has none; keep what it gives."""
        try:
            if self.failure is None or self.collective:
                self._forward(stage, work, reader)
        except Exception as error:
            if self.broken:
                raise
            self.failure = self.failure or error
        if work is not None:
            self.told()

    def _forward(self, stage: Stage, work: Microbatch | None, reader: Reader) -> None:
        sentences, rows = (self.dummy, ()) if work is None else (self._sentences(work), work.rows)
        pivot = self.pivots.get(stage.groups[0] if work is None else work.group)
        batch = collate(sentences, self.pad)
        if pivot is None:
            pivot = self.compare.pivot(1)
        self.shape = (batch.ids.shape[0], batch.ids.shape[1])
        self.compare.begin(batch, pivot, stage.pivots, rows)
        reader.begin()
        self.broken = self.collective
        hidden = self.forward(batch)
        self.broken = False
        reader.end()
        self.compare.hidden(hidden)
        # Sums over slices of neurons are collective: they run also where a hook has failed.
        if stage.pivots:
            self.compare.fill()
        else:
            columns = self.compare.columns()
            if work is not None and work.target is not None:
                self.waiting.setdefault((work.group, work.target), []).append(columns)
        if reader.error is not None:
            raise reader.error

    def _sentences(self, work: Microbatch) -> list[Sentence]:
        group = self.groups[work.group]
        side = group.pivot if work.target is None else group.targets[work.target]
        return [side.sentences[row] for row in work.rows]

    def _share(self, stage: Stage) -> None:
        for g in stage.groups:
            if len(self.groups[g].targets) > 1:
                for tensor in (*self.pivots[g].vectors.values(), *self.pivots[g].squares.values()):
                    self.world.shared(tensor)

    def _exchange(self, group: int, target: int) -> None:
        """Put the columns of a language together over all ranks, and have it judged."""
        blocks = self.waiting.pop((group, target), [])
        pairs = list(self.groups[group].rows[target])
        found = {}
        for name, source in self.compare.names.items():
            layers = self.compare.layouts[source].layers
            found[name] = self._similarity(name, layers, blocks, pairs, self.pivots.get(group))
        shares = self._seen([(block.rows, block.shares) for block in blocks], "shares", len(pairs))
        seen = [(block.rows, block.activity) for block in blocks]
        activity = self._seen(seen, "activity", len(pairs))
        language = self.groups[group].targets[target].language
        self.judge(language, found, shares, activity)

    def _similarity(
        self,
        name: str,
        layers: int,
        blocks: Sequence[Columns],
        pairs: Sequence[int],
        pivot: Pivot | None,
    ) -> Tensor:
        home, n = self.compare.home, len(pairs)
        shape = (layers, n, n + 1)
        # The last column holds the squared lengths of the targets: one exchange for both.
        sums = torch.zeros(shape, dtype=alignment.widest(home), device=home)
        lengths = torch.zeros_like(sums[:, :, 0])
        for block in blocks:
            sums[:, :, list(block.rows)] = block.dot[name][:, pairs]
            sums[:, list(block.rows), n] = block.squares[name]
        if blocks and pivot is not None:
            lengths = pivot.squares[name][:, pairs] * (self._writer(blocks))
        return self._cosines(sums, lengths, n)

    def _cosines(self, sums: Tensor, lengths: Tensor, n: int) -> Tensor:
        sums, lengths = self.world.shared(sums), self.world.shared(lengths)
        return alignment.cosines(sums[:, :, :n], lengths, sums[:, :, n])

    def _writer(self, blocks: Sequence[Columns]) -> int:
        """1 on the rank that has the first sentence of the language, else 0."""
        return int(any(0 in block.rows for block in blocks))

    def _seen(
        self, blocks: Sequence[tuple[tuple[int, ...], Tensor | None]], wish: str, n: int
    ) -> Tensor | None:
        """Statistics per sentence [layers, pairs] over all ranks; None where not asked for."""
        source = next((read.source for read in self.compare.every if getattr(read, wish)), None)
        if source is None:
            return None
        layers = self.compare.layouts[source].layers
        found = torch.zeros(layers, n, device=self.compare.home)
        for rows, values in blocks:
            if values is not None:
                found[:, list(rows)] = values
        return self.world.shared(found)


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
