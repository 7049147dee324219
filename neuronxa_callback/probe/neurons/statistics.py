"""From firing counts to the entries of a report: small arrays, None for a layer with NaN."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback import extend
from neuronxa_callback.metrics.neurons import language_neurons as kinds
from neuronxa_callback.metrics.neurons.counts import FiringCounts
from neuronxa_callback.metrics.neurons.language_neurons import LanguageNeuron
from neuronxa_callback.metrics.neurons.overlap import Overlap, overlap
from neuronxa_callback.metrics.neurons.sharing import KINDS, Sharing, sharing
from neuronxa_callback.metrics.own import Faults, owner_of, plain_result
from neuronxa_callback.metrics.registry import COUNTED
from neuronxa_callback.probe.batching import PivotGroup
from neuronxa_callback.probe.diagnostics import rounded
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.neurons.counter import FiringCounter, require_countable

KIND = "neuron statistic"
Layers = Sequence[FiringCounts | None]
"""The counts of every layer; None for a layer with NaN."""


class NeuronStatistics:
    """The neuron statistics of the probes of a run.

    Args:
        names: Names in ``NEURON_STATISTICS``, of which those that are not counted are ignored, and
            names of registered statistics.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(name for name in COUNTED if name in names)
        self.own = extend.own_names(KIND, names)
        """The statistics of one's own."""
        self.bar: float | None = None
        """Above this firing rate a neuron fires often; None until the first probe of a run."""
        self._found_bar: float | None = None
        self.selected: tuple[LanguageNeuron, ...] = ()
        """LAPE's neurons in the latest probe; ``layer`` counts the layers from 0."""

    def counter(
        self,
        groups: Sequence[PivotGroup],
        widths: Sequence[int],
        world: World,
        device: torch.device,
    ) -> FiringCounter | None:
        """An empty counter; None if nothing is counted.

        Raises:
            ConfigError: If the corpus or the model cannot be counted.
        """
        if not (self.names or self.own):
            return None
        return FiringCounter(require_countable(groups, world), widths, device)

    def entries(
        self, counter: FiringCounter | None, layer_of_part: Sequence[int]
    ) -> dict[str, Any]:
        """Name -> plain numbers, for the diagnostics of a report.

        Args:
            counter: The counts of all ranks; None if nothing was counted.
            layer_of_part: Index of each part's layer.
        """
        if counter is None:
            return {}
        layers = _layers_of(counter, layer_of_part) if self.names else ()
        found: dict[str, Any] = {}
        if "overlap" in self.names:
            found["overlap"] = overlap_entry(layers, counter.languages)
        if "sharing" in self.names:
            found["sharing"] = sharing_entry(layers)
        if "language_neurons" in self.names:
            found["language_neurons"] = self._language_neurons(layers, counter.languages)
        return found

    def own_entries(
        self, counter: FiringCounter | None, layer_of_part: Sequence[int], faults: Faults
    ) -> dict[str, Any]:
        """Name -> plain values of each statistic of one's own; None for one that fails.

        Args:
            counter: As for ``entries``; each statistic gets copies of its counts.
            layer_of_part: As for ``entries``.
            faults: Where their errors go.
        """
        found: dict[str, Any] = {}
        if counter is None:
            return found
        for name in self.own:
            layers, function = _layers_of(counter, layer_of_part), extend.find(KIND, name)
            result = partial(plain_result, function, layers, counter.languages)
            found[name] = faults.run(owner_of(KIND, name), result)
        return found

    def _language_neurons(self, layers: Layers, languages: Sequence[str]) -> dict[str, Any] | None:
        """None, and no bar, if any layer holds NaN: the bar is one for all layers."""
        known = [layer for layer in layers if layer is not None]
        self._found_bar, self.selected = None, ()
        if len(known) < len(layers):
            return None
        rates = [layer.rates() for layer in known]
        bar = kinds.firing_bar(rates) if self.bar is None else self.bar
        self._found_bar, self.selected = bar, kinds.select(rates, bar)
        return language_neurons_entry(known, rates, bar, languages)

    def keep(self) -> None:
        """Keeps the bar of a probe that no rank failed in."""
        self.bar = self._found_bar if self.bar is None else self.bar


