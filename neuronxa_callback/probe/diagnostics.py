"""Small arrays beside the scores, and warnings where one of them makes a score doubtful."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from neuronxa_callback.corpus import surface as baselines
from neuronxa_callback.metrics.scoring import PairScores
from neuronxa_callback.probe.batching import Microbatch, TokenizedCorpus

DOUBTFUL_LENGTH = 0.10
"""A length-only baseline above this: the score may be about length."""
DOUBTFUL_SURFACE = 0.60
"""A character baseline above this: the score may be about spelling."""
DOUBTFUL_SINK = 0.50
"""One token makes more than this of a NAV vector."""

Curves = Mapping[str, Sequence[float | None]]


def surface(tokenised: TokenizedCorpus) -> dict[str, dict[str, float]]:
    """Per language the share of pairs that spelling, or length, aligns under the same rule."""
    found = {}
    for language, pairs in tokenised.pairs.items():
        found[language] = {
            "characters": sum(baselines.surface_hits(pairs)) / len(pairs),
            "length": sum(baselines.length_hits(pairs)) / len(pairs),
        }
    return found


def tokens(tokenised: TokenizedCorpus, work: Sequence[Microbatch], run: int) -> dict[str, Any]:
    """Tokens per sentence and per character of both sides, and the share of padding."""
    found: dict[str, Any] = {}
    for language, pairs in tokenised.pairs.items():
        for column, side in ((0, "pivot"), (1, "target")):
            texts = [pair[column] for pair in pairs]
            total = sum(len(tokenised.known[text].ids) for text in texts)
            found.setdefault(language, {})[side] = {
                "per_sentence": plain(total / len(texts)),
                "per_character": plain(total / sum(map(len, texts))),
            }
    padded = sum(each.tokens for each in work)
    return {"languages": found, "padding": plain(1 - run / padded)}


def margins(verdicts: Mapping[str, Mapping[str, PairScores]]) -> dict[str, Any]:
    """Metric -> language -> statistic -> one number per layer."""
    return {
        metric: {
            language: {name: curve(each) for name, each in verdict.margins.items()}
            for language, verdict in by_language.items()
        }
        for metric, by_language in verdicts.items()
    }


def warnings(
    diagnostics: Mapping[str, Any], ties: Sequence[str], dropped: Sequence[str]
) -> list[str]:
    """One sentence for each thing that makes a score doubtful."""
    found = list(ties)
    if dropped:
        found.append(f"{len(dropped)} pairs were dropped; the first: {dropped[0]}")
    for language, scores in diagnostics.get("surface", {}).items():
        if scores["length"] > DOUBTFUL_LENGTH:
            share = scores["length"]
            found.append(f"{language}: the length-only baseline already scores {share:.2f}")
        if scores["characters"] > DOUBTFUL_SURFACE:
            share = scores["characters"]
            found.append(f"{language}: the character baseline already scores {share:.2f}")
    for language, shares in diagnostics.get("sinks", {}).get("largest_token", {}).items():
        high = [share for share in shares if share is not None and share > DOUBTFUL_SINK]
        if high:
            found.append(
                f"{language}: one token makes {max(high):.0%} of the NAV vector in"
                f" {len(high)} of {len(shares)} layers; compare navca without special tokens"
            )
    for metric, languages in diagnostics.get("margins", {}).items():
        for language, named in languages.items():
            tied = [count for count in named["ties"] if count]
            if tied:
                found.append(
                    f"{language}: up to {max(tied):.0f} pairs tie in {metric}, in {len(tied)} of"
                    f" {len(named['ties'])} layers, and ties are not alignment"
                )
    return found


def not_numbers(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """One sentence for each language and metric with layers that hold NaN."""
    return [
        f"{language}: {sum(map(math.isnan, each))} of {len(each)} layers of {metric} hold NaN"
        for metric, by_language in curves.items()
        for language, each in by_language.items()
        if any(map(math.isnan, each))
    ]


def curve(numbers: Tensor) -> list[float | None]:
    """One plain number per layer, four significant digits; None for NaN."""
    return [plain(number) for number in numbers.tolist()]


def plain(number: float) -> float | None:
    """Four significant digits, which is more than any diagnostic is worth; None for NaN."""
    return float(f"{number:.4g}") if math.isfinite(number) else None
