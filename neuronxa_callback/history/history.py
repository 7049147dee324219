"""A run's reports over time: one curve, what changed in it, and what a resume needs."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from neuronxa_callback.errors import ConfigError, FingerprintError, unknown
from neuronxa_callback.history.points import Names, Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

FOLDER, RECORD = "neuronxa", "reports.jsonl"
"""Where a run keeps its reports, below its output folder."""
SINCE = ("last", "first", "best")


class History:
    """The points of one run, in the order of their steps."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.fingerprint: Mapping[str, Mapping[str, Any]] | None = None
        self._reach = 1
        """How many probes back a rule has looked: a resume remembers as many."""
        self._asked: dict[tuple[str, Names], None] = {}
        """Of what the best point was asked for: a resume remembers it."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The history in a JSONL file; a line that is no report is named and left out.

        Raises:
            FingerprintError: If its reports do not measure the same thing.
        """
        made = cls()
        for report in read(path):
            made.append(report)
        return made

    def append(self, report: AlignmentReport) -> None:
        """Add a report. What stood at its step or later goes: the run went back and goes on anew.

        Raises:
            FingerprintError: If it does not measure what the others do; the difference is named.
        """
        self.refuse(report)
        if self.fingerprint is None:
            self.fingerprint = json.loads(json.dumps(report.fingerprint))
        self.points = [point for point in self.points if point.step < report.step]
        self.points.append(Point.of(report, self.points[-1].number + 1 if self.points else 0))

    def refuse(self, report: AlignmentReport) -> None:
        """Refuse a report that does not belong to this curve.

        Raises:
            FingerprintError: As ``append``.
        """
        if self.fingerprint is not None:
            check_same_fingerprint(self.fingerprint, report.fingerprint, ("definition", "model"))

    @property
    def first(self) -> Point | None:
        """The first point of the run."""
        return self.points[0] if self.points else None

    @property
    def last(self) -> Point | None:
        """The latest point."""
        return self.points[-1] if self.points else None

    def best(self, metric: str, names: Names = None) -> Point | None:
        """The point with the highest score, the earliest of equals; None where all are NaN."""
        return self._best(self.points, metric, names)

    def earlier(self, metric: str, since: str, names: Names = None) -> Point | None:
        """The point to compare the latest with: ``"first"``, ``"best"`` or ``"last"`` before it."""
        if since not in SINCE:
            raise ConfigError(unknown("since", since, SINCE))
        before = self.points[:-1]
        if since == "best":
            return self._best(before, metric, names)
        whole = [each for each in before if each.whole]
        return None if not whole else whole[0] if since == "first" else whole[-1]

    def window(self, probes: int) -> list[Point]:
        """The latest point and the ``probes`` before it, as far back as none is missing."""
        self._reach = max(self._reach, probes)
        latest = self.points[-1:]
        for point in reversed(self.points[:-1]):
            if not point.whole or point.number != latest[0].number - 1 or len(latest) > probes:
                break
            latest.insert(0, point)
        return latest

    def change(
        self, metric: str, language: str | None = None, since: str = "last"
    ) -> Change | None:
        """How the latest point differs from an earlier one; None where there is none."""
        names = None if language is None else (language,)
        earlier = self.earlier(metric, since, names)
        return None if earlier is None else change(earlier, self.points[-1], metric, names)

    def line(self, metric: str, language: str | None = None, since: str = "last") -> str:
        """The change in words, such as ``up 0.031 since the last probe (significant)``."""
        found = self.change(metric, language, since)
        if found is None:
            return f"no {since} probe to compare with"
        if math.isnan(found.difference):
            return f"unknown change since the {since} probe (a layer held NaN)"
        way = "up" if found.difference > 0 else "down" if found.difference < 0 else "unchanged"
        size = f" {abs(found.difference):.3f}" if found.difference else ""
        verdict = "significant" if found.significant else "not significant"
        return f"{way}{size} since the {since} probe ({verdict})"

    def state(self) -> dict[str, Any]:
        """What a resume needs, as plain JSON: the size does not grow with the number of probes.

        The first point and the latest one, as many before it as a rule has looked at, the best
        one of each metric, and of any other best point that was asked for what it was for.
        """
        kept = {each.step: each for each in (*self.points[:1], *self.window(self._reach))}
        for metric in self.points[-1].counts if self.points else ():
            best = _best(self.points, metric, None)
            kept |= {} if best is None else {best.step: best}
        points = [*kept.values(), *self._parts(kept)]
        return {
            "fingerprint": self.fingerprint,
            "reach": self._reach,
            "asked": [[metric, None if n is None else list(n)] for metric, n in self._asked],
            "points": [each.packed() for each in sorted(points, key=lambda each: each.step)],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The history that ``state`` described."""
        made = cls()
        made.fingerprint = state["fingerprint"]
        made.points = [Point.unpacked(each) for each in state["points"]]
        made._reach = state["reach"]
        made._asked = {
            (metric, None if n is None else tuple(n)): None for metric, n in state["asked"]
        }
        return made

    def _best(self, points: Sequence[Point], metric: str, names: Names) -> Point | None:
        self._asked[metric, names] = None
        return _best(points, metric, names)

    def _parts(self, kept: Mapping[int, Point]) -> list[Point]:
        """What was asked for of best points that are not kept whole."""
        rows: dict[int, dict[str, dict[str, None]]] = {}
        at = {each.step: each for each in self.points}
        for metric, names in self._asked:
            best = _best(self.points, metric, names)
            if best is not None and names is not None and best.step not in kept:
                rows.setdefault(best.step, {}).setdefault(metric, {}).update(dict.fromkeys(names))
        return [at[step].part(rows[step]) for step in rows]


def compare(before: AlignmentReport, after: AlignmentReport, metric: str) -> dict[str, Change]:
    """Paired change per language of two reports on the same pairs; p-values by Holm.

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric.
    """
    check_same_fingerprint(before.fingerprint, after.fingerprint, ("definition",))
    if metric not in after.metrics:
        raise ConfigError(unknown("metric", metric, after.metrics))
    points = Point.of(before), Point.of(after)
    found = {name: change(*points, metric, (name,)) for name in after.languages}
    adjusted = statistics.holm([each.p for each in found.values()])
    return {
        name: Change(each.difference, each.low, each.high, p)
        for (name, each), p in zip(found.items(), adjusted, strict=True)
    }


def record_of(path: str | Path) -> Path:
    """The file of reports that a path stands for: itself, or the record below a run's folder.

    Raises:
        ConfigError: If there is none.
    """
    path = Path(path)
    for file in (path, path / RECORD, path / FOLDER / RECORD):
        if file.is_file():
            return file
    raise ConfigError(
        f"a run must be a JSONL file of reports or a folder that holds {FOLDER}/{RECORD},"
        f" got {str(path)!r}, where there is none"
    )


def read(path: str | Path, faults: list[str] | None = None) -> list[AlignmentReport]:
    """The reports of a run, by step, the later one of equals.

    A line that is no report, such as one that was cut off when a job was killed, is named in a
    warning and left out.

    Args:
        path: A JSONL file, or the output folder of a run.
        faults: Where given, it takes what would be the warnings.

    Raises:
        ConfigError: If there is no such file.
    """
    file = record_of(path)
    found: dict[int, AlignmentReport] = {}
    # Not by splitlines: JSON may hold other characters that end a line, such as U+2028.
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            report = AlignmentReport.from_json(line.decode())
        except ValueError as error:
            words = f"{file}:{number} is left out: {error}"
            log.warning(words) if faults is None else faults.append(words)
            continue
        found[report.step] = report
    return [found[step] for step in sorted(found)]


def check_same_fingerprint(
    one: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Mapping[str, Any]],
    parts: Sequence[str],
) -> None:
    """Refuse two fingerprints that differ in one of some parts.

    The name of the sentences may differ where their digest does not.

    Raises:
        FingerprintError: The first difference by name, and both values.
    """
    for part in parts:
        a, b = one.get(part, {}), json.loads(json.dumps(other.get(part, {})))
        for key in dict.fromkeys((*a, *b)):
            same = key == "corpus" and a.get("digest") == b.get("digest") is not None
            if a.get(key) != b.get(key) and not same:
                raise FingerprintError(
                    f"reports of one curve must agree in {part}, but {key} is {a.get(key)!r} in one"
                    f" and {b.get(key)!r} in the other"
                )


def _best(points: Sequence[Point], metric: str, names: Names) -> Point | None:
    known = [each for each in points if each.holds(metric, names)]
    known = [each for each in known if not math.isnan(each.score(metric, names))]
    return max(known, key=lambda each: each.score(metric, names), default=None)
