"""What is found of each language, as it arrives, and what a report makes of it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.metrics import scoring, statistics
from neuronxa_callback.metrics.registry import COMPANIONS
from neuronxa_callback.probe import diagnostics
from neuronxa_callback.report import MEAN
from neuronxa_callback.scores import Layer, MetricScores


class ResultCollector:
    """Verdicts and statistics by language; the similarities themselves are not kept."""

    def __init__(self, config: ProbeConfig, corpus: ParallelCorpus) -> None:
        self.config, self.corpus = config, corpus
        self.verdicts: dict[str, dict[str, scoring.PairScores]] = {}
        self.shares: dict[str, Tensor] = {}
        self.activity: dict[str, Tensor] = {}

    def collect(
        self,
        language: str,
        similarity: Mapping[str, Tensor],
        shares: Tensor | None,
        activity: Tensor | None,
    ) -> None:
        """Takes a language: similarities by metric, and means of its sentences' statistics.

        Args:
            language: Its code.
            similarity: metric -> [layers, pairs, pairs].
            shares: [layers, pairs] share of the largest token in NAV, or None.
            activity: [layers, pairs] fraction of active states, or None.
        """
        margins = "margins" in self.config.diagnostics
        for name, each in similarity.items():
            wanted = margins and name not in COMPANIONS
            self.verdicts.setdefault(name, {})[language] = scoring.score_similarity(each, wanted)
        if shares is not None:
            self.shares[language] = shares.mean(dim=1)
        if activity is not None:
            self.activity[language] = activity.mean(dim=1)

    def scores(self, name: str, layers: tuple[Layer, ...]) -> MetricScores:
        """The verdicts of a metric on its layers, with their intervals."""
        languages = self.corpus.languages
        by_language = {language: self.verdicts[name][language] for language in languages}
        hits = {language: _known(each) for language, each in by_language.items()}
        shared = self.corpus.shared_pivot
        intervals = {
            language: _pair(statistics.mean_interval(each)) for language, each in hits.items()
        }
        intervals[MEAN] = _pair(statistics.macro_interval(hits, shared))
        return MetricScores(
            layers=layers,
            hits={lang: scoring.masks(each.hits, each.nan) for lang, each in by_language.items()},
            pivot_to_target=_counted(by_language, "pivot_to_target"),
            target_to_pivot=_counted(by_language, "target_to_pivot"),
            mutual=_counted(by_language, "mutual"),
            intervals=intervals,
        )

    def diagnostics(self) -> dict[str, Any]:
        """What was found beside the scores, as far as it was asked for."""
        found, languages = dict[str, Any](), self.corpus.languages
        if "margins" in self.config.diagnostics:
            named = {name: self.verdicts[name] for name in self.config.metrics}
            ordered = {
                name: {lang: each[lang] for lang in languages} for name, each in named.items()
            }
            found["margins"] = diagnostics.margins(ordered)
        if self.shares:
            found["sinks"] = {
                "largest_token": {lang: diagnostics.curve(self.shares[lang]) for lang in languages},
                **{name: self._companion(name) for name in COMPANIONS if name in self.verdicts},
            }
        if self.activity:
            found["activity"] = {lang: diagnostics.curve(self.activity[lang]) for lang in languages}
        return found

    def _companion(self, name: str) -> dict[str, list[float | None]]:
        found = {}
        for language in self.corpus.languages:
            each = self.verdicts[name][language]
            masks = scoring.masks(each.hits, each.nan)
            scores = curve_of(masks, self.config.n_pairs)
            found[language] = [diagnostics.plain(score) for score in scores]
        return found


def _known(each: scoring.PairScores) -> "np.ndarray[Any, Any]":
    """Verdicts [layers, pairs] as numbers, NaN in layers that hold NaN."""
    hits: np.ndarray[Any, Any] = each.hits.cpu().numpy().astype(float)
    hits[each.nan.cpu().numpy()] = math.nan
    return hits


def _counted(by_language: Mapping[str, scoring.PairScores], side: str) -> dict[str, Any]:
    return {
        language: scoring.counts(getattr(each, side), each.nan)
        for language, each in by_language.items()
    }


def curve_of(masks: tuple[int | None, ...], n: int) -> list[float]:
    """Scores of layers from the bits of their verdicts on ``n`` pairs; NaN where there are none."""
    return [math.nan if mask is None else mask.bit_count() / n for mask in masks]


def _pair(interval: tuple[float, float]) -> tuple[float, float]:
    # One and the same NaN, so that equal reports compare equal.
    low, high = (math.nan if math.isnan(each) else float(each) for each in interval)
    return low, high
