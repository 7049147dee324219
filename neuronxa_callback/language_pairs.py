"""The scores of all pairs of languages: a symmetric table per metric, each pair stored once.

A report has it as ``report.language_pairs``, metric -> table, if the probe was asked for it
(``Probe.run(model, pivot="all")``). In the record::

    "language_pairs": {
      "nasca": {
        "counts": [[61, 48, ..., 70, ...], ...],
        "intervals": [[0.55, 0.68], [0.41, 0.55], ...]
      }
    }

The languages are the pivot and then ``languages`` of the report: 0, 1, .., K. Their pairs are the
cells above the diagonal of the matrix, row by row: (0, 1), (0, 2), .., (0, K), (1, 2), ..,
(K - 1, K). So the first K pairs are those with the pivot, and they equal the ordinary scores.

``counts[layer][pair]`` is the number of weakly aligned sentence pairs, from 0 to ``n_pairs``; null
for NaN. The layers are those of ``metrics.<metric>.layers``. ``intervals[pair]`` is the 95 %
interval of the mean over layers. Chance is that of the report, 1 / (2 n - 1). Standard library
only.
"""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

from neuronxa_callback.errors import ReportError
from neuronxa_callback.scores import Counts, Interval, Layer, interval_of, mean_share, without_nan


@dataclass(frozen=True)
class LanguagePairs:
    """One metric between every two languages of a report; symmetric, in [0, 1], higher is better.

    Example:
        >>> table = LanguagePairs(
        ...     languages=("eng_Latn", "ita_Latn", "fra_Latn"),
        ...     n_pairs=10,
        ...     layers=(0, 1),
        ...     counts=((2, 4, 6), (4, 4, 8)),
        ...     intervals=((0.1, 0.6), (0.2, 0.7), (0.4, 0.9)),
        ... )
        >>> table.score("fra_Latn", "ita_Latn"), table.score("eng_Latn", "ita_Latn", layer=1)
        (0.7, 0.4)
        >>> table.interval("ita_Latn", "fra_Latn")
        (0.4, 0.9)
        >>> table.matrix()
        ((1.0, 0.3, 0.4), (0.3, 1.0, 0.7), (0.4, 0.7, 1.0))
    """

    languages: tuple[str, ...]
    """The pivot first."""
    n_pairs: int
    layers: tuple[Layer, ...]
    counts: tuple[Counts, ...]
    """Per layer the aligned sentence pairs of each pair of languages; None for NaN."""
    intervals: tuple[Interval, ...]
    """The 95 % interval of the mean over layers of each pair of languages."""

    def score(self, one: str, other: str, layer: Layer | None = None) -> float:
        """The score of two languages in one layer, or its mean over layers; NaN if a layer is NaN.

        Raises:
            KeyError: If the table does not have the languages or the layer.
        """
        place = self._place(one, other)
        rows = self.counts if layer is None else (self.counts[self._layer(layer)],)
        return mean_share([row[place] for row in rows], self.n_pairs)

    def interval(self, one: str, other: str) -> Interval:
        """The 95 % interval of the mean over layers of two languages: low, high.

        Raises:
            KeyError: If the table does not have the languages.
        """
        return self.intervals[self._place(one, other)]

    def matrix(self, layer: Layer | None = None) -> tuple[tuple[float, ...], ...]:
        """Score by language and language, in the order of ``languages``.

        The diagonal is 1: a sentence is its own nearest neighbour. It is not measured.
        """
        found = [[1.0] * len(self.languages) for _ in self.languages]
        for (i, one), (j, other) in combinations(enumerate(self.languages), 2):
            found[i][j] = found[j][i] = self.score(one, other, layer)
        return tuple(map(tuple, found))

    def to_dict(self) -> dict[str, Any]:
        """Counts and intervals as JSON values; the rest is in the report."""
        plain: dict[str, Any] = without_nan({"counts": self.counts, "intervals": self.intervals})
        return plain

    @classmethod
    def tables_of(cls, plain: Mapping[str, Any]) -> dict[str, Self]:
        """Metric -> its table, from the JSON values of a report."""
        return {
            metric: cls(
                languages=(plain["pivot"], *plain["languages"]),
                n_pairs=plain["n_pairs"],
                layers=tuple(plain["metrics"][metric]["layers"]),
                counts=tuple(map(tuple, table["counts"])),
                intervals=tuple(map(interval_of, table["intervals"])),
            )
            for metric, table in plain.get("language_pairs", {}).items()
        }

    def _place(self, one: str, other: str) -> int:
        for name in (one, other):
            if name not in self.languages:
                known = ", ".join(self.languages)
                raise KeyError(f"this table has no language {name!r} (it has: {known})")
        if one == other:
            raise KeyError(f"a table has pairs of two languages, got {one!r} twice")
        low, high = sorted((self.languages.index(one), self.languages.index(other)))
        return pair_place(low, high, len(self.languages))

    def _layer(self, layer: Layer) -> int:
        if layer not in self.layers:
            known = ", ".join(map(str, self.layers))
            raise KeyError(f"this table has no layer {layer!r} (it has: {known})")
        return self.layers.index(layer)


