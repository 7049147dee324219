"""The verdicts of one alignment metric: plain integers per language and layer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

Layer = int | str
"""The number of a block; ``"decoder.3"`` if a report covers more than one stack."""

Counts = tuple[int | None, ...]
"""One integer per layer; ``None`` where the layer held NaN."""

Interval = tuple[float, float]
"""The low and the high end of a 95 % interval; NaN if unknown."""

PairCounts = tuple[int, ...] | None
"""One integer per pair, summed over layers; ``None`` if a layer held NaN."""


class Hub(NamedTuple):
    """A sentence that is at least as near to a tenth of the pairs as their own partners are."""

    side: str
    """``"pivot"`` or ``"target"``."""
    pair: int
    """Its pair, from 0."""
    blocked: int
    """The number of pairs that it blocks, alone or with others."""
    sole: int
    """The number of pairs that its pair alone blocks."""


@dataclass(frozen=True)
class MetricScores:
    """One alignment metric: the verdicts per language and layer, and the counts beside them."""

    layers: tuple[Layer, ...]
    hits: Mapping[str, Counts]
    """language -> per layer the weakly aligned pairs, as a bit mask (bit i is pair i)."""
    pivot_to_target: Mapping[str, Counts]
    """language -> per layer the pivot sentences whose nearest target sentence is their own."""
    target_to_pivot: Mapping[str, Counts]
    """language -> per layer the target sentences whose nearest pivot sentence is their own."""
    mutual: Mapping[str, Counts]
    """language -> per layer M, the cells that are the strict maximum of their row and column."""
    intervals: Mapping[str, Interval]
    """language, or ``"mean"``, -> 95 % interval of the mean over layers."""
    layer_intervals: Mapping[str, tuple[Interval, ...]]
    """language -> 95 % interval of each layer, to 4 decimals."""
    sole_blocks: Mapping[str, PairCounts]
    """language -> u_j: how many pairs each pair alone blocks, summed over layers."""
    second_differences: Mapping[str, PairCounts]
    """language -> r_j, signed, summed over layers; see ``neuronxa_callback.metrics.variance``."""
    blockers: Mapping[str, PairCounts]
    """language -> entry b counts the verdicts (pair and layer) that exactly b other pairs block."""
    hubs: Mapping[str, tuple[Hub | None, ...]]
    """language -> the strongest hub of each layer; ``None`` if there is none, or for NaN."""
    hub_limited: tuple[str, ...] = ()
    """The languages, or ``"mean"``, whose interval says next to nothing, as one hub moves them."""

    def strongest_hub(self, language: str) -> tuple[Hub, Layer, int] | None:
        """The strongest hub of a language, its layer, and how many layers have one; or None."""
        layers = zip(self.hubs[language], self.layers, strict=True)
        known = [(hub, layer) for hub, layer in layers if hub is not None]
        if not known:
            return None
        hub, layer = max(known, key=lambda one: (one[0].sole, one[0].blocked))
        return hub, layer, len(known)

    def to_dict(self, n_pairs: int) -> dict[str, Any]:
        """The scores as JSON values; bit masks become hexadecimal digits."""
        digits = -(-n_pairs // 4)
        hits = {
            language: [None if mask is None else f"{mask:0{digits}x}" for mask in masks]
            for language, masks in self.hits.items()
        }
        plain: dict[str, Any] = without_nan({**vars(self), "hits": hits})
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` returned."""
        return cls(
            layers=tuple(plain["layers"]),
            hits={
                language: tuple(None if mask is None else int(mask, 16) for mask in masks)
                for language, masks in plain["hits"].items()
            },
            pivot_to_target=_counts(plain["pivot_to_target"]),
            target_to_pivot=_counts(plain["target_to_pivot"]),
            mutual=_counts(plain["mutual"]),
            intervals={name: interval_of(ends) for name, ends in plain["intervals"].items()},
            layer_intervals={
                language: tuple(map(interval_of, ends))
                for language, ends in plain["layer_intervals"].items()
            },
            sole_blocks=_pair_counts(plain["sole_blocks"]),
            second_differences=_pair_counts(plain["second_differences"]),
            blockers=_pair_counts(plain["blockers"]),
            hubs={
                language: tuple(None if hub is None else Hub(*hub) for hub in hubs)
                for language, hubs in plain["hubs"].items()
            },
            hub_limited=tuple(plain["hub_limited"]),
        )


def interval_of(ends: Iterable[float | None]) -> Interval:
    """An interval from JSON, where ``None`` is NaN."""
    low, high = (math.nan if end is None else end for end in ends)
    return low, high


def mean_share(counts: Sequence[int | None], total: int) -> float:
    """Mean of counts / total; NaN if a count is missing. Exact, since it sums integers."""
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return math.nan
    return sum(known) / (len(known) * total)


def mean(numbers: Sequence[float]) -> float:
    """Mean of numbers; NaN if there is none."""
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def flat_counts(counts: Mapping[str, Counts], languages: Iterable[str]) -> Counts:
    """The counts of some languages, one after the other."""
    return tuple(count for language in languages for count in counts[language])


def rarefied_share(blockers: PairCounts, pairs: int, n: int) -> float:
    """The expected score among n of ``pairs`` pairs, by exact rarefaction.

    A pair with b blockers stays aligned in a random subset of n pairs that holds it if none of
    them is drawn: C(N - 1 - b, n - 1) / C(N - 1, n - 1) among N pairs.

    Args:
        blockers: Entry b is the number of verdicts with exactly b blockers; None gives NaN.
        pairs: N, the number of pairs.
        n: From 1 to N.

    Example:
        >>> rarefied_share([1, 0, 2], pairs=3, n=2)  # 2 of 3 pairs are blocked by both others
        0.3333333333333333
        >>> rarefied_share([0, 3], pairs=3, n=2)
        0.5
    """
    if blockers is None:
        return math.nan
    stays, total = 1.0, 0.0
    for b, count in enumerate(blockers):
        total += count * stays
        stays *= max(0, pairs - n - b) / max(1, pairs - 1 - b)
    return total / sum(blockers)


def without_nan(value: Any) -> Any:
    """Nested values as JSON holds them: lists for tuples, ``None`` for NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return value


def _counts(plain: Mapping[str, Iterable[int | None]]) -> dict[str, Counts]:
    return {language: tuple(counts) for language, counts in plain.items()}


def _pair_counts(plain: Mapping[str, Iterable[int] | None]) -> dict[str, PairCounts]:
    return {name: None if each is None else tuple(each) for name, each in plain.items()}
