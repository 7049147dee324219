"""The numbers of the neuron statistics that a tracker logs: means over languages and layers.

Standard library only, as the report is. Layers and languages are in the record.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Diagnostics = Mapping[str, Any]
Numbers = Sequence[float | None]
"""One number per layer; ``None`` for NaN."""

FEWEST_PAIRS = 20
"""With fewer pairs there is no score beyond spelling."""
BEYOND = "_beyond_surface"
"""Ends the name of a metric in the keys of the score beyond spelling."""


def neuron_scalars(diagnostics: Diagnostics, prefix: str) -> dict[str, float]:
    """The scalars of the neuron statistics; NaN if a layer held NaN.

    After the prefix, the keys are: ``overlap/`` with ``mean``, ``chance`` and ``ceiling``;
    ``sharing/any/`` and ``sharing/last/`` with ``all`` (neurons that fire in all languages),
    ``null`` and ``excess`` (all - null); ``language_neurons/`` with the shares of ``specific``,
    ``related``, ``agnostic`` and ``silent`` neurons, and ``stability``;
    ``<metric>_beyond_surface/`` with ``mean`` and each language that has enough pairs; and
    ``<metric>_contrast/mean``.

    Args:
        diagnostics: Those of a report; statistics that are not there have no keys.
        prefix: The beginning of the keys, such as ``neuronxa``.

    Example:
        >>> found = {"with_pivot": {"deu_Latn": [0.5, 0.75]}, "ceiling": {"deu_Latn": [1.0, 1.0]}}
        >>> neuron_scalars({"overlap": {**found, "chance": [0.25, 0.25]}}, "n")
        {'n/overlap/mean': 0.625, 'n/overlap/chance': 0.25, 'n/overlap/ceiling': 1.0}
    """
    scalars: dict[str, float] = {}
    for name, read in READERS.items():
        if name in diagnostics:
            scalars |= read(diagnostics[name])
    return {f"{prefix}/{key}": number for key, number in scalars.items()}


def _overlap(found: Diagnostics) -> dict[str, float]:
    return {
        "overlap/mean": _mean(_flat(found["with_pivot"].values())),
        "overlap/chance": _mean(found["chance"]),
        "overlap/ceiling": _mean(_flat(found["ceiling"].values())),
    }


def _sharing(found: Diagnostics) -> dict[str, float]:
    scalars: dict[str, float] = {}
    for rule, parts in found.items():
        share, null = (_mean(parts[name]["all"]) for name in ("shares", "null"))
        key = f"sharing/{rule}"
        scalars |= {f"{key}/all": share, f"{key}/null": null, f"{key}/excess": share - null}
    return scalars


def _language_neurons(found: Diagnostics | None) -> dict[str, float]:
    """NaN for all if any layer held NaN: the bar is one for all layers."""
    kinds = ("specific", "related", "agnostic", "silent")
    if found is None:
        return {f"language_neurons/{name}": math.nan for name in (*kinds, "stability")}
    counts = {kind: sum(found["neurons"][kind]) for kind in kinds}
    neurons = sum(counts.values())
    stability = found["stability"]
    return {
        **{f"language_neurons/{kind}": count / neurons for kind, count in counts.items()},
        "language_neurons/stability": math.nan if stability is None else stability,
    }


def _beyond_surface(found: Diagnostics) -> dict[str, float]:
    scalars: dict[str, float] = {}
    for metric, languages in found.items():
        known = {name: each for name, each in languages.items() if each["pairs"] >= FEWEST_PAIRS}
        scores = [each["score"] for each in known.values()]
        if known:
            scalars[f"{metric}{BEYOND}/mean"] = _mean(scores)
        for name, score in zip(known, scores, strict=True):
            scalars[f"{metric}{BEYOND}/{name}"] = math.nan if score is None else score
    return scalars


def _contrast(found: Diagnostics) -> dict[str, float]:
    return {
        f"{metric}_contrast/mean": _mean(_flat(each.values())) for metric, each in found.items()
    }


READERS = {
    "overlap": _overlap,
    "sharing": _sharing,
    "language_neurons": _language_neurons,
    "beyond_surface": _beyond_surface,
    "contrast": _contrast,
}


def _flat(rows: Iterable[Numbers]) -> list[float | None]:
    return [number for row in rows for number in row]


def _mean(numbers: Numbers) -> float:
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return math.nan
    return math.fsum(known) / len(known)
