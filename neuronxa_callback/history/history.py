"""The reports of one run over time: one curve, its changes, and its state for a resume."""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from neuronxa_callback.errors import ConfigError, FingerprintError, reason, unknown
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.points import Names, Point, change, require
from neuronxa_callback.history.records import read_record
from neuronxa_callback.metrics.statistics import LEVEL, Change
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

REFERENCES = ("last", "first", "best")
"""The earlier points that the latest one can be compared with."""


class History:
    """The points of one run, in the order of their steps."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.fingerprint: Mapping[str, Mapping[str, Any]] | None = None
        """The fingerprint of the first report; all others must match it."""
        self._batch_tokens: int | None = None
        """That of the latest report; None until one is added, also after a resume."""
        self._longest_window = 1
        """The largest ``probes`` of all calls of ``window``; saved for a resume."""
        self._queried: dict[tuple[str, Names], None] = {}
        """(metric, languages) queried by ``best``; saved for a resume."""

    @classmethod
    def read(cls, path: str | Path, run: str | None = None) -> Self:
        """The history of a run, with one report in memory at a time; see ``read_reports``.

        Raises:
            ConfigError: If there is no such file or no such run.
            FingerprintError: If its reports do not measure the same thing.
        """
        history = cls()
        reports, messages = read_record(path, run)
        for message in messages:
            log.warning(message)
        for report in reports:
            history.append(report)
        return history

    def next_is_first_of(self, every: int) -> bool:
        """Whether the next probe of the run is the first of ``every``; never for 0."""
        number = self.points[-1].number + 1 if self.points else 0
        return every > 0 and number % every == 0

    def append(self, report: AlignmentReport) -> None:
        """Add a report; points of its step or later are removed, since the run went back.

        Raises:
            FingerprintError: If it does not measure the same thing as the earlier ones.
        """
        self.check(report)
        if self.fingerprint is None:
            self.fingerprint = json.loads(json.dumps(report.fingerprint))
        self.points = [point for point in self.points if point.step < report.step]
        number = self.points[-1].number + 1 if self.points else 0
        self.points.append(Point.of(report, number, self.points[0] if self.points else None))
        self._batch_tokens = _batch_tokens(report.fingerprint)

    def note_changes(self, report: AlignmentReport) -> AlignmentReport:
        """The next report, with a warning if its ``batch_tokens`` differs from the one before.

        After a resume it is compared with the first report of the curve. The scores are the same
        up to rounding in the model, so the curve goes on.
        """
        before = self._batch_tokens or _batch_tokens(self.fingerprint or {})
        now = _batch_tokens(report.fingerprint)
        if before is None or now == before:
            return report
        note = f"batch_tokens is {now} from step {report.step} on, it was {before} before"
        return replace(report, warnings=(*report.warnings, note))

    def check(self, report: AlignmentReport, ignored: Sequence[str] = ()) -> None:
        """Raise an error if a report does not belong to this curve.

        Args:
            report: The report.
            ignored: Entries of its fingerprint that may differ.

        Raises:
            FingerprintError: As ``append``.
        """
        if self.fingerprint is not None:
            parts = ("definition", "model")
            check_same_fingerprint(self.fingerprint, report.fingerprint, parts, ignored)

    def check_resume(self, report: AlignmentReport, ignored: Sequence[str] = ()) -> None:
        """Raise an error if a resumed run does not measure what it measured before.

        Args:
            report: The first report of the resumed run.
            ignored: As in ``check``.

        Raises:
            FingerprintError: Says what changed and what to do.
        """
        if self.fingerprint is None:
            return
        parts, names = ("definition", "model"), ("so far", "now")
        try:
            check_same_fingerprint(self.fingerprint, report.fingerprint, parts, ignored, names)
        except FingerprintError as cause:
            raise FingerprintError(
                f"{cause}; to continue the curve of this run, set that back to what it was; to"
                " start a second curve in this run, give the callback a new name="
            ) from None

    def best(self, metric: str, names: Names = None) -> Point | None:
        """The point with the highest score, the earliest of equals; None if all are NaN."""
        return self._best(self.points, metric, names)

    def knows(self, metric: str, names: Names) -> bool:
        """Whether ``best`` of these languages is held; a saved history holds what was queried."""
        complete = len(self.points) == self.points[-1].number + 1 if self.points else True
        complete = complete and all(point.complete for point in self.points)
        return complete or names is None or (metric, names) in self._queried

    def earlier(self, metric: str, reference: str, names: Names = None) -> Point | None:
        """The point to compare the latest one with: one of ``REFERENCES`` before it.

        Raises:
            ConfigError: If ``reference`` is unknown.
        """
        if reference not in REFERENCES:
            raise ConfigError(unknown("reference", reference, REFERENCES))
        before = self.points[:-1]
        if reference == "best":
            return self._best(before, metric, names)
        complete = [point for point in before if point.complete]
        if not complete:
            return None
        return complete[0] if reference == "first" else complete[-1]

    def window(self, probes: int) -> list[Point]:
        """The latest point and up to ``probes`` points before it, without a gap."""
        self._longest_window = max(self._longest_window, probes)
        latest = self.points[-1:]
        for point in reversed(self.points[:-1]):
            follows = point.number == latest[0].number - 1
            if not (point.complete and follows) or len(latest) > probes:
                break
            latest.insert(0, point)
        return latest

    def change(
        self,
        metric: str,
        language: str | None = None,
        reference: str = "last",
        margin: float = 0.0,
    ) -> Change | None:
        """How the latest point differs from an earlier one; None if there is no earlier one.

        Args:
            metric: A metric of the reports.
            language: A language of the reports; None for the macro-mean.
            reference: ``"last"`` (the probe before), ``"first"`` or ``"best"``.
            margin: A true change of this size or less counts as none in the p-value.

        Raises:
            ConfigError: If ``reference`` is unknown.
        """
        names = None if language is None else (language,)
        earlier = self.earlier(metric, reference, names)
        return None if earlier is None else change(earlier, self.points[-1], metric, names, margin)

    def best_interval(self, metric: str, language: str | None = None) -> tuple[float, float]:
        """The 95 % interval of the best point so far, which allows for its selection.

        The best of k probes is the highest of k noisy scores. At the level 1 - 0.05 / k the
        intervals of all k hold at once, so that of the best does (Bonferroni).

        Args:
            metric: A metric of the reports.
            language: A language of the reports; None for the macro-mean.

        Returns:
            low, high; NaN if there is no score.
        """
        names = None if language is None else (language,)
        best = self.best(metric, names)
        if best is None:
            return math.nan, math.nan
        return best.interval(metric, names, 1 - (1 - LEVEL) / (self.points[-1].number + 1))

    def state(self) -> dict[str, Any]:
        """The state for a resume as JSON values; its size does not grow with the run.

        It holds the first point, the latest window, the best point of each metric, and the queried
        languages of the other best points.
        """
        kept = {
            point.step: point for point in (*self.points[:1], *self.window(self._longest_window))
        }
        for metric in self.points[-1].counts if self.points else ():
            best = _best(self.points, metric, None)
            kept |= {} if best is None else {best.step: best}
        points = [*kept.values(), *self._queried_parts(kept)]
        return {
            "fingerprint": self.fingerprint,
            "longest_window": self._longest_window,
            "queried": [[metric, None if n is None else list(n)] for metric, n in self._queried],
            "points": [point.to_dict() for point in sorted(points, key=lambda point: point.step)],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The history from the values of ``state``.

        Raises:
            ConfigError: If they are not such values.
        """
        history = cls()
        try:
            history.points = [Point.from_dict(plain) for plain in state["points"]]
            history._queried = {
                (metric, None if names is None else tuple(names)): None
                for metric, names in state["queried"]
            }
            history.fingerprint, window = state["fingerprint"], state["longest_window"]
            history._longest_window = window
            require(isinstance(history.fingerprint, Mapping | None), "fingerprint")
            for part in (history.fingerprint or {}).values():
                require(isinstance(part, Mapping), "fingerprint")
            require(type(window) is int and window >= 1, "longest_window")
            require((history.fingerprint is None) == (not history.points), "fingerprint")
            steps = [point.step for point in history.points]
            require(steps == sorted({*steps}), "steps")
            _require_same_languages(history.points, history._queried)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise ConfigError(f"a saved history cannot be read: {reason(cause)}") from None
        return history

    def _best(self, points: Sequence[Point], metric: str, names: Names) -> Point | None:
        self._queried[metric, names] = None
        return _best(points, metric, names)

    def _queried_parts(self, kept: Mapping[int, Point]) -> list[Point]:
        """The queried languages of best points that are not kept completely."""
        rows: dict[int, dict[str, dict[str, None]]] = {}
        for metric, names in self._queried:
            best = _best(self.points, metric, names)
            if best is not None and names is not None and best.step not in kept:
                rows.setdefault(best.step, {}).setdefault(metric, {}).update(dict.fromkeys(names))
        by_step = {point.step: point for point in self.points}
        return [by_step[step].part(rows[step]) for step in rows]


def _batch_tokens(fingerprint: Mapping[str, Mapping[str, Any]]) -> int | None:
    return fingerprint.get("environment", {}).get("batch_tokens")


def _require_same_languages(points: Sequence[Point], queried: Iterable[tuple[str, Names]]) -> None:
    """Raise a ValueError if a point or a query has a metric or language that no other has."""
    whole = [{metric: {*rows} for metric, rows in p.counts.items()} for p in points if p.complete]
    known = whole[-1] if whole else {}
    require(bool(whole) == bool(points) and all(each == known for each in whole), "languages")
    for point in points:
        for metric, rows in point.counts.items():
            require({*rows} <= known.get(metric, set()), "languages")
    for metric, names in queried:
        require(metric in known and {*(names or ())} <= known[metric], "queried")


def _best(points: Sequence[Point], metric: str, names: Names) -> Point | None:
    known = [point for point in points if point.holds(metric, names)]
    known = [point for point in known if not math.isnan(point.score(metric, names))]
    return max(known, key=lambda point: point.score(metric, names), default=None)
