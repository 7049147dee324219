"""What is kept of a report: per metric and language the aligned layers of every pair.

Scores, intervals and paired changes follow from it, and it is small.
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
"""Languages whose mean is meant; None for all of them."""

HELD_NAN = 2**16 - 1
"""Stands for a number of layers of which one held NaN."""


@dataclass(frozen=True, eq=False)
class Point:
    """One report, as far as changes and stop rules need it."""

    step: int
    number: int
    """How many probes of the run came before."""
    pairs: int
    shared: bool
    """Whether all languages have the same pivot sentences."""
    layers: Mapping[str, int]
    counts: Mapping[str, Mapping[str, Array]]
    """metric -> language -> [pairs] aligned layers of each pair, or ``HELD_NAN``."""
    whole: bool = True
    """Whether all of its languages are here; a resume remembers of a past best what it was for."""
    _scores: dict[tuple[str, Names], float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, report: AlignmentReport, number: int = 0) -> Self:
        """The point of a report."""
        counts = {
            metric: {name: _counts(scores.hits[name], report.n_pairs) for name in report.languages}
            for metric, scores in report.metrics.items()
        }
        shared = bool(report.fingerprint.get("definition", {}).get("shared_pivot", True))
        layers = {metric: len(scores.layers) for metric, scores in report.metrics.items()}
        return cls(report.step, number, report.n_pairs, shared, layers, counts)

    def holds(self, metric: str, names: Names) -> bool:
        """Whether all that such a score is made of is here."""
        return self.whole or (names is not None and {*names} <= {*self.counts.get(metric, ())})

    def shares(self, metric: str, names: Names = None) -> Array:
        """The share of aligned layers [languages, pairs]; NaN where a layer held NaN."""
        known = self.counts[metric]
        counts = np.stack([known[name] for name in (known if names is None else names)])
        return np.where(counts == HELD_NAN, math.nan, counts / self.layers[metric])

    def score(self, metric: str, names: Names = None) -> float:
        """The score of all languages, or of some."""
        if (metric, names) not in self._scores:
            self._scores[metric, names] = float(self.shares(metric, names).mean())
        return self._scores[metric, names]

    def interval(
        self, metric: str, names: Names = None, level: float = statistics.LEVEL
    ) -> tuple[float, float]:
        """The interval of ``score``."""
        return statistics.interval(self.shares(metric, names), self.shared, level)

    def part(self, rows: Mapping[str, Iterable[str]]) -> Self:
        """This point with some languages per metric only."""
        counts = {
            metric: {name: self.counts[metric][name] for name in names}
            for metric, names in rows.items()
        }
        return type(self)(
            self.step, self.number, self.pairs, self.shared, self.layers, counts, whole=False
        )

    def packed(self) -> dict[str, Any]:
        """This point as plain JSON."""
        rows = [row for known in self.counts.values() for row in known.values()]
        raw = zlib.compress(np.concatenate(rows).astype("<u2").tobytes(), 9)
        return {
            "step": self.step,
            "number": self.number,
            "pairs": self.pairs,
            "shared": self.shared,
            "layers": dict(self.layers),
            "languages": {metric: list(known) for metric, known in self.counts.items()},
            "whole": self.whole,
            "counts": base64.b85encode(raw).decode(),
        }

    @classmethod
    def unpacked(cls, plain: Mapping[str, Any]) -> Self:
        """The point that ``packed`` described."""
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
            whole=plain["whole"],
        )


def change(before: Point, after: Point, metric: str, names: Names = None) -> Change:
    """Paired change of the mean over languages: of all, or of some."""
    x = before.shares(metric, names), after.shares(metric, names)
    return statistics.paired_change(*x, after.shared)


def _counts(masks: Sequence[int | None], n: int) -> Array:
    """Aligned layers of each pair [pairs]."""
    counts = statistics.unpack(masks, n).sum(axis=0)
    return np.where(np.isnan(counts), HELD_NAN, counts).astype(np.uint16)
