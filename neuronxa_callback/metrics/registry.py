"""The metrics and diagnostics as tables: what each reads and how it weighs tokens.

An alignment metric gives a result per pair, language and layer; a diagnostic gives small arrays
next to it. Each has sums of its own, so adding one changes no other number by one bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.own import OwnMetric


@dataclass(frozen=True)
class Alignment:
    """One alignment metric: the states that it reads and the weights of their tokens."""

    source: str
    """``"nas"``, ``"nav"`` (sites as configured), or ``"hidden"`` states."""
    weights: str
    """A name in ``WEIGHTS``."""
    version: int = 1
    """Rises whenever its numbers change."""


ALIGNMENT: Mapping[str, Alignment] = {
    "nasca": Alignment("nas", "position"),
    "navca": Alignment("nav", "position"),
    "mexa": Alignment("hidden", "position"),
    "mexa_last": Alignment("hidden", "last"),
}
"""NASCA and NAVCA: arXiv:2507.14900. MEXA, position-weighted and last token: arXiv:2410.05873."""

COMPANIONS: Mapping[str, Alignment] = {
    "navca_without_special_tokens": Alignment("nav", "no_special"),
}
"""Metrics of diagnostics, which cannot be selected. NAVCA without special tokens: one token with a
huge activation (BOS, an attention sink) can dominate a NAV vector."""

DIAGNOSTICS: Mapping[str, str] = {
    "surface": "score of character 3-grams and of lengths alone, under the same rule",
    "margins": "c_ii - best rival (quantiles), reciprocal rank, cosine of non-pairs, ties",
    "sinks": "share of the largest token in NAV; NAVCA without special tokens",
    "activity": "fraction of active neurons per layer",
    "tokens": "tokens per sentence and per character, padding",
    "drift": "how far the pivot's own states have turned since the first probe (in ``run``)",
}
OPTIONAL_DIAGNOSTICS: Mapping[str, str] = {
    "loss": "bits per sentence and per character of both sides, by forwards of its own",
}
"""Diagnostics that are off unless named, since they cost forwards of their own."""

NEURON_STATISTICS: Mapping[str, str] = {
    "overlap": "the most active neurons of a layer that a language shares with the pivot",
    "sharing": "neurons that fire in all, some, one or none of the languages for one sentence",
    "language_neurons": "neurons that fire often in one, some, all or none of the languages",
    "beyond_surface": "score of the pairs that character 3-grams do not find",
    "contrast": "cosine of a pair minus the mean of its row and column",
    "rivals": "the sentence that wins most often where a pair is not aligned, by its number",
}
"""Statistics next to the diagnostics, off by default: see ``docs/neurons.md``."""
COUNTED = ("overlap", "sharing", "language_neurons")
"""Those that count at which tokens each neuron fires, as all statistics of one's own do."""

STATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nas": alignment.active,
    "nav": alignment.magnitude,
    "hidden": Tensor.float,
}
"""Source -> the value of each state, fp32."""


def _all_tokens(mask: Tensor, special: Tensor) -> Tensor:
    return alignment.positions(mask)


def _no_special_tokens(mask: Tensor, special: Tensor) -> Tensor:
    return alignment.positions(mask & ~special)


def _last_token(mask: Tensor, special: Tensor) -> Tensor:
    positions = alignment.positions(mask)
    return (positions == positions.amax(dim=1, keepdim=True)).float()


def _count_real_tokens(mask: Tensor, special: Tensor) -> Tensor:
    return (mask & ~special).float()


def _last_real_token(mask: Tensor, special: Tensor) -> Tensor:
    return _last_token(mask & ~special, special) * _count_real_tokens(mask, special)


WEIGHTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "position": _all_tokens,
    "no_special": _no_special_tokens,
    "last": _last_token,
    "count": _count_real_tokens,
    "last_real": _last_real_token,
}
"""Token weights [batch, tokens] from the attention mask and the special tokens, both bool [batch,
tokens]. A common factor cancels in the cosine. ``"count"`` and ``"last_real"`` leave out special
tokens and count firings."""
FIRINGS = ("count", "last_real")
"""The weights of firing counts, after those of the metrics."""


@dataclass(frozen=True)
class Read:
    """Everything that is computed in one pass over a source's states."""

    source: str
    """``"nas"``, ``"nav"`` or ``"hidden"``."""
    names: tuple[str, ...]
    """Metrics and companions, in the order of ``weights``."""
    weights: tuple[str, ...]
    """One name in ``WEIGHTS`` per metric; then ``FIRINGS``, if they are counted."""
    shares: bool = False
    """Whether the share of the largest token is computed."""
    activity: bool = False
    """Whether the fraction of active neurons is computed."""
    own: OwnMetric | None = None
    """A metric of one's own; it has a read of its own."""

    @property
    def firings(self) -> bool:
        """Whether it is counted how often each neuron fires."""
        return self.weights[len(self.names) :] == FIRINGS


def source_of(metric: str) -> str:
    """The source of a metric; a metric of one's own has its own.

    >>> source_of("navca"), source_of("mine")
    ('nav', 'own mine')
    """
    return ALIGNMENT[metric].source if metric in ALIGNMENT else f"own {metric}"


def is_counted(statistic: str) -> bool:
    """Whether a neuron statistic is computed from firing counts."""
    return statistic in COUNTED or statistic not in NEURON_STATISTICS


def reads_of(
    metrics: Sequence[str], diagnostics: Sequence[str], neurons: Sequence[str] = ()
) -> tuple[Read, ...]:
    """The reads, at most one per source, that some metrics, diagnostics and statistics need.

    >>> [(read.source, read.names) for read in reads_of(("mexa", "nasca"), ())]
    [('nas', ('nasca',)), ('hidden', ('mexa',))]
    """
    reads = []
    for source in STATES:
        names = [name for name in metrics if source_of(name) == source]
        if names and "sinks" in diagnostics:
            names += [name for name, metric in COMPANIONS.items() if metric.source == source]
        firings = FIRINGS if source == "nas" and any(map(is_counted, neurons)) else ()
        if names or firings:
            weights = tuple({**ALIGNMENT, **COMPANIONS}[name].weights for name in names) + firings
            shares = source == "nav" and "sinks" in diagnostics
            activity = source == "nas" and "activity" in diagnostics
            reads.append(Read(source, tuple(names), weights, shares, activity))
    return tuple(reads)
