"""The results of each language as they arrive, and what a report makes of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuronxa_callback import extend
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.metrics import scoring, statistics
from neuronxa_callback.metrics.blocking import count_sole_blocks
from neuronxa_callback.metrics.neurons.companion import contrast
from neuronxa_callback.metrics.own import Faults
from neuronxa_callback.metrics.registry import COMPANIONS
from neuronxa_callback.metrics.rivals import find_rivals
from neuronxa_callback.metrics.scoring import PairScores
from neuronxa_callback.metrics.subset import score_subset
from neuronxa_callback.metrics.variance import PairSums
from neuronxa_callback.probe import diagnostics
from neuronxa_callback.probe.batching import TokenizedCorpus
from neuronxa_callback.probe.own.diagnostics import OwnDiagnostics
from neuronxa_callback.report_schema import GROUP, MEAN
from neuronxa_callback.scores import Counts, Layer, MetricScores, PairCounts, without_nan

NO_GROUPS: Mapping[str, Sequence[str]] = MappingProxyType({})


class ResultCollector:
    """Scores and statistics by language; the similarities themselves are not kept.

    Args:
        margins: Whether to compute the margins of each metric.
        contrast: Whether to compute the contrast of each metric.
        surface_hits: language -> which pairs spelling aligns, for ``beyond_surface``; None for no
            such score.
        rivals: Whether to find the rival of each pair.
        own: The diagnostics of one's own; None for none.
    """

    def __init__(
        self,
        margins: bool,
        contrast: bool = False,
        surface_hits: Mapping[str, Sequence[bool]] | None = None,
        rivals: bool = False,
        own: OwnDiagnostics | None = None,
    ) -> None:
        self.margins, self.with_contrast, self.surface_hits = margins, contrast, surface_hits
        self.with_rivals, self.own = rivals, own
        self.rivals: dict[str, dict[str, dict[str, list[int]]]] = {}
        """metric -> language -> the fields of ``Rivals``, one whole number per pair."""
        self.contrast: dict[str, dict[str, list[float | None]]] = {}
        """metric -> language -> mean over pairs, per layer."""
        self.beyond_surface: dict[str, dict[str, dict[str, Any]]] = {}
        """metric -> language -> the fields of ``SubsetScore``."""
        self.scores: dict[str, dict[str, PairScores]] = {}
        """metric -> language -> scores."""
        self.statistics: dict[str, dict[str, Tensor]] = {}
        """``"shares"`` or ``"activity"`` -> language -> [layers] means over sentences."""

    def add_similarity(self, metric: str, language: str, similarity: Tensor) -> None:
        """Scores the similarities [layers, pairs, pairs] of a complete language."""
        margins = self.margins and metric not in COMPANIONS
        scores = scoring.score_similarity(similarity, margins)
        self.scores.setdefault(metric, {})[language] = scores
        if metric not in COMPANIONS:
            self._add_statistics(metric, language, similarity, scores)

    def _add_statistics(
        self, metric: str, language: str, similarity: Tensor, scores: PairScores
    ) -> None:
        if self.with_contrast:
            mean = diagnostics.curve(contrast(similarity).mean(dim=-1))
            self.contrast.setdefault(metric, {})[language] = mean
        if self.with_rivals:
            fields = vars(find_rivals(similarity))
            plain = {name: each.int().tolist() for name, each in fields.items()}
            self.rivals.setdefault(metric, {})[language] = plain
        if self.surface_hits is not None:
            beyond = ~np.array(self.surface_hits[language])
            among = torch.from_numpy(beyond).to(similarity.device)
            sole_blocks = count_sole_blocks(similarity, among).cpu().numpy()
            found = score_subset(_layer_sums(scores).h, sole_blocks, beyond)
            self.beyond_surface.setdefault(metric, {})[language] = without_nan(vars(found))
        if self.own is not None:
            self.own.add(metric, language, similarity)

    def void(self, metric: str) -> None:
        """Makes all scores of a metric NaN."""
        for language, scores in self.scores[metric].items():
            layers, pairs = scores.hits.shape
            shape = (layers, pairs, pairs)
            nan = torch.full(shape, math.nan, dtype=torch.float64, device=scores.hits.device)
            self.add_similarity(metric, language, nan)

    def add_statistic(self, name: str, language: str, values: Tensor) -> None:
        """Averages a statistic [layers, pairs] of a complete language over its sentences."""
        self.statistics.setdefault(name, {})[language] = values.mean(dim=1)


def empty_results(
    config: ProbeConfig, tokenized: TokenizedCorpus, faults: Faults
) -> ResultCollector:
    """A collector of what the options ask for."""
    names = extend.own_names("diagnostic", config.diagnostics)
    own = {name: extend.find("diagnostic", name) for name in names}
    return ResultCollector(
        margins="margins" in config.diagnostics,
        contrast="contrast" in config.neurons,
        surface_hits=tokenized.surface_hits if "beyond_surface" in config.neurons else None,
        rivals="rivals" in config.neurons,
        own=OwnDiagnostics(own, tokenized.pairs, faults) if own else None,
    )


def metric_scores(
    results: ResultCollector,
    metric: str,
    layers: tuple[Layer, ...],
    corpus: ParallelCorpus,
    groups: Mapping[str, Sequence[str]] = NO_GROUPS,
) -> MetricScores:
    """The scores of a metric with their intervals, as a report holds them."""
    by_language = {language: results.scores[metric][language] for language in corpus.languages}
    return MetricScores(
        layers=layers,
        hits={name: scoring.pack_hits(one.hits, one.nan) for name, one in by_language.items()},
        pivot_to_target=_counts(by_language, "pivot_to_target"),
        target_to_pivot=_counts(by_language, "target_to_pivot"),
        mutual=_counts(by_language, "mutual"),
        sole_blocks=_pair_counts(by_language, "sole_blocks"),
        second_differences=_pair_counts(by_language, "second_differences"),
        blockers={name: scoring.blocker_histogram(one) for name, one in by_language.items()},
        hubs={name: scoring.layer_hubs(one) for name, one in by_language.items()},
        **interval_fields(
            {name: _layer_sums(one) for name, one in by_language.items()},
            corpus.shared_pivot,
            groups,
        ),
    )


def interval_fields(
    layer_sums: Mapping[str, PairSums],
    shared: bool,
    groups: Mapping[str, Sequence[str]] = NO_GROUPS,
) -> dict[str, Any]:
    """The fields of ``MetricScores`` that tell how certain the scores are.

    Args:
        layer_sums: language -> h, u and r, [layers, pairs].
        shared: Whether all languages have the same pivot sentences.
        groups: Name of a group -> its languages.
    """
    means = {name: mean_over_layers([each]) for name, each in layer_sums.items()}
    means[MEAN] = mean_over_layers([*layer_sums.values()])
    for group, members in groups.items():
        means[f"{GROUP}{group}"] = mean_over_layers([layer_sums[name] for name in members])
    return {
        "intervals": {
            name: plain_interval(statistics.interval(each, shared)) for name, each in means.items()
        },
        "layer_intervals": {
            name: tuple(plain_interval(ends) for ends in statistics.layer_intervals(each).round(4))
            for name, each in layer_sums.items()
        },
        "hub_limited": tuple(
            name for name, each in means.items() if statistics.hub_limited(each, shared)
        ),
    }


def mean_over_layers(languages: Sequence[PairSums]) -> PairSums:
    """[languages, pairs] from one [layers, pairs] per language."""
    h, u, r = (
        np.stack([getattr(each, name).mean(axis=0) for each in languages])
        for name in ("h", "u", "r")
    )
    return PairSums(h, u, r, len(languages[0].h))


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
    if "contrast" in config.neurons:
        diagnosed["contrast"] = results.contrast
    if "beyond_surface" in config.neurons:
        diagnosed["beyond_surface"] = results.beyond_surface
    if "rivals" in config.neurons:
        diagnosed["rivals"] = results.rivals
    return diagnosed


def _curves(by_language: Mapping[str, Tensor], corpus: ParallelCorpus) -> dict[str, Any]:
    return {language: diagnostics.curve(by_language[language]) for language in corpus.languages}


def _score_curve(scores: PairScores, n: int) -> list[float | None]:
    packed = scoring.pack_hits(scores.hits, scores.nan)
    return [None if mask is None else diagnostics.rounded(mask.bit_count() / n) for mask in packed]


def _layer_sums(scores: PairScores) -> PairSums:
    """h, u and r [layers, pairs]; NaN in layers that hold NaN."""
    blocking = scores.blocking
    h, u, r = (
        each.cpu().numpy().astype(float)
        for each in (scores.hits, blocking.sole_blocks, blocking.second_differences)
    )
    h[scores.nan.cpu().numpy()] = math.nan
    return PairSums(h, u, r)


def _pair_counts(by_language: Mapping[str, PairScores], name: str) -> dict[str, PairCounts]:
    return {
        language: scoring.sum_layers(getattr(scores.blocking, name), scores.nan)
        for language, scores in by_language.items()
    }


def _counts(by_language: Mapping[str, PairScores], name: str) -> dict[str, Counts]:
    return {
        language: scoring.layer_counts(getattr(scores, name), scores.nan)
        for language, scores in by_language.items()
    }


def plain_interval(interval: Iterable[float]) -> tuple[float, float]:
    """An interval of Python's own numbers."""
    # Always the same NaN object, so that equal reports compare equal.
    low, high = (math.nan if math.isnan(bound) else float(bound) for bound in interval)
    return low, high