def _layers_of(counter: FiringCounter, layer_of_part: Sequence[int]) -> Layers:
    """Copies of the counts of every layer."""
    layers = [
        counter.layer([p for p, own in enumerate(layer_of_part) if own == layer])
        for layer in dict.fromkeys(layer_of_part)
    ]
    for layer in layers:
        if layer is not None:
            # The other counts were copied when the parts of a layer were joined.
            layer.tokens, layer.token_squares = layer.tokens.clone(), layer.token_squares.clone()
    return layers


def overlap_entry(layers: Layers, languages: Sequence[str]) -> dict[str, Any]:
    """Overlap with the pivot and its ceiling, per language and layer; chance per layer."""
    found = [
        None if layer is None else overlap(layer.rates(), layer.half_rates()) for layer in layers
    ]

    return {
        "with_pivot": _by_language(found, "with_pivot", languages, first=1),
        "ceiling": _by_language(found, "ceiling", languages),
        "tied": _by_language(found, "tied", languages),
        "chance": [None if one is None else rounded(one.chance) for one in found],
        "selected": [None if one is None else one.selected for one in found],
    }


def sharing_entry(layers: Layers) -> dict[str, Any]:
    """Rule (``"any"`` token, ``"last"`` token) -> share, null and standard error of each kind."""
    rules = {
        rule: [
            None
            if layer is None
            else sharing(getattr(layer, f"languages_{rule}"), getattr(layer, f"sentences_{rule}"))
            for layer in layers
        ]
        for rule in ("any", "last")
    }
    return {
        rule: {name: _by_kind(found, name) for name in ("shares", "null", "errors")}
        for rule, found in rules.items()
    }


def language_neurons_entry(
    layers: Sequence[FiringCounts], rates: Sequence[Tensor], bar: float, languages: Sequence[str]
) -> dict[str, Any]:
    """How many neurons fire often in how many languages, per layer and per language.

    ``stability`` is Jaccard's coefficient of LAPE's selections from even and from odd sentences;
    ``design_effect`` the median over neurons.
    """
    counted = [kinds.count_kinds(layer, bar) for layer in rates]
    above = [layer > bar for layer in rates]
    alone = [kinds.count_specific(layer, bar) for layer in rates]
    sizes = [layer.sum(dim=0) for layer in above]
    related = [
        (layer & (size > 1) & (size < len(layer))).sum(dim=1).tolist()
        for layer, size in zip(above, sizes, strict=True)
    ]
    effects = torch.cat([layer.design_effect() for layer in layers], dim=1)
    halves = [kinds.select([layer.half_rates()[half] for layer in layers], bar) for half in (0, 1)]
    return {
        "bar": bar,
        "neurons": {kind: [one[k] for one in counted] for k, kind in enumerate(kinds.KINDS)},
        "specific": {name: [one[k] for one in alone] for k, name in enumerate(languages)},
        "related": {name: [one[k] for one in related] for k, name in enumerate(languages)},
        "design_effect": {
            name: rounded(float(effects[k].nanmedian())) for k, name in enumerate(languages)
        },
        "stability": rounded(kinds.jaccard(*halves)),
    }


def _by_language(
    found: Sequence[Overlap | None], name: str, languages: Sequence[str], first: int = 0
) -> dict[str, list[float | None]]:
    """A field per language from the number ``first`` on, and layer; whole numbers stay so."""
    return {
        language: [None if one is None else _plain(getattr(one, name)[k]) for one in found]
        for k, language in enumerate(languages)
        if k >= first
    }


def _plain(value: float) -> float | None:
    return value if isinstance(value, int) else rounded(value)


def _by_kind(found: Sequence[Sharing | None], name: str) -> Mapping[str, list[float | None]]:
    return {
        kind: [None if one is None else rounded(getattr(one, name)[k]) for one in found]
        for k, kind in enumerate(KINDS)
    }
