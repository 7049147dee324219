"""Metrics, neuron statistics and diagnostics of one's own; see ``docs/extend.md``.

A measure is registered by a function of this module, or by an entry point of an installed package
in one of ``GROUPS``. It is measured if its name stands in ``metrics``, ``neurons`` or
``diagnostics``. One that fails is named in the report and costs neither the run nor another score.
"""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.metrics.neurons.counts import FiringCounts
from neuronxa_callback.metrics.own import Compared, Metric, position_weights
from neuronxa_callback.metrics.registry import (
    ALIGNMENT,
    COMPANIONS,
    DIAGNOSTICS,
    NEURON_STATISTICS,
    OPTIONAL_DIAGNOSTICS,
)
from neuronxa_callback.report_schema import RESERVED

__all__ = [
    "Compared",
    "FiringCounts",
    "Metric",
    "position_weights",
    "register_diagnostic",
    "register_metric",
    "register_neuron_statistic",
]

NeuronStatistic = Callable[[Sequence[FiringCounts | None], Sequence[str]], Any]
"""(the counts of each layer, None for one with NaN; the languages in the order of the counts, the
pivot first) -> numbers, texts, lists, dictionaries, tensors or arrays."""
Diagnostic = Callable[[Compared], Any]
"""One metric of one language -> numbers, texts, lists, dictionaries, tensors or arrays."""

GROUPS = {
    "metric": "neuronxa_callback.metrics",
    "neuron statistic": "neuronxa_callback.neuron_statistics",
    "diagnostic": "neuronxa_callback.diagnostics",
}
"""Kind of measure -> its group of entry points."""
BUILT_IN = {
    "metric": tuple(ALIGNMENT),
    "neuron statistic": tuple(NEURON_STATISTICS),
    "diagnostic": (*DIAGNOSTICS, *OPTIONAL_DIAGNOSTICS),
}
TAKEN = (*RESERVED, *COMPANIONS, *(name for names in BUILT_IN.values() for name in names))
_registered: dict[str, dict[str, Any]] = {kind: {} for kind in GROUPS}
"""Kind -> name -> what was registered or loaded."""


def register_metric(name: str, metric: Metric) -> None:
    """Register a metric, to be named in ``ProbeConfig(metrics=...)``; a second call replaces it.

    Args:
        name: Lower-case letters, digits and ``_``; no name of this package.
        metric: How sentences become vectors, and how similar two vectors are.

    Raises:
        ConfigError: If the name or the metric cannot be used.

    Example::

        register_metric("products", Metric(site="product", value=torch.abs))
    """
    _register("metric", name, metric)


def register_neuron_statistic(name: str, statistic: NeuronStatistic) -> None:
    """Register a statistic of firing counts, to be named in ``ProbeConfig(neurons=...)``.

    Args:
        name: As for ``register_metric``.
        statistic: A function of the ``FiringCounts`` of all layers and of the languages.

    Raises:
        ConfigError: If the name or the function cannot be used.
    """
    _register("neuron statistic", name, statistic)


def register_diagnostic(name: str, diagnostic: Diagnostic) -> None:
    """Register a diagnostic, to be named in ``ProbeConfig(diagnostics=...)``.

    Args:
        name: As for ``register_metric``.
        diagnostic: A function of one metric of one language: a ``Compared``.

    Raises:
        ConfigError: If the name or the function cannot be used.
    """
    _register("diagnostic", name, diagnostic)


def known_names(kind: str) -> tuple[str, ...]:
    """The names of a kind: built in, registered, and of entry points, which are not loaded."""
    offered = sorted(entry.name for entry in entry_points(group=GROUPS[kind]))
    return tuple(dict.fromkeys((*BUILT_IN[kind], *_registered[kind], *offered)))


def require_known(kind: str, names: Sequence[str]) -> None:
    """Load what is named.

    Raises:
        ConfigError: If a name is unknown, or its entry point cannot be loaded.
    """
    for name in own_names(kind, names):
        known = known_names(kind)
        if name not in known:
            raise ConfigError(unknown(kind, name, known))
        find(kind, name)


def find(kind: str, name: str) -> Any:
    """What is registered under a name, or offered by an entry point, which is then loaded.

    Raises:
        ConfigError: If there is none, or the entry point cannot be loaded.
    """
    if name not in _registered[kind]:
        _register(kind, name, _load(kind, name))
    return _registered[kind][name]


def own_names(kind: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those of some names of a kind that are not built in, in their order."""
    return tuple(name for name in names if name not in BUILT_IN[kind])


def version_of(metric: str) -> int:
    """The version of a metric, built in or of one's own."""
    if metric in ALIGNMENT:
        return ALIGNMENT[metric].version
    version: int = find("metric", metric).version
    return version


def _register(kind: str, name: str, measure: Any) -> None:
    others = (each for other, known in _registered.items() if other != kind for each in known)
    is_name = isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name)
    if not is_name or name in (*TAKEN, *others):
        raise ConfigError(
            f"the name of a {kind} must be at most 60 lower-case letters, digits and '_', and not"
            f" be in use, got {name!r}"
        )
    expected = "a Metric" if kind == "metric" else "a function"
    is_measure = isinstance(measure, Metric) if kind == "metric" else callable(measure)
    if not is_measure or isinstance(measure, type):
        raise ConfigError(f"the {kind} {name!r} must be {expected}, got {measure!r}")
    _registered[kind][name] = measure


def _load(kind: str, name: str) -> Any:
    found: dict[str, EntryPoint] = {
        entry.value: entry for entry in entry_points(group=GROUPS[kind]) if entry.name == name
    }
    if len(found) != 1:
        which = f"{len(found)} installed packages offer it" if found else "it is not registered"
        raise ConfigError(f"the {kind} {name!r} must be known once, but {which}")
    (entry,) = found.values()
    try:
        return entry.load()
    except Exception as cause:
        raise ConfigError(
            f"the {kind} {name!r} of the entry point {entry.value!r} cannot be loaded:"
            f" {type(cause).__name__}: {cause}"
        ) from cause
