"""What one probe found: plain numbers, without torch or numpy, lossless as JSON.

A report is the measurement alone: two equal measurements are equal reports. Seconds, ranks and
the loss of the moment stand in ``run``, which takes no part in equality.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

Layer = int | str
"""A block's number; ``"decoder.3"`` where a report holds more than one stack."""

Counts = tuple[int | None, ...]
"""One whole number per layer; ``None`` where the layer held NaN."""

SCHEMA = 1
MEAN = "mean"
RESERVED = (MEAN, "chance", "early", "middle", "late", "peak", "seconds", "low", "high", "worst")
"""Words that keys use, so that no language may be called by them."""


@dataclass(frozen=True)
class MetricScores:
    """One alignment metric: verdicts per language and layer, and what was counted beside them."""

    layers: tuple[Layer, ...]
    hits: Mapping[str, Counts]
    """language -> per layer the weakly aligned pairs, as a bit mask (bit i is pair i)."""
    forward: Mapping[str, Counts]
    """language -> per layer how many pivot sentences have their own pair as nearest neighbour."""
    backward: Mapping[str, Counts]
    """language -> per layer the same from the target to the pivot."""
    mutual: Mapping[str, Counts]
    """language -> per layer M, the cells that are strict maxima of their row and column."""
    intervals: Mapping[str, tuple[float, float]]
    """language, or ``"mean"``, -> 95 % interval of the mean over layers; NaN where unknown."""


