"""The results of each language as they arrive, and what a report makes of them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.metrics import scoring, statistics
from neuronxa_callback.metrics.registry import COMPANIONS
from neuronxa_callback.metrics.scoring import PairScores
from neuronxa_callback.probe import diagnostics
from neuronxa_callback.report import MEAN
from neuronxa_callback.scores import Counts, Layer, MetricScores


class ResultCollector:
    """Scores and statistics by language; the similarities themselves are not kept.

    Args:
        margins: Whether to compute the margins of each metric.
    """

    def __init__(self, margins: bool) -> None:
        self.margins = margins
        self.scores: dict[str, dict[str, PairScores]] = {}
        """metric -> language -> scores."""
        self.statistics: dict[str, dict[str, Tensor]] = {}
        """``"shares"`` or ``"activity"`` -> language -> [layers] means over sentences."""

    def add_similarity(self, metric: str, language: str, similarity: Tensor) -> None:
        """Scores the similarities [layers, pairs, pairs] of a complete language."""
        margins = self.margins and metric not in COMPANIONS
        scores = scoring.score_similarity(similarity, margins)
        self.scores.setdefault(metric, {})[language] = scores

    def add_statistic(self, name: str, language: str, values: Tensor) -> None:
        """Averages a statistic [layers, pairs] of a complete language over its sentences."""
        self.statistics.setdefault(name, {})[language] = values.mean(dim=1)


def metric_scores(
    results: ResultCollector, metric: str, layers: tuple[Layer, ...], corpus: ParallelCorpus
) -> MetricScores:
    """The scores of a metric with their intervals, as a report holds them."""
    by_language = {language: results.scores[metric][language] for language in corpus.languages}
    hits = {language: _as_numbers(scores) for language, scores in by_language.items()}
    intervals = {
        language: _plain_interval(statistics.mean_interval(rows)) for language, rows in hits.items()
    }
    intervals[MEAN] = _plain_interval(statistics.macro_interval(hits, corpus.shared_pivot))
    return MetricScores(
        layers=layers,
        hits={name: scoring.pack_hits(one.hits, one.nan) for name, one in by_language.items()},
        pivot_to_target=_counts(by_language, "pivot_to_target"),
        target_to_pivot=_counts(by_language, "target_to_pivot"),
        mutual=_counts(by_language, "mutual"),
        intervals=intervals,
    )


def state_diagnostics(
    results: ResultCollector, config: ProbeConfig, corpus: ParallelCorpus
) -> dict[str, Any]:
    """The requested diagnostics of the neuron states."""
    diagnosed: dict[str, Any] = {}
    if "margins" in config.diagnostics:
        diagnosed["margins"] = diagnostics.margins(
            {
                metric: {name: results.scores[metric][name] for name in corpus.languages}
                for metric in config.metrics
            }
        )
    if "shares" in results.statistics:
        diagnosed["sinks"] = {
            "largest_token": _curves(results.statistics["shares"], corpus),
            **{
                name: {
                    language: _score_curve(results.scores[name][language], config.n_pairs)
                    for language in corpus.languages
                }
                for name in COMPANIONS
                if name in results.scores
            },
        }
    if "activity" in results.statistics:
        diagnosed["activity"] = _curves(results.statistics["activity"], corpus)
    return diagnosed


def _curves(by_language: Mapping[str, Tensor], corpus: ParallelCorpus) -> dict[str, Any]:
    return {language: diagnostics.curve(by_language[language]) for language in corpus.languages}


def _score_curve(scores: PairScores, n: int) -> list[float | None]:
    packed = scoring.pack_hits(scores.hits, scores.nan)
    return [None if mask is None else diagnostics.rounded(mask.bit_count() / n) for mask in packed]


def _as_numbers(scores: PairScores) -> "np.ndarray[Any, Any]":
    """Hits [layers, pairs] as 0 and 1, NaN in layers that hold NaN."""
    hits: np.ndarray[Any, Any] = scores.hits.cpu().numpy().astype(float)
    hits[scores.nan.cpu().numpy()] = math.nan
    return hits


def _counts(by_language: Mapping[str, PairScores], name: str) -> dict[str, Counts]:
    return {
        language: scoring.layer_counts(getattr(scores, name), scores.nan)
        for language, scores in by_language.items()
    }


def _plain_interval(interval: tuple[float, float]) -> tuple[float, float]:
    # Always the same NaN object, so that equal reports compare equal.
    low, high = (math.nan if math.isnan(bound) else float(bound) for bound in interval)
    return low, high
