"""A point of a curve: per metric and language, whole numbers per pair, summed over layers.

This small part of a report is enough for scores, intervals and paired changes.
"""

import base64
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.metrics.variance import Array, PairSums
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import MetricScores

Names = tuple[str, ...] | None
"""The languages to average; None for all of them."""

HELD_NAN = -1
"""The number of aligned layers of a pair if one of the layers held NaN."""


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
    """metric -> language -> [3, pairs]: aligned layers (or ``HELD_NAN``), and u and r of
    ``neuronxa_callback.metrics.variance`` summed over layers."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a group -> its languages."""
    complete: bool = True
    """Whether it has all languages; the state of a resume keeps only some of a past best point."""
    _scores: dict[tuple[str, Names], float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, report: AlignmentReport, number: int = 0, like: Self | None = None) -> Self:
        """The point of a report, with its languages in the order of an earlier point."""
        known = () if like is None else next(iter(like.counts.values()), ())
        names = tuple(known) if {*known} == {*report.languages} else report.languages
        counts = {
            metric: {name: _counts(scores, name, report.n_pairs) for name in names}
            for metric, scores in report.metrics.items()
        }
        shared = bool(report.fingerprint.get("definition", {}).get("shared_pivot", True))
        layers = {metric: len(scores.layers) for metric, scores in report.metrics.items()}
        return cls(report.step, number, report.n_pairs, shared, layers, counts, report.groups)

    def holds(self, metric: str, names: Names) -> bool:
        """Whether the point has the languages of a score."""
        return self.complete or (names is not None and {*names} <= {*self.counts.get(metric, ())})

    def sums(self, metric: str, names: Names = None) -> PairSums:
        """h, u and r, averaged over layers, [languages, pairs]; NaN where a layer held NaN."""
        known = self.counts[metric]
        counts = np.stack([known[name] for name in (known if names is None else names)], axis=1)
        h, u, r = counts / self.layers[metric]
        return PairSums(np.where(counts[0] == HELD_NAN, math.nan, h), u, r, self.layers[metric])

    def score(self, metric: str, names: Names = None) -> float:
        """The mean score of the languages."""
        if (metric, names) not in self._scores:
            self._scores[metric, names] = float(self.sums(metric, names).h.mean())
        return self._scores[metric, names]

    def interval(
        self, metric: str, names: Names = None, level: float = statistics.LEVEL
    ) -> tuple[float, float]:
        """The interval of ``score(metric, names)``."""
        return statistics.interval(self.sums(metric, names), self.shared, level)

    def part(self, rows: Mapping[str, Iterable[str]]) -> Self:
        """This point with only some languages per metric."""
        counts = {
            metric: {name: self.counts[metric][name] for name in names}
            for metric, names in rows.items()
        }
        return replace(self, counts=counts, complete=False, _scores={})

    def to_dict(self) -> dict[str, Any]:
        """The point as JSON values, with compressed counts."""
        rows = [row for known in self.counts.values() for row in known.values()]
        raw = zlib.compress(np.concatenate(rows).astype("<i4").tobytes(), 9)
        groups = {name: list(members) for name, members in self.groups.items()}
        return {
            "step": self.step,
            "number": self.number,
            "pairs": self.pairs,
            "shared": self.shared,
            "layers": dict(self.layers),
            "languages": {metric: list(known) for metric, known in self.counts.items()},
            "complete": self.complete,
            "counts": base64.b85encode(raw).decode(),
        } | ({"groups": groups} if groups else {})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` returned.

        Raises:
            ValueError: If a value contradicts another one.
        """
        layers, languages, pairs = plain["layers"], plain["languages"], plain["pairs"]
        for name in ("step", "number"):
            require(type(plain[name]) is int and plain[name] >= 0, name)
        require(type(pairs) is int and 1 <= pairs < 2**31, "pairs")
        require(type(plain["shared"]) is bool and type(plain["complete"]) is bool, "shared")
        require({*languages} <= {*layers}, "layers")
        require(all(type(n) is int and n > 0 for n in layers.values()), "layers")
        for names in languages.values():
            require(type(names) is list and len({*names}) == len(names) > 0, "languages")
            require(all(type(name) is str for name in names), "languages")
        rows = iter(_unpacked(plain["counts"], sum(map(len, languages.values())), pairs))
        counts = {metric: {name: next(rows) for name in languages[metric]} for metric in languages}
        groups = {name: tuple(group) for name, group in plain.get("groups", {}).items()}
        require(all(type(name) is str for group in groups.values() for name in group), "groups")
        for metric, known in counts.items():
            for row in known.values():
                require(row[0].min() >= HELD_NAN and row[0].max() <= layers[metric], "counts")
        return cls(
            step=plain["step"],
            number=plain["number"],
            pairs=pairs,
            shared=plain["shared"],
            layers=layers,
            counts=counts,
            groups=groups,
            complete=plain["complete"],
        )


def require(holds: bool, name: str) -> None:
    """Raise a ValueError that names the part of a saved state that does not hold."""
    if not holds:
        raise ValueError(f"{name} is damaged")


def _unpacked(text: str, rows: int, pairs: int) -> Array:
    """Counts [rows, 3, pairs] from the text of ``Point.to_dict``."""
    size = rows * 3 * pairs * 4
    unpacker = zlib.decompressobj()
    try:
        # Bounded: a damaged text may stand for gigabytes.
        raw = unpacker.decompress(base64.b85decode(text), size + 1)
    except zlib.error as cause:
        raise ValueError(str(cause)) from None
    require(len(raw) == size > 0, "counts")
    return np.frombuffer(raw, dtype="<i4").reshape(rows, 3, pairs)


def change(
    before: Point, after: Point, metric: str, names: Names = None, margin: float = 0.0
) -> Change:
    """The paired change of the mean over languages; see ``statistics.paired_change``."""
    x = before.sums(metric, names), after.sums(metric, names)
    return statistics.paired_change(*x, after.shared, margin=margin)


def _counts(scores: MetricScores, language: str, n: int) -> Array:
    """The counts [3, pairs] of a language."""
    counts = np.zeros((3, n), dtype=np.int32)
    sole, second = scores.sole_blocks[language], scores.second_differences[language]
    if sole is None or second is None:
        counts[0] = HELD_NAN
    else:
        counts[:] = statistics.unpack(scores.hits[language], n).sum(axis=0), sole, second
    # A long run with many languages keeps a hundred megabytes of them.
    return counts.astype(np.int16) if np.abs(counts).max() < 2**15 else counts
