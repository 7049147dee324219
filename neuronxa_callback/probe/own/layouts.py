"""Which layers a source has, that of a registered metric too."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from neuronxa_callback.metrics.registry import Read
from neuronxa_callback.scores import Layer

T = TypeVar("T")


class HasLayers(Protocol):
    """The parts of the layers of a source."""

    @property
    def layers(self) -> int:
        """Number of layers."""


def with_own(layouts: Mapping[str, T], reads: Mapping[str, Sequence[Read]]) -> dict[str, T]:
    """Source -> the parts of its layers, also for the metrics of one's own.

    Args:
        layouts: The same for ``"nas"`` and ``"hidden"``, and others.
        reads: Site -> what to compute there.
    """
    own = {
        read.source: layouts["hidden" if site == "hidden" else "nas"]
        for site, at_site in reads.items()
        for read in at_site
        if read.own is not None
    }
    return {**layouts, **own}


def labels_of(
    layouts: Mapping[str, HasLayers], neurons: tuple[Layer, ...]
) -> dict[str, tuple[Layer, ...]]:
    """Source -> the labels of its layers.

    Args:
        layouts: Source -> the parts of its layers; those of hidden states are one object.
        neurons: The labels of the layers with neurons.
    """
    return {
        source: tuple(range(layout.layers)) if layout is layouts["hidden"] else neurons
        for source, layout in layouts.items()
    }
