"""A point of a curve: per metric and language, the number of aligned layers of each pair.

This small part of a report is enough for scores, intervals and paired changes.
"""

import base64
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Array, Change
from neuronxa_callback.report import AlignmentReport

Names = tuple[str, ...] | None
"""The languages to average; None for all of them."""

HELD_NAN = 2**16 - 1
"""The count of a pair if one of the layers held NaN."""


@dataclass(frozen=True, eq=False)
class Point:
    """The part of a report that changes and stop rules need."""

    step: int
    number: int
    """The number of probes of the run before this one."""
    pairs: int
    shared: bool
    """Whether all languages have the same pivot sentences."""
    layers: Mapping[str, int]
    counts: Mapping[str, Mapping[str, Array]]
    """metric -> language -> [pairs] number of aligned layers, or ``HELD_NAN``."""
    complete: bool = True
    """Whether it has all languages; the state of a resume keeps only some of a past best point."""
    _scores: dict[tuple[str, Names], float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, report: AlignmentReport, number: int = 0, like: Self | None = None) -> Self:
        """The point of a report, with its languages in the order of an earlier point."""
        known = () if like is None else next(iter(like.counts.values()), ())
        names = tuple(known) if {*known} == {*report.languages} else report.languages
        counts = {
            metric: {name: _counts(scores.hits[name], report.n_pairs) for name in names}
            for metric, scores in report.metrics.items()
        }
        shared = bool(report.fingerprint.get("definition", {}).get("shared_pivot", True))
        layers = {metric: len(scores.layers) for metric, scores in report.metrics.items()}
        return cls(report.step, number, report.n_pairs, shared, layers, counts)

    def holds(self, metric: str, names: Names) -> bool:
        """Whether the point has the languages of a score."""
        return self.complete or (names is not None and {*names} <= {*self.counts.get(metric, ())})

    def shares(self, metric: str, names: Names = None) -> Array:
        """The share of aligned layers [languages, pairs]; NaN where a layer held NaN."""
        known = self.counts[metric]
        counts = np.stack([known[name] for name in (known if names is None else names)])
        return np.where(counts == HELD_NAN, math.nan, counts / self.layers[metric])

    def score(self, metric: str, names: Names = None) -> float:
        """The mean score of the languages."""
        if (metric, names) not in self._scores:
            self._scores[metric, names] = float(self.shares(metric, names).mean())
        return self._scores[metric, names]

    def interval(
        self, metric: str, names: Names = None, level: float = statistics.LEVEL
    ) -> tuple[float, float]:
        """The interval of ``score(metric, names)``."""
        return statistics.interval(self.shares(metric, names), self.shared, level)

    def part(self, rows: Mapping[str, Iterable[str]]) -> Self:
        """This point with only some languages per metric."""
        counts = {
            metric: {name: self.counts[metric][name] for name in names}
            for metric, names in rows.items()
        }
        return type(self)(
            self.step, self.number, self.pairs, self.shared, self.layers, counts, complete=False
        )

    def to_dict(self) -> dict[str, Any]:
        """The point as JSON values, with compressed counts."""
        rows = [row for known in self.counts.values() for row in known.values()]
        raw = zlib.compress(np.concatenate(rows).astype("<u2").tobytes(), 9)
        return {
            "step": self.step,
            "number": self.number,
            "pairs": self.pairs,
            "shared": self.shared,
            "layers": dict(self.layers),
            "languages": {metric: list(known) for metric, known in self.counts.items()},
            "complete": self.complete,
            "counts": base64.b85encode(raw).decode(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` returned."""
        raw = zlib.decompress(base64.b85decode(plain["counts"]))
        rows = iter(np.frombuffer(raw, dtype="<u2").reshape(-1, plain["pairs"]))
        counts = {
            metric: {name: next(rows) for name in names}
            for metric, names in plain["languages"].items()
        }
        return cls(
            step=plain["step"],
            number=plain["number"],
            pairs=plain["pairs"],
            shared=plain["shared"],
            layers=plain["layers"],
            counts=counts,
            complete=plain["complete"],
        )


def change(before: Point, after: Point, metric: str, names: Names = None) -> Change:
    """The paired change of the mean over languages."""
    x = before.shares(metric, names), after.shares(metric, names)
    return statistics.paired_change(*x, after.shared)


def _counts(masks: Sequence[int | None], n: int) -> Array:
    """The number of aligned layers of each pair, [pairs]."""
    counts = statistics.unpack(masks, n).sum(axis=0)
    return np.where(np.isnan(counts), HELD_NAN, counts).astype(np.uint16)
