"""The verdicts of one alignment metric: plain integers per language and layer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

Layer = int | str
"""The number of a block; ``"decoder.3"`` if a report covers more than one stack."""

Counts = tuple[int | None, ...]
"""One integer per layer; ``None`` where the layer held NaN."""

Interval = tuple[float, float]
"""The low and the high end of a 95 % interval; NaN if unknown."""


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
