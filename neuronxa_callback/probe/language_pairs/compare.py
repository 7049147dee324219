"""Every two languages of a block compared, and what a report keeps of it.

Axes: ``layers`` of the block, ``combinations`` of two languages, ``pairs`` of sentences.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from neuronxa_callback.language_pairs import LanguagePairs
from neuronxa_callback.metrics import alignment, statistics
from neuronxa_callback.metrics.blocking import count_blocks
from neuronxa_callback.metrics.variance import PairSums
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.language_pairs.vectors import LanguageVectors
from neuronxa_callback.probe.results import plain_interval
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import Counts, Interval


class PairResults:
    """The results of all pairs of languages of one metric, from its blocks of layers.

    Args:
        languages: The number of languages without the pivot.
        pairs: Sentence pairs per language.
    """

    def __init__(self, languages: int, pairs: int) -> None:
        self.languages, self.pairs = languages, pairs
        self.counts: list[Counts] = []
        """Per layer the aligned pairs of each combination; None for NaN."""
        self.sums = np.zeros((3, math.comb(languages, 2), pairs))
        """h, u and r of ``metrics.variance``, [3, combinations, pairs], summed over layers."""

    def add_block(
        self, vectors: LanguageVectors, metric: str, world: World, device: torch.device
    ) -> None:
        """Collective: compares the languages; each rank takes some of their combinations."""
        layers, total = len(vectors.parts[metric]), math.comb(self.languages, 2)
        # int64: whole numbers that are zero on all ranks but one are summed exactly.
        counts = torch.zeros(2, layers, total, dtype=torch.long, device=device)
        sums = torch.zeros(3, total, self.pairs, dtype=torch.long, device=device)
        squares = _squares(vectors, metric, world, device)
        for k, similarity in _own_similarities(vectors, metric, squares, world, device):
            blocking = count_blocks(similarity)
            hits = blocking.blockers == 0
            counts[0, :, k], counts[1, :, k] = hits.sum(dim=1), alignment.holds_nan(similarity)
            for row, values in enumerate((hits, blocking.sole_blocks, blocking.second_differences)):
                sums[row, k] = values.sum(dim=0)
        world.sum_over_data_ranks(counts, sums)
        aligned, nan = counts.tolist()
        for row, bad in zip(aligned, nan, strict=True):
            pairs = zip(row, bad, strict=True)
            self.counts.append(tuple(None if b else int(count) for count, b in pairs))
        self.sums += sums.cpu().numpy()

    def intervals(self) -> list[Interval]:
        """The 95 % interval of the mean over layers of each combination, to 4 decimals.

        NaN if a layer is NaN.
        """
        layers = len(self.counts)
        h, u, r = self.sums / layers
        ends: list[Interval] = []
        for k, column in enumerate(zip(*self.counts, strict=True)):
            known = PairSums(h[[k]], u[[k]], r[[k]], layers)
            low, high = statistics.interval(known, shared=True)
            if None in column:
                low = high = math.nan
            ends.append(plain_interval((round(low, 4), round(high, 4))))
        return ends


def tables_of(
    report: AlignmentReport, results: Mapping[str, PairResults]
) -> dict[str, LanguagePairs]:
    """Metric -> its table: the row of the pivot from the report, the others from the results."""
    tables = {}
    for metric, found in results.items():
        scores = report.metrics[metric]
        columns = [scores.hits[name] for name in report.languages]
        with_pivot = [
            tuple(None if mask is None else mask.bit_count() for mask in row)
            for row in zip(*columns, strict=True)
        ]
        tables[metric] = LanguagePairs(
            languages=(report.pivot, *report.languages),
            n_pairs=report.n_pairs,
            layers=scores.layers,
            counts=tuple(
                first + others for first, others in zip(with_pivot, found.counts, strict=True)
            ),
            intervals=(
                *(scores.intervals[name] for name in report.languages),
                *found.intervals(),
            ),
        )
    return tables


def _squares(vectors: LanguageVectors, metric: str, world: World, device: torch.device) -> Tensor:
    """Collective over slices of neurons: squared lengths [languages, layers, pairs]."""
    rows = [
        torch.stack(
            [
                torch.stack([alignment.squares(part) for part in parts]).sum(dim=0)
                for parts in vectors.of_language(metric, language, device)
            ]
        )
        for language in range(vectors.languages)
    ]
    return world.sum_over_tensor_ranks(torch.stack(rows))


def _own_similarities(
    vectors: LanguageVectors, metric: str, squares: Tensor, world: World, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Collective over slices: number of a combination -> cosines [layers, pairs, pairs].

    The combinations are cut into one stretch per rank. Their order is that of the languages, so
    that the first language of most of them is already on the device.
    """
    every = [*combinations(range(vectors.languages), 2)]
    share = -(-len(every) // world.size)
    start = world.rank * share
    held: tuple[int, list[list[Tensor]]] = (-1, [])
    for k in range(start, start + share):
        if k >= len(every):
            # The other ranks of this one's slices wait for each other.
            world.sum_over_tensor_ranks(squares.new_zeros(1))
            continue
        one, other = every[k]
        if held[0] != one:
            held = one, vectors.of_language(metric, one, device)
        dot = _dots(held[1], vectors.of_language(metric, other, device))
        dot = world.sum_over_tensor_ranks(dot)
        yield k, alignment.cosines(dot, squares[one], squares[other])


def _dots(one: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> Tensor:
    """Dot products [layers, pairs, pairs], summed over the parts of each layer."""
    return torch.stack(
        [
            torch.stack([alignment.dots(a, b) for a, b in zip(*parts, strict=True)]).sum(dim=0)
            for parts in zip(one, other, strict=True)
        ]
    )
