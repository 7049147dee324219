"""Where a model keeps its feed-forward neurons, and hooks that read them and leave no trace.

``discover`` runs one microbatch and follows its data flow; ``TapPlan.attach`` puts plain hooks on
what was found. No table of model families: a feed-forward network is what computes, neuron by
neuron, a non-linear function of linear layers and feeds it to another linear layer.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.discovery import Discovery
from neuronxa_callback.taps.hooks import GATE, SITES, Install, Reader, StateSink
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import named
from neuronxa_callback.taps.override import Override

__all__ = ["FFNPart", "Reader", "StateSink", "TapPlan", "discover"]

STACKS = ("encoder", "decoder", "both")


@dataclass(frozen=True)
class FFNPart:
    """One part of a layer: one feed-forward network in one pass of its block."""

    layer: int | str
    """The block's number; ``"encoder.0"`` where two stacks are read; the pass where blocks are
    run more than once (ALBERT)."""
    path: str
    """The down projection, or the module that holds the experts."""
    kind: str
    """``gated``, ``fused`` (gate and up in one projection), ``plain`` or ``routed``."""
    width: int
    """Neurons; of routed experts ``experts * d_ff``."""
    how: str
    """How gate and product are read, in words."""
    experts: int = 0
    """Number of routed experts; 0 where every token passes."""


@dataclass(frozen=True)
class TapPlan:
    """All feed-forward neurons of a model, and how each is read."""

    parts: tuple[FFNPart, ...]
    """In order of layers; the parts of one layer are neighbours."""
    places: tuple[Install, ...] = field(default=(), repr=False)
    no_gate: tuple[str, ...] = ()
    """Why the gate cannot be read, where it cannot; the product can."""

    @property
    def layers(self) -> tuple[int | str, ...]:
        """Labels of the layers, in order, without repeats."""
        return tuple(dict.fromkeys(part.layer for part in self.parts))

    @contextmanager
    def attach(
        self,
        model: nn.Module,
        sites: Collection[str],
        sink: StateSink,
        shape: Callable[[], tuple[int, int]],
    ) -> Iterator[Reader]:
        """Hooks on ``model`` that hand its states to ``sink``, until the context closes.

        Args:
            model: The model that the plan was made of, perhaps wrapped or compiled since.
            sites: ``"gate"``, ``"product"`` or both; nothing else is read.
            sink: What wants the states.
            shape: Sentences and padded tokens of the microbatch that is running.

        Raises:
            TapError: If the model no longer has the modules of the plan.
        """
        if unknown := [site for site in sites if site not in SITES]:
            raise TapError(f"sites must be among {', '.join(SITES)}, got {unknown}")
        if GATE in sites and self.no_gate:
            raise TapError(
                f"the gate must be the output of a module, and {self.no_gate[0]}; measure the "
                "product (nas_site='product'), or give a function as neuron_modules= that names "
                "the module"
            )
        reader, modules = Reader(sites, sink, shape), named(model)
        with ExitStack() as stack:
            stack.callback(reader.forget)
            for install in self.places:
                try:
                    reader.counters.append(install(reader, modules, stack))
                except KeyError as error:
                    raise TapError(
                        f"the model must have the modules that its neurons were found in, {error} "
                        "is missing; find them again after the model is changed"
                    ) from error
            yield reader


def discover(
    model: nn.Module,
    forward: Callable[[], object],
    *,
    neuron_modules: Override = None,
    stack: str = "encoder",
) -> TapPlan:
    """Finds the feed-forward neurons of ``model`` by following one microbatch through it.

    Args:
        model: In eval mode, as training holds it: adapters, wrappers and patches included.
        forward: Runs one tiny microbatch of at least 2 tokens through ``model``.
        neuron_modules: Where discovery does not do: a regular expression that matches the paths
            of the down projections, or a function of the model that returns those paths (or a
            mapping from them to the paths of the modules whose output is the gate).
        stack: Of a model with an encoder and a decoder, which is read: ``"encoder"``,
            ``"decoder"`` or ``"both"``.

    Raises:
        TapError: If there is no feed-forward network, or one that cannot be read.
    """
    if stack not in STACKS:
        raise TapError(f"stack must be one of {', '.join(STACKS)}, got {stack!r}")
    discovery = Discovery(model, neuron_modules, stack)
    with torch.no_grad(), discovery.trace:
        forward()
    plan = _plan(discovery.found())
    _refuse_old_experts(plan)
    return plan


def _refuse_old_experts(plan: TapPlan) -> None:
    """Before transformers 5 experts are lists of modules that do not know whose rows they get."""
    routed = next((part for part in plan.parts if part.kind == "routed"), None)
    version = str(getattr(sys.modules.get("transformers"), "__version__", "5"))
    if routed is not None and int(version.partition(".")[0]) < 5:
        raise TapError(
            f"routed experts are read with transformers 5 or later, got {version} and experts at"
            f" {routed.path}; upgrade transformers"
        )


def _plan(found: list[FoundFFN]) -> TapPlan:
    passes = sorted(
        ((order, each) for each in found for order in each.passes), key=lambda pair: pair[0].key
    )
    parts: list[FFNPart] = []
    numbers: dict[int, list[tuple[int, int]]] = {}
    for number, (order, each) in enumerate(passes):
        parts.append(FFNPart(order.label, each.path, each.kind, each.width, each.how, each.experts))
        numbers.setdefault(id(each), []).append((order.call, number))
    places = tuple(
        each.place(tuple(number for _, number in sorted(numbers[id(each)]))) for each in found
    )
    return TapPlan(tuple(parts), places, tuple(each.no_gate for each in found if each.no_gate))
