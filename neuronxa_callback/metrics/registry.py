"""What is computed from a model's states: alignment metrics and diagnostics, as values in tables.

An alignment metric gives a verdict per pair, language and layer. A diagnostic gives small arrays
beside it. Adding one changes no other number by one bit: each has sums of its own.

Axes: ``batch`` sentences of a microbatch, ``tokens`` padded, ``width`` neurons of one part (one
FFN of one layer), ``pairs`` pivot sentences. A layer's dot products and squared lengths are sums
over its parts, so that parts are never concatenated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from neuronxa_callback.metrics import alignment


@dataclass(frozen=True)
class Alignment:
    """One alignment metric: where it reads, what it makes of a state, how it weighs tokens."""

    source: str
    """``"nas"``, ``"nav"`` (sites as configured), or ``"hidden"`` states."""
    weights: str
    """A name in ``WEIGHTS``."""
    version: int = 1
    """Rises whenever its numbers change."""
    companion: bool = False
    """A companion is a diagnostic's number, not a metric that can be asked for by name."""


ALIGNMENT: Mapping[str, Alignment] = {
    "nasca": Alignment("nas", "position"),
    "navca": Alignment("nav", "position"),
    "mexa": Alignment("hidden", "position"),
    "mexa_last": Alignment("hidden", "last"),
}
"""NASCA and NAVCA: arXiv:2507.14900. MEXA, position-weighted and last token: arXiv:2410.05873."""

COMPANIONS: Mapping[str, Alignment] = {
    "navca_without_special_tokens": Alignment("nav", "no_special", companion=True),
}
"""One token with a huge activation (BOS, an attention sink) can be most of a NAV vector."""

DIAGNOSTICS: Mapping[str, str] = {
    "surface": "score of character 3-grams and of lengths alone, under the same rule",
    "margins": "c_ii - best rival (quantiles), reciprocal rank, cosine of non-pairs, ties",
    "sinks": "share of the largest token in NAV; NAVCA without special tokens",
    "activity": "fraction of active neurons per layer",
    "tokens": "tokens per sentence and per character, padding",
    "drift": "how far the pivot's own states have turned since the first probe (in ``run``)",
}

STATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nas": alignment.active,
    "nav": alignment.magnitude,
    "hidden": lambda states: states.float(),
}


def _last(counts: Tensor, special: Tensor) -> Tensor:
    places = alignment.positions(counts)
    return (places == places.amax(dim=1, keepdim=True)).float()


WEIGHTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "position": lambda counts, special: alignment.positions(counts),
    "no_special": lambda counts, special: alignment.positions(counts & ~special),
    "last": _last,
}
"""Token weights [batch, tokens] from which tokens count and which are special, each a bool tensor
[batch, tokens]; a common factor cancels in the cosine."""


@dataclass(frozen=True)
class Read:
    """All that one reading of a site's states is used for: one pass, several weightings."""

    source: str
    names: tuple[str, ...]
    """Metrics and companions, in the order of ``weights``."""
    weights: tuple[str, ...]
    shares: bool = False
    """Whether the share of the largest token is taken."""
    activity: bool = False
    """Whether the fraction of active neurons is taken."""


def reads_of(metrics: Sequence[str], diagnostics: Sequence[str]) -> tuple[Read, ...]:
    """What must be read, once per source, for some metrics and diagnostics."""
    found = []
    for source in STATES:
        names = [name for name in metrics if ALIGNMENT[name].source == source]
        if names and "sinks" in diagnostics:
            names += [name for name, each in COMPANIONS.items() if each.source == source]
        if names:
            weights = tuple({**ALIGNMENT, **COMPANIONS}[name].weights for name in names)
            shares = source == "nav" and "sinks" in diagnostics
            activity = source == "nas" and "activity" in diagnostics
            found.append(Read(source, tuple(names), weights, shares, activity))
    return tuple(found)
