"""Small arrays next to the scores, and warnings if one of them makes a score doubtful."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neuronxa_callback.corpus import surface as baselines
from neuronxa_callback.metrics.registry import ALIGNMENT
from neuronxa_callback.metrics.scoring import PairScores
from neuronxa_callback.probe.batching import Microbatch, PivotGroup, Sentence, TokenizedCorpus
from neuronxa_callback.scores import MetricScores

DOUBTFUL_LENGTH = 0.10
"""A length-only baseline above this: the score may be about length."""
DOUBTFUL_SURFACE = 0.60
"""A character baseline above this: the score may be about spelling."""
DOUBTFUL_SINK = 0.50
"""A largest token with more than this share of a NAV vector."""
MANY = 3
"""From this number of languages on, a kind of warning is one line that names this many."""


def sentence_diagnostics(
    names: Sequence[str],
    corpus: TokenizedCorpus,
    groups: Sequence[PivotGroup],
    work: Sequence[Microbatch],
) -> dict[str, Any]:
    """The requested diagnostics of the sentences alone."""
    diagnosed: dict[str, Any] = {}
    if "surface" in names:
        diagnosed["surface"] = surface(corpus)
    if "tokens" in names:
        diagnosed["tokens"] = tokens(corpus, groups, work)
    return diagnosed


def surface(corpus: TokenizedCorpus) -> dict[str, dict[str, float]]:
    """The scores of character 3-grams and of lengths alone, per language, under the same rule."""
    return {
        language: {
            "characters": sum(corpus.surface_hits[language]) / len(pairs),
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
    """One sentence per reason to doubt a score; one for many languages with the same reason.

    Args:
        diagnosed: The diagnostics of a report.
        metrics: Its scores.
        corpus: Its sentences.
    """
    doubts = [*_same_token_doubts(corpus), *_surface_doubts(diagnosed.get("surface", {}))]
    doubts += _sink_doubts(diagnosed.get("sinks", {}).get("largest_token", {}))
    for metric, by_language in diagnosed.get("margins", {}).items():
        doubts.append(_tie_doubts(metric, by_language, corpus))
    for metric, scores in metrics.items():
        doubts += [_nan_doubts(metric, scores), hub_doubts(metric, scores)]
    messages = [line for doubted in doubts for line in describe(doubted)]
    if corpus.dropped:
        messages.append(f"{len(corpus.dropped)} pairs were dropped; the first: {corpus.dropped[0]}")
    return tuple(messages)


@dataclass(frozen=True)
class Doubt:
    """A reason to doubt the scores of one language."""

    language: str
    severity: float
    """Compares languages that have the same kind of doubt."""
    text: str


def describe(doubts: Iterable[Doubt]) -> Iterator[str]:
    """The same kind of doubt about several languages: one sentence from ``MANY`` languages on.

    >>> list(describe([Doubt(code, 1, "a pair ties") for code in ("deu", "fra", "hin", "swh")]))
    ['4 languages (deu, fra, hin, ...); the worst is deu: a pair ties']
    """
    known = [*doubts]
    if len(known) < MANY:
        yield from (f"{doubt.language}: {doubt.text}" for doubt in known)
        return
    worst = max(known, key=lambda doubt: doubt.severity)
    names = ", ".join(doubt.language for doubt in known[:MANY]) + ", ..." * (len(known) > MANY)
    yield f"{len(known)} languages ({names}); the worst is {worst.language}: {worst.text}"


def _same_token_doubts(corpus: TokenizedCorpus) -> Iterator[list[Doubt]]:
    for column, side in enumerate(("pivot sentences", "sentences")):
        doubts = []
        for language in corpus.pairs:
            ids = [pair[column].ids for pair in corpus.pair_tokens(language)]
            same = len(ids) - len(dict.fromkeys(ids))
            text = (
                f"{same} of {len(ids)} {side} have the same tokens as another and can never be"
                " aligned (unknown words?)"
            )
            doubts += [Doubt(language, same, text)] if same else []
        yield doubts


def _surface_doubts(by_language: Mapping[str, Mapping[str, float]]) -> Iterator[list[Doubt]]:
    for name, limit, text in (
        ("length", DOUBTFUL_LENGTH, "length-only"),
        ("characters", DOUBTFUL_SURFACE, "character"),
    ):
        yield [
            Doubt(
                language,
                scores[name],
                f"the {text} baseline already scores {scores[name]:.2f}",
            )
            for language, scores in by_language.items()
            if scores[name] > limit
        ]


def _sink_doubts(by_language: Mapping[str, Sequence[float | None]]) -> Iterator[list[Doubt]]:
    doubts = []
    for language, shares in by_language.items():
        high = [share for share in shares if share is not None and share > DOUBTFUL_SINK]
        if high:
            text = (
                f"one token makes {max(high):.0%} of the NAV vector in {len(high)} of"
                f" {len(shares)} layers; compare navca without special tokens"
            )
            doubts.append(Doubt(language, max(high), text))
    yield doubts


def _nan_doubts(metric: str, scores: MetricScores) -> list[Doubt]:
    counts = {language: layers.count(None) for language, layers in scores.hits.items()}
    return [
        Doubt(language, nan, f"{nan} of {len(scores.layers)} layers of {metric} hold NaN")
        for language, nan in counts.items()
        if nan
    ]


def hub_doubts(metric: str, scores: MetricScores) -> list[Doubt]:
    """One doubt per language with a hub: which sentence blocks how many pairs in which layer."""
    doubts = []
    for language, hubs in scores.hubs.items():
        strongest = scores.strongest_hub(language)
        if strongest is None:
            continue
        hub, layer, count = strongest
        limited = "; it leaves the mean no interval" if language in scores.hub_limited else ""
        text = (
            f"the {hub.side} sentence of pair {hub.pair + 1} blocks {hub.blocked} other"
            f" pairs in layer {layer} of {metric}, {hub.sole} of them alone ({count} of"
            f" {len(hubs)} layers have such a hub){limited}"
        )
        doubts.append(Doubt(language, hub.sole, text))
    return doubts


def _tie_doubts(
    metric: str, by_language: Mapping[str, Any], corpus: TokenizedCorpus
) -> list[Doubt]:
    """Doubts about ties, other than those of equal inputs."""
    doubts = []
    for language, statistics in by_language.items():
        ties = statistics["ties"]
        expected = _ties_of_equal_inputs(metric, len(ties), corpus.pair_tokens(language))
        tied = [count for count, least in zip(ties, expected, strict=True) if (count or 0) > least]
        if tied:
            text = (
                f"up to {max(tied):.0f} pairs tie in {metric}, in {len(tied)} of {len(ties)}"
                " layers, and ties are not alignment"
            )
            doubts.append(Doubt(language, max(tied), text))
    return doubts


def _ties_of_equal_inputs(
    metric: str, layers: int, pairs: Sequence[tuple[Sentence, Sentence]]
) -> list[int]:
    """The number of pairs per layer that tie by definition: a vector sees the same tokens twice.

    The last token's state in layer 0 is its embedding, whatever the sentence.
    """
    ids = [[sentence.ids for sentence in pair] for pair in pairs]
    equal = _pairs_with_equal(ids)
    kind = ALIGNMENT.get(metric)
    if kind is None or (kind.source, kind.weights) != ("hidden", "last"):
        return [equal] * layers
    return [_pairs_with_equal([[one[-1:] for one in pair] for pair in ids])] + [equal] * (
        layers - 1
    )


def _pairs_with_equal(pairs: Sequence[Sequence[object]]) -> int:
    """The number of pairs with a side that another pair has too."""
    sides = [Counter(side) for side in zip(*pairs, strict=True)]
    return sum(
        any(count[part] > 1 for count, part in zip(sides, pair, strict=True)) for pair in pairs
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