def pair_place(low: int, high: int, languages: int) -> int:
    """The place of the pair (low, high), low < high, among all pairs of languages.

    >>> [pair_place(low, high, 4) for low, high in combinations(range(4), 2)]
    [0, 1, 2, 3, 4, 5]
    """
    return low * (2 * languages - low - 1) // 2 + high - low - 1


def check_language_pairs(plain: Mapping[str, Any]) -> None:
    """Check ``language_pairs`` of a report as JSON whose other fields are checked.

    Raises:
        ReportError: Names the metric whose table contradicts the report, and how.
    """
    tables = plain.get("language_pairs", {})
    if type(tables) is not dict or not {*tables} <= {*plain["metrics"]}:
        raise ReportError(
            f"language_pairs must have tables of metrics of the report, got {reprlib.repr(tables)}"
        )
    for metric, table in tables.items():
        if type(table) is not dict or {*table} != {"counts", "intervals"}:
            raise _error(metric, "exactly counts and intervals", table)
        _check_counts(metric, table["counts"], plain)
        _check_intervals(metric, table["intervals"], plain)


def _check_counts(metric: str, counts: Any, plain: Mapping[str, Any]) -> None:
    scores, n, languages = plain["metrics"][metric], plain["n_pairs"], plain["languages"]
    size, layers = math.comb(len(languages) + 1, 2), len(scores["layers"])
    if type(counts) is not list or len(counts) != layers:
        raise _error(metric, f"counts of {layers} layers", counts)
    for layer, row in enumerate(counts):
        if type(row) is not list or len(row) != size or not all(_is_count(c, n) for c in row):
            raise _error(metric, f"{size} whole numbers from 0 to {n} per layer", row)
        masks = [scores["hits"][name][layer] for name in languages]
        hits = [None if mask is None else int(mask, 16).bit_count() for mask in masks]
        if row[: len(hits)] != hits:
            raise _error(metric, "the scores of the report in the row of the pivot", row)


def _check_intervals(metric: str, intervals: Any, plain: Mapping[str, Any]) -> None:
    languages = plain["languages"]
    size = math.comb(len(languages) + 1, 2)
    if type(intervals) is not list or len(intervals) != size:
        raise _error(metric, f"{size} intervals", intervals)
    for ends in intervals:
        if type(ends) is not list or len(ends) != 2 or not _is_interval(*ends):
            raise _error(metric, "intervals of two numbers in [0, 1]", ends)
    own = plain["metrics"][metric]["intervals"]
    if intervals[: len(languages)] != [own[name] for name in languages]:
        raise _error(metric, "the intervals of the report in the row of the pivot", intervals)


def _is_count(count: Any, n: int) -> bool:
    return count is None or (type(count) is int and 0 <= count <= n)


def _is_interval(low: Any, high: Any) -> bool:
    if low is None or high is None:
        return low is high
    return {type(low), type(high)} <= {int, float} and 0 <= low <= high <= 1


def _error(metric: str, expected: str, got: Any) -> ReportError:
    return ReportError(
        f"language_pairs.{metric[:60]} must have {expected}, got {reprlib.repr(got)}"
    )
