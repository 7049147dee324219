"""The result of one probe: plain numbers, without torch or numpy, lossless as JSON.

A report holds the measurement only, so equal measurements give equal reports. Seconds, ranks and
the latest loss are in ``run``, which equality ignores. A report never changes after it is made:
``with_run`` and ``with_model`` return a new one.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from neuronxa_callback.errors import ReportError
from neuronxa_callback.language_pairs import LanguagePairs
from neuronxa_callback.neuron_scalars import neuron_scalars
from neuronxa_callback.report_schema import GROUP, MEAN, OPTIONAL_FIELDS, SCHEMA, parse_report
from neuronxa_callback.scores import (
    Interval,
    Layer,
    MetricScores,
    flat_counts,
    mean,
    mean_share,
    rarefied_share,
    without_nan,
)


@dataclass(frozen=True)
class AlignmentReport:
    """Cross-lingual alignment of one model at one step.

    Scores are in [0, 1]; higher is better. ``Probe.run`` makes a report, ``from_json`` and
    ``read_reports`` read one.

    Example:
        >>> from neuronxa_callback.scores import MetricScores
        >>> nasca = MetricScores(
        ...     layers=(0, 1),
        ...     hits={"deu_Latn": (0b0001, 0b0111)},  # 1 and 3 of the 4 pairs are aligned
        ...     pivot_to_target={"deu_Latn": (2, 4)},
        ...     target_to_pivot={"deu_Latn": (1, 3)},
        ...     mutual={"deu_Latn": (2, 4)},
        ...     intervals={"deu_Latn": (0.2, 0.8), "mean": (0.2, 0.8)},
        ...     layer_intervals={"deu_Latn": ((0.1, 0.7), (0.3, 0.9))},
        ...     sole_blocks={"deu_Latn": (0, 1, 0, 0)},
        ...     second_differences={"deu_Latn": (0, -1, 0, 1)},
        ...     blockers={"deu_Latn": (4, 1, 3)},
        ...     hubs={"deu_Latn": (None, None)},
        ... )
        >>> report = AlignmentReport(
        ...     step=100,
        ...     pivot="eng_Latn",
        ...     languages=("deu_Latn",),
        ...     n_pairs=4,
        ...     metrics={"nasca": nasca},
        ...     fingerprint={"definition": {}, "model": {}, "environment": {}},
        ... )
        >>> report.score("nasca"), report.curve("nasca")
        (0.5, (0.25, 0.75))
        >>> report.layer_interval("nasca", "deu_Latn", layer=1)
        (0.3, 0.9)
        >>> report.score_at(2, "nasca")
        0.7083333333333334
        >>> AlignmentReport.from_json(report.to_json()) == report
        True
    """

    step: int
    pivot: str
    languages: tuple[str, ...]
    n_pairs: int
    metrics: Mapping[str, MetricScores]
    fingerprint: Mapping[str, Mapping[str, Any]]
    """``definition`` (what is measured), ``model`` and ``environment``. Read-only."""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    """Named small arrays of plain numbers, ``None`` for NaN. Read-only."""
    warnings: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a group -> its languages. A method takes ``"group:<name>"`` as a language."""
    language_pairs: Mapping[str, LanguagePairs] = field(default_factory=dict)
    """Metric -> its scores between every two languages, if ``pivot="all"`` measured them."""
    run: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Seconds, ranks, time and loss of the run; not part of the measurement. Read-only."""

    def with_run(self, **entries: Any) -> Self:
        """This report with entries added to ``run`` (or replaced there)."""
        return replace(self, run={**self.run, **entries})

    def with_model(self, **entries: Any) -> Self:
        """This report with entries added to ``fingerprint["model"]`` (or replaced there)."""
        model = {"model": {**self.fingerprint.get("model", {}), **entries}}
        return replace(self, fingerprint={**self.fingerprint, **model})

    @property
    def chance(self) -> float:
        """The expected score if all similarities are exchangeable: 1 / (2 n - 1)."""
        return 1 / (2 * self.n_pairs - 1)

    def score(self, metric: str, language: str | None = None) -> float:
        """The share of weakly aligned pairs, averaged over layers and then over languages.

        Args:
            metric: One of ``self.metrics``.
            language: One of ``self.languages``; ``None`` for the macro-mean over all of them;
                ``"group:<name>"`` for the mean over a group.

        Returns:
            A number in [0, 1], or NaN if one of the layers held NaN.

        Raises:
            KeyError: If the report does not have the metric or the language.
        """
        hits = self._of(metric).hits
        masks = [mask for name in self._named(language) for mask in hits[name]]
        return mean_share([None if m is None else m.bit_count() for m in masks], self.n_pairs)

    def curve(self, metric: str, language: str | None = None) -> tuple[float, ...]:
        """The alignment curve: one score per layer, in the order of ``layers(metric)``."""
        hits = self._of(metric).hits
        rows = [hits[name] for name in self._named(language)]
        return tuple(
            mean_share(
                [None if mask is None else mask.bit_count() for mask in column], self.n_pairs
            )
            for column in zip(*rows, strict=True)
        )

    def layers(self, metric: str) -> tuple[Layer, ...]:
        """The labels of the layers of ``curve(metric)``."""
        return self._of(metric).layers

    def interval(self, metric: str, language: str | None = None) -> Interval:
        """The 95 % interval of ``score(metric, language)``: low, high."""
        self._named(language)
        return self._of(metric).intervals[language or MEAN]

    def layer_interval(self, metric: str, language: str, layer: Layer) -> Interval:
        """The 95 % interval of one layer's score: low, high; NaN if the layer held NaN.

        Raises:
            KeyError: If the report does not have the metric, the language or the layer.
        """
        layers = self.layers(metric)
        if layer not in layers:
            known = ", ".join(map(str, layers))
            raise KeyError(f"{metric} has no layer {layer!r} in this report (it has: {known})")
        self._named(language, groups=False)
        return self._of(metric).layer_intervals[language][layers.index(layer)]

    def is_hub_limited(self, metric: str, language: str | None = None) -> bool:
        """Whether one sentence moves the score so much that its interval says next to nothing."""
        self._named(language)
        return (language or MEAN) in self._of(metric).hub_limited

    def score_at(self, n: int, metric: str, language: str | None = None) -> float:
        """The expected score among n of the pairs, by exact rarefaction; comparable over sizes.

        Args:
            n: A number of pairs from 1 to ``n_pairs``.
            metric: As in ``score``.
            language: As in ``score``.

        Raises:
            ValueError: If the report does not have n pairs.
        """
        if not 1 <= n <= self.n_pairs:
            raise ValueError(f"n must be from 1 to {self.n_pairs}, the pairs of a report, got {n}")
        blockers = [self._of(metric).blockers[name] for name in self._named(language)]
        return mean([rarefied_share(counts, self.n_pairs, n) for counts in blockers])

    def peak(self, metric: str, language: str | None = None) -> tuple[Layer, float]:
        """The best aligned layer (the first of equals) and its score; NaN if any layer is NaN."""
        curve = self.curve(metric, language)
        if any(map(math.isnan, curve)):
            return self.layers(metric)[0], math.nan
        best = max(range(len(curve)), key=curve.__getitem__)
        return self.layers(metric)[best], curve[best]

    def retrieval(self, metric: str, language: str | None = None) -> tuple[float, float]:
        """Nearest-neighbour accuracy, averaged over layers: pivot to target, target to pivot."""
        scores, names = self._of(metric), self._named(language)
        return (
            mean_share(flat_counts(scores.pivot_to_target, names), self.n_pairs),
            mean_share(flat_counts(scores.target_to_pivot, names), self.n_pairs),
        )

    def shuffled_baseline(self, metric: str, language: str | None = None) -> float:
        """The expected score if the same sentences were paired at random: M / n^2.

        M counts the cells that are the strict maximum of both their row and their column, so hubs
        (sentences near to everything) move it. Averaged over layers, in [0, 1].
        """
        mutual = flat_counts(self._of(metric).mutual, self._named(language))
        return mean_share(mutual, self.n_pairs**2)

    def thirds(self, metric: str) -> tuple[float, float, float]:
        """The macro-mean of the early, middle and late third of the layers; NaN if empty."""
        curve = self.curve(metric)
        first, second = (round(len(curve) * k / 3) for k in (1, 2))
        return mean(curve[:first]), mean(curve[first:second]), mean(curve[second:])

    def scalars(self) -> dict[str, float]:
        """The numbers that a tracker logs.

        The keys are ``neuronxa/<metric>/`` with ``mean``, ``<language>`` and ``group/<name>``, each
        with ``/low`` and ``/high``, and with ``chance``, ``peak``, ``early``, ``middle``, ``late``;
        those of ``neuron_scalars``; and ``neuronxa/seconds`` if the run was timed. A callback with
        a name has ``neuronxa/<name>/`` in place of ``neuronxa/``.
        """
        scalars: dict[str, float] = {}
        prefix = f"neuronxa/{self.run['name']}" if self.run.get("name") else "neuronxa"
        for metric in self.metrics:
            root = f"{prefix}/{metric}"
            for language in (None, *self.languages, *(f"{GROUP}{name}" for name in self.groups)):
                key = f"{root}/{(language or MEAN).replace(GROUP, 'group/', 1)}"
                scalars[key] = self.score(metric, language)
                scalars[f"{key}/low"], scalars[f"{key}/high"] = self.interval(metric, language)
            scalars[f"{root}/chance"] = self.chance
            scalars[f"{root}/peak"] = self.peak(metric)[1]
            for third, score in zip(("early", "middle", "late"), self.thirds(metric), strict=True):
                scalars[f"{root}/{third}"] = score
        scalars |= neuron_scalars(self.diagnostics, prefix)
        if "seconds" in self.run:
            scalars[f"{prefix}/seconds"] = float(self.run["seconds"])
        return scalars

    def rows(self) -> list[dict[str, Any]]:
        """One row per metric, language and layer (score, low, high), for ``pandas.DataFrame``."""
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
            for layer, mask, (low, high) in zip(
                scores.layers, scores.hits[language], scores.layer_intervals[language], strict=True
            )
        ]

    def to_json(self) -> str:
        """The report as one line of JSON; NaN is written as ``null``."""
        return json.dumps(
            self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as lists, dictionaries and numbers; NaN becomes ``None``."""
        left_out = {"metrics", *(name for name in OPTIONAL_FIELDS if not getattr(self, name))}
        metrics = {name: scores.to_dict(self.n_pairs) for name, scores in self.metrics.items()}
        tables = {name: table.to_dict() for name, table in self.language_pairs.items()}
        fields = {**vars(self), "language_pairs": tables}
        plain = {name: entry for name, entry in fields.items() if name not in left_out}
        return {"schema": SCHEMA, **without_nan(plain), "metrics": metrics}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a report from the text of ``to_json``.

        Raises:
            ReportError: If the text is not a report, contradicts itself or has another schema; see
                ``docs/report.schema.json``.
        """
        try:
            plain = parse_report(text)
        except ReportError as cause:
            raise ReportError(f"not an alignment report: {cause}") from None
        fields = ("step", "pivot", "n_pairs", "fingerprint", "diagnostics", "run")
        return cls(
            **{name: plain[name] for name in fields},
            languages=tuple(plain["languages"]),
            metrics={name: MetricScores.from_dict(v) for name, v in plain["metrics"].items()},
            warnings=tuple(plain["warnings"]),
            groups={name: tuple(group) for name, group in plain.get("groups", {}).items()},
            language_pairs=LanguagePairs.tables_of(plain),
        )

    def _of(self, metric: str) -> MetricScores:
        if metric not in self.metrics:
            known = ", ".join(self.metrics)
            raise KeyError(f"this report has no metric {metric!r} (it has: {known})")
        return self.metrics[metric]

    def _named(self, language: str | None, groups: bool = True) -> tuple[str, ...]:
        if language is None:
            return self.languages
        if language in self.languages:
            return (language,)
        known = {f"{GROUP}{name}": members for name, members in self.groups.items() if groups}
        if language not in known:
            names = ", ".join((*self.languages, *known))
            raise KeyError(f"this report has no language {language!r} (it has: {names})")
        return known[language]
