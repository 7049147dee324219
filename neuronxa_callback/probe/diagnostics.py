"""Small arrays next to the scores, and warnings if one of them makes a score doubtful."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from neuronxa_callback.corpus import surface as baselines
from neuronxa_callback.metrics.scoring import PairScores
from neuronxa_callback.probe.batching import Microbatch, PivotGroup, TokenizedCorpus
from neuronxa_callback.scores import MetricScores

DOUBTFUL_LENGTH = 0.10
"""A length-only baseline above this: the score may be about length."""
DOUBTFUL_SURFACE = 0.60
"""A character baseline above this: the score may be about spelling."""
DOUBTFUL_SINK = 0.50
"""A largest token with more than this share of a NAV vector."""


def surface(corpus: TokenizedCorpus) -> dict[str, dict[str, float]]:
    """The scores of character 3-grams and of lengths alone, per language, under the same rule."""
    return {
        language: {
            "characters": sum(baselines.surface_hits(pairs)) / len(pairs),
            "length": sum(baselines.length_hits(pairs)) / len(pairs),
        }
        for language, pairs in corpus.pairs.items()
    }


def tokens(
    corpus: TokenizedCorpus, groups: Sequence[PivotGroup], work: Sequence[Microbatch]
) -> dict[str, Any]:
    """Tokens per sentence and per character of both sides, and the share of padding."""
    languages: dict[str, Any] = {}
    for language, pairs in corpus.pairs.items():
        for column, side in ((0, "pivot"), (1, "target")):
            texts = [pair[column] for pair in pairs]
            total = sum(len(pair[column].ids) for pair in corpus.pair_tokens(language))
            languages.setdefault(language, {})[side] = {
                "per_sentence": rounded(total / len(texts)),
                "per_character": rounded(total / sum(map(len, texts))),
            }
    sides = [side for group in groups for side in (group.pivot, *group.targets)]
    real = sum(len(sentence.ids) for side in sides for sentence in side.sentences)
    padded = sum(microbatch.tokens for microbatch in work)
    return {"languages": languages, "padding": rounded(1 - real / padded)}


def margins(scores: Mapping[str, Mapping[str, PairScores]]) -> dict[str, Any]:
    """Metric -> language -> statistic -> one number per layer."""
    return {
        metric: {
            language: {name: curve(values) for name, values in pair_scores.margins.items()}
            for language, pair_scores in by_language.items()
        }
        for metric, by_language in scores.items()
    }


def warnings(
    diagnosed: Mapping[str, Any],
    metrics: Mapping[str, MetricScores],
    corpus: TokenizedCorpus,
) -> tuple[str, ...]:
    """One sentence per reason to doubt a score.

    Args:
        diagnosed: The diagnostics of a report.
        metrics: Its scores.
        corpus: Its sentences.
    """
    messages = list(corpus.same_tokens())
    if corpus.dropped:
        messages.append(f"{len(corpus.dropped)} pairs were dropped; the first: {corpus.dropped[0]}")
    messages += _surface_warnings(diagnosed.get("surface", {}))
    messages += _sink_warnings(diagnosed.get("sinks", {}).get("largest_token", {}))
    messages += _tie_warnings(diagnosed.get("margins", {}))
    for metric, scores in metrics.items():
        for language, layers in scores.hits.items():
            nan = layers.count(None)
            if nan:
                messages.append(f"{language}: {nan} of {len(layers)} layers of {metric} hold NaN")
        messages += hub_warnings(metric, scores)
    return tuple(messages)


def _surface_warnings(by_language: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for language, scores in by_language.items():
        for name, limit, text in (
            ("length", DOUBTFUL_LENGTH, "length-only"),
            ("characters", DOUBTFUL_SURFACE, "character"),
        ):
            if scores[name] > limit:
                yield f"{language}: the {text} baseline already scores {scores[name]:.2f}"


def _sink_warnings(by_language: Mapping[str, Sequence[float | None]]) -> Iterator[str]:
    for language, shares in by_language.items():
        high = [share for share in shares if share is not None and share > DOUBTFUL_SINK]
        if high:
            yield (
                f"{language}: one token makes {max(high):.0%} of the NAV vector in"
                f" {len(high)} of {len(shares)} layers; compare navca without special tokens"
            )


def hub_warnings(metric: str, scores: MetricScores) -> Iterator[str]:
    """One sentence per language with a hub: which sentence blocks how many pairs in which layer."""
    for language, hubs in scores.hubs.items():
        known = [
            (hub, layer) for hub, layer in zip(hubs, scores.layers, strict=True) if hub is not None
        ]
        if not known:
            continue
        hub, layer = max(known, key=lambda one: (one[0].sole, one[0].blocked))
        limited = "; it leaves the mean no interval" if language in scores.hub_limited else ""
        yield (
            f"{language}: the {hub.side} sentence of pair {hub.pair + 1} blocks {hub.blocked} other"
            f" pairs in layer {layer} of {metric}, {hub.sole} of them alone ({len(known)} of"
            f" {len(hubs)} layers have such a hub){limited}"
        )


def _tie_warnings(margins: Mapping[str, Any]) -> Iterator[str]:
    for metric, by_language in margins.items():
        for language, statistics in by_language.items():
            ties = statistics["ties"]
            tied = [count for count in ties if count]
            if tied:
                yield (
                    f"{language}: up to {max(tied):.0f} pairs tie in {metric}, in {len(tied)} of"
                    f" {len(ties)} layers, and ties are not alignment"
                )


def curve(values: Tensor) -> list[float | None]:
    """Values [layers] as plain numbers of four significant digits; None for NaN."""
    return [rounded(value) for value in values.tolist()]


def rounded(value: float) -> float | None:
    """Four significant digits, more than a diagnostic's precision; None if not finite.

    >>> rounded(0.123456), rounded(float("nan"))
    (0.1235, None)
    """
    return float(f"{value:.4g}") if math.isfinite(value) else None