@dataclass(frozen=True)
class AlignmentReport:
    """Cross-lingual alignment of one model at one step. Scores are in [0, 1]; higher is better."""

    step: int
    pivot: str
    languages: tuple[str, ...]
    n_pairs: int
    metrics: Mapping[str, MetricScores]
    layer_intervals: tuple[tuple[float, float], ...]
    """Entry k is the 95 % interval of a layer's score where k of ``n_pairs`` pairs are aligned."""
    fingerprint: Mapping[str, Mapping[str, Any]]
    """``definition``, ``model`` and ``environment``: what was measured, of what, and where."""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    """Named small arrays of plain numbers; ``None`` stands for NaN."""
    warnings: tuple[str, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Seconds, ranks, time and loss: about the run, not part of the measurement."""

    @property
    def chance(self) -> float:
        """Score of exchangeable similarities: 1 / (2 n - 1)."""
        return 1 / (2 * self.n_pairs - 1)

    def score(self, metric: str, language: str | None = None) -> float:
        """Share of weakly aligned pairs, mean over layers, then over languages.

        Args:
            metric: One of ``self.metrics``.
            language: One of ``self.languages``; ``None`` for the macro-mean over all of them.

        Returns:
            A number in [0, 1], or NaN where any layer it averages held NaN.
        """
        hits = self._of(metric).hits
        masks = [mask for name in self._named(language) for mask in hits[name]]
        return _share([None if m is None else m.bit_count() for m in masks], self.n_pairs)

    def curve(self, metric: str, language: str | None = None) -> tuple[float, ...]:
        """The alignment curve: one score per layer, in the order of ``layers(metric)``."""
        hits = self._of(metric).hits
        rows = [hits[name] for name in self._named(language)]
        return tuple(
            _share([None if mask is None else mask.bit_count() for mask in column], self.n_pairs)
            for column in zip(*rows, strict=True)
        )

    def layers(self, metric: str) -> tuple[Layer, ...]:
        """Labels of the layers that ``curve(metric)`` runs over."""
        return self._of(metric).layers

    def interval(self, metric: str, language: str | None = None) -> tuple[float, float]:
        """The 95 % interval of ``score(metric, language)``: low, high."""
        names = self._named(language)
        return self._of(metric).intervals[MEAN if language is None else names[0]]

    def peak(self, metric: str, language: str | None = None) -> tuple[Layer, float]:
        """The best aligned layer and its score (the first one of equals); NaN if any is NaN."""
        curve = self.curve(metric, language)
        if any(map(math.isnan, curve)):
            return self.layers(metric)[0], math.nan
        best = max(range(len(curve)), key=curve.__getitem__)
        return self.layers(metric)[best], curve[best]

    def retrieval(self, metric: str, language: str | None = None) -> tuple[float, float]:
        """Nearest-neighbour accuracy, mean over layers: pivot to target, target to pivot."""
        scores = self._of(metric)
        names = self._named(language)
        return tuple(  # type: ignore[return-value]
            _share([count for name in names for count in side[name]], self.n_pairs)
            for side in (scores.forward, scores.backward)
        )

    def null(self, metric: str, language: str | None = None) -> float:
        """Expected score if the pairs were dealt anew: M / n^2, mean over layers."""
        mutual = self._of(metric).mutual
        counts = [count for name in self._named(language) for count in mutual[name]]
        return _share(counts, self.n_pairs**2)

    def thirds(self, metric: str) -> tuple[float, float, float]:
        """Macro-mean of the early, middle and late third of the layers; NaN below 3 layers."""
        curve = self.curve(metric)
        first, second = (round(len(curve) * k / 3) for k in (1, 2))
        return _mean(curve[:first]), _mean(curve[first:second]), _mean(curve[second:])

    def scalars(self) -> dict[str, float]:
        """What a tracker logs: ``neuronxa/<metric>/<language>`` with ``/low`` and ``/high``, ..."""
        found: dict[str, float] = {}
        for metric in self.metrics:
            root = f"neuronxa/{metric}"
            for language in (None, *self.languages):
                key = f"{root}/{language or MEAN}"
                found[key] = self.score(metric, language)
                found[f"{key}/low"], found[f"{key}/high"] = self.interval(metric, language)
            found[f"{root}/chance"] = self.chance
            found[f"{root}/peak"] = self.peak(metric)[1]
            for third, score in zip(("early", "middle", "late"), self.thirds(metric), strict=True):
                found[f"{root}/{third}"] = score
        if "seconds" in self.run:
            found["neuronxa/seconds"] = float(self.run["seconds"])
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The long table: one row per metric, language and layer, for ``pandas.DataFrame``."""
        return [
            {
                "step": self.step,
                "language": language,
                "layer": layer,
                "metric": metric,
                "score": math.nan if mask is None else mask.bit_count() / self.n_pairs,
                "low": low,
                "high": high,
            }
            for metric, scores in self.metrics.items()
            for language in self.languages
            for layer, mask in zip(scores.layers, scores.hits[language], strict=True)
            for low, high in [self._layer_interval(mask)]
        ]

    def to_json(self) -> str:
        """One line of JSON (no NaN: ``null``), from which ``from_json`` makes an equal report."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries and numbers; ``None`` for NaN."""
        digits = -(-self.n_pairs // 4)
        plain: dict[str, Any] = _without_nan(
            {
                "schema": SCHEMA,
                "step": self.step,
                "pivot": self.pivot,
                "languages": self.languages,
                "n_pairs": self.n_pairs,
                "layer_intervals": self.layer_intervals,
                "fingerprint": self.fingerprint,
                "diagnostics": self.diagnostics,
                "warnings": self.warnings,
                "run": self.run,
            }
        )
        plain["metrics"] = {
            name: _without_nan(
                {
                    **vars(scores),
                    "hits": {
                        language: [None if m is None else f"{m:0{digits}x}" for m in masks]
                        for language, masks in scores.hits.items()
                    },
                }
            )
            for name, scores in self.metrics.items()
        }
        return plain

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The report that ``to_json`` wrote.

        Raises:
            ValueError: If the text is not such a report.
        """
        try:
            plain = json.loads(text)
            if plain["schema"] != SCHEMA:
                raise ValueError(f"its schema is {plain['schema']!r}, this version reads {SCHEMA}")
            return cls(
                step=plain["step"],
                pivot=plain["pivot"],
                languages=tuple(plain["languages"]),
                n_pairs=plain["n_pairs"],
                metrics={name: _scores(each) for name, each in plain["metrics"].items()},
                layer_intervals=tuple(_pair(each) for each in plain["layer_intervals"]),
                fingerprint=plain["fingerprint"],
                diagnostics=plain["diagnostics"],
                warnings=tuple(plain["warnings"]),
                run=plain["run"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise ValueError(f"not an alignment report: {type(cause).__name__}: {cause}") from None

    def _of(self, metric: str) -> MetricScores:
        if metric not in self.metrics:
            raise KeyError(f"this report has no metric {metric!r} (it has: {_list(self.metrics)})")
        return self.metrics[metric]

    def _named(self, language: str | None) -> tuple[str, ...]:
        if language is None:
            return self.languages
        if language not in self.languages:
            known = _list(self.languages)
            raise KeyError(f"this report has no language {language!r} (it has: {known})")
        return (language,)

    def _layer_interval(self, mask: int | None) -> tuple[float, float]:
        return (math.nan, math.nan) if mask is None else self.layer_intervals[mask.bit_count()]


def _scores(plain: Mapping[str, Any]) -> MetricScores:
    return MetricScores(
        layers=tuple(plain["layers"]),
        hits={
            language: tuple(None if mask is None else int(mask, 16) for mask in masks)
            for language, masks in plain["hits"].items()
        },
        forward={name: tuple(counts) for name, counts in plain["forward"].items()},
        backward={name: tuple(counts) for name, counts in plain["backward"].items()},
        mutual={name: tuple(counts) for name, counts in plain["mutual"].items()},
        intervals={name: _pair(each) for name, each in plain["intervals"].items()},
    )


def _pair(numbers: Iterable[float | None]) -> tuple[float, float]:
    low, high = (math.nan if number is None else number for number in numbers)
    return low, high


def _share(counts: Iterable[int | None], of: int) -> float:
    """Mean of counts / of; NaN where a count is missing. Whole numbers, so exact until the end."""
    known = list(counts)
    if not known or None in known:
        return math.nan
    return sum(known) / (len(known) * of)  # type: ignore[arg-type]


def _mean(numbers: Iterable[float]) -> float:
    known = list(numbers)
    return math.fsum(known) / len(known) if known else math.nan


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
