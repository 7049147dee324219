"""A run's reports over time: one curve of one measurement, what changed, and what a resume needs.

What is kept of a report is a ``Point``: per metric and language the share of aligned layers of
every pair. Scores, intervals and paired changes follow from it, and it is small.
"""

import base64
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from neuronxa_callback.errors import FingerprintError
from neuronxa_callback.measure import statistics
from neuronxa_callback.measure.report import AlignmentReport
from neuronxa_callback.measure.statistics import Array, Change

log = logging.getLogger(__name__)

KEPT = 24
"""How many of the latest points a resume remembers, besides the first and the best ones."""


@dataclass(frozen=True)
class Point:
    """One report, as far as changes and stop rules need it."""

    step: int
    pairs: int
    shared: bool
    """Whether all languages have the same pivot sentences."""
    counts: Mapping[str, Mapping[str, Array | None]]
    """metric -> language -> [pairs] aligned layers of each pair; None where a layer held NaN."""
    layers: Mapping[str, int]

    @classmethod
    def of(cls, report: AlignmentReport) -> Self:
        """The point of a report."""
        counts = {
            metric: {
                language: _counts(scores.hits[language], report.n_pairs)
                for language in report.languages
            }
            for metric, scores in report.metrics.items()
        }
        shared = bool(report.fingerprint.get("definition", {}).get("shared_pivot", True))
        layers = {metric: len(scores.layers) for metric, scores in report.metrics.items()}
        return cls(report.step, report.n_pairs, shared, counts, layers)

    def shares(self, metric: str, languages: Iterable[str] | None = None) -> list[Array]:
        """Per language the share of aligned layers of every pair [pairs]; NaN where unknown."""
        known = self.counts[metric]
        names = known if languages is None else languages
        return [self._share(metric, known[name]) for name in names]

    def score(self, metric: str, language: str | None = None) -> float:
        """The score of a language, or the macro-mean."""
        names = None if language is None else [language]
        return float(np.mean([each.mean() for each in self.shares(metric, names)]))

    def interval(self, metric: str, language: str | None = None) -> tuple[float, float]:
        """The 95 % interval of ``score``."""
        names = None if language is None else [language]
        return statistics.interval(self.shares(metric, names), self.shared)

    def _share(self, metric: str, counts: Array | None) -> Array:
        if counts is None:
            return np.full(self.pairs, np.nan)
        found: Array = counts / self.layers[metric]
        return found


class History:
    """The points of one run, in the order of their steps."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.fingerprint: Mapping[str, Mapping[str, Any]] | None = None

    def append(self, report: AlignmentReport) -> None:
        """Add a report; one of the same step replaces what was there.

        Raises:
            FingerprintError: If it does not measure what the others do; the difference is named.
        """
        if self.fingerprint is not None:
            refuse_mixing(self.fingerprint, report.fingerprint, ("definition", "model"))
        else:
            self.fingerprint = report.fingerprint
        self.points = [point for point in self.points if point.step < report.step]
        self.points.append(Point.of(report))

    def best(self, metric: str) -> Point | None:
        """The point with the highest macro-mean, the earliest of equals."""
        known = [point for point in self.points if not np.isnan(point.score(metric))]
        return max(known, key=lambda point: point.score(metric), default=None)

    def earlier(self, metric: str, since: str) -> Point | None:
        """The point to compare the latest with: ``"first"``, ``"best"`` or ``"last"`` before it."""
        before = self.points[:-1]
        if not before:
            return None
        if since == "best":
            past = History()
            past.points = before
            return past.best(metric)
        return before[0] if since == "first" else before[-1]

    def change(
        self, metric: str, language: str | None = None, since: str = "last"
    ) -> Change | None:
        """How the latest point differs from an earlier one; None where there is none."""
        earlier = self.earlier(metric, since)
        return None if earlier is None else change(earlier, self.points[-1], metric, language)

    def state(self) -> dict[str, Any]:
        """What a resume needs, as plain JSON of bounded size."""
        metrics = self.points[-1].counts if self.points else ()
        best = [self.best(metric) for metric in metrics]
        kept = {point.step: point for point in (*self.points[:1], *best) if point is not None}
        kept |= {point.step: point for point in self.points[-KEPT:]}
        points = [_packed(kept[step]) for step in sorted(kept)]
        return {"fingerprint": self.fingerprint, "points": points}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The history that ``state`` described."""
        made = cls()
        made.fingerprint = state["fingerprint"]
        made.points = [_unpacked(point) for point in state["points"]]
        return made


def change(
    before: Point, after: Point, metric: str, language: str | Sequence[str] | None = None
) -> Change:
    """Paired change of a language, of the mean of some, or of the macro-mean."""
    names = [language] if isinstance(language, str) else language
    return statistics.paired_change(
        before.shares(metric, names), after.shares(metric, names), after.shared
    )


def compare(before: AlignmentReport, after: AlignmentReport, metric: str) -> dict[str, Change]:
    """Paired change per language of two reports on the same pairs; p-values by Holm.

    Raises:
        FingerprintError: If the two do not measure the same thing.
    """
    refuse_mixing(before.fingerprint, after.fingerprint, ("definition",))
    points = Point.of(before), Point.of(after)
    found = {name: change(*points, metric, name) for name in after.languages}
    adjusted = statistics.holm([each.p for each in found.values()])
    return {
        name: Change(each.difference, each.low, each.high, p)
        for (name, each), p in zip(found.items(), adjusted, strict=True)
    }


def read(path: str | Path) -> list[AlignmentReport]:
    """The reports in a JSONL file, by step. A line that is none is named and left out."""
    found: dict[int, AlignmentReport] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            report = AlignmentReport.from_json(line)
        except ValueError as error:
            log.warning("%s:%d is left out: %s", path, number, error)
            continue
        found[report.step] = report
    return [found[step] for step in sorted(found)]


def refuse_mixing(
    one: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Mapping[str, Any]],
    parts: Sequence[str],
) -> None:
    """Refuse two fingerprints that differ in one of some parts.

    Raises:
        FingerprintError: The first difference by name, and both values.
    """
    for part in parts:
        a, b = one.get(part, {}), other.get(part, {})
        for key in dict.fromkeys((*a, *b)):
            if a.get(key) != b.get(key):
                raise FingerprintError(
                    f"reports of one curve must agree in {part}, but {key} is {a.get(key)!r} in one"
                    f" and {b.get(key)!r} in the other"
                )


def _counts(masks: Sequence[int | None], n: int) -> Array | None:
    counts = np.zeros(n, dtype=np.uint16)
    for mask in masks:
        if mask is None:
            return None
        raw = np.frombuffer(mask.to_bytes(-(-n // 8), "little"), dtype=np.uint8)
        counts += np.unpackbits(raw, count=n, bitorder="little")
    return counts


def _packed(point: Point) -> dict[str, Any]:
    return {
        "step": point.step,
        "pairs": point.pairs,
        "shared": point.shared,
        "layers": dict(point.layers),
        "counts": {
            metric: {name: None if each is None else _text(each) for name, each in known.items()}
            for metric, known in point.counts.items()
        },
    }


def _unpacked(plain: Mapping[str, Any]) -> Point:
    counts = {
        metric: {name: None if text is None else _array(text) for name, text in known.items()}
        for metric, known in plain["counts"].items()
    }
    return Point(plain["step"], plain["pairs"], plain["shared"], counts, plain["layers"])


def _text(counts: Array) -> str:
    return base64.b85encode(zlib.compress(counts.astype("<u2").tobytes(), 9)).decode()


def _array(text: str) -> Array:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype="<u2").astype(np.uint16)
