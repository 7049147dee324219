"""Finds the feed-forward neurons of a model, and reads them with hooks that leave no trace.

``discover`` runs one microbatch and follows its data flow; ``TapPlan.attach`` puts hooks on the
modules that it found. There is no table of model families: a feed-forward network is a pointwise
non-linear function of linear layers whose result enters another linear layer.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.discovery import Discovery
from neuronxa_callback.taps.flow.positions import numbered
from neuronxa_callback.taps.flow.signature import Signature, change_of, signature_of
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import modules_by_path
from neuronxa_callback.taps.override import Override
from neuronxa_callback.taps.reader import GATE, SITES, Reader, StateSink, Tap
from neuronxa_callback.taps.trace import Trace

__all__ = ["FFNPart", "Reader", "StateSink", "TapPlan", "discover"]

STACKS = ("encoder", "decoder", "both")
"""The stacks of an encoder-decoder model that can be read."""


@dataclass(frozen=True)
class FFNPart:
    """One part of a layer: one feed-forward network in one pass of its block."""

    layer: int | str
    """The block's number; ``"encoder.0"`` if two stacks are read; the index of the pass if blocks
    run more than once (ALBERT)."""
    path: str
    """Path of the down projection, or of the module that holds the experts."""
    kind: str
    """``gated``, ``fused`` (gate and up in one projection), ``plain`` or ``routed``."""
    width: int
    """Number of neurons; ``experts * d_ff`` for routed experts."""
    how: str
    """How gate and product are read, as text."""
    experts: int = 0
    """Number of routed experts; 0 if every token passes through the network."""

    @property
    def summary(self) -> str:
        """Kind, size and layer, as text."""
        return f"{self.kind} with {self.width} neurons in layer {self.layer}"


@dataclass(frozen=True)
class TapPlan:
    """All feed-forward neurons of a model, and the taps that read them."""

    parts: tuple[FFNPart, ...]
    """In the order of the layers; parts of one layer are adjacent."""
    taps: tuple[Tap, ...] = field(default=(), repr=False)
    """One per network, in the order in which the networks first ran."""
    no_gate: tuple[str, ...] = ()
    """Paths of the networks whose gate cannot be read; their product can."""
    no_gate_reason: str = "its activation is computed inline"
    """Why the first of these gates cannot be read."""
    signature: Signature = field(default=(), repr=False)
    """Classes and sizes of the modules that are read."""

    @property
    def layers(self) -> tuple[int | str, ...]:
        """Labels of the layers, in order, without repeats."""
        return tuple(dict.fromkeys(part.layer for part in self.parts))

    @property
    def module_paths(self) -> tuple[str, ...]:
        """Paths of all modules that the taps read: of each tap its product, then its gate.

        Wrappers (compile, FSDP, PEFT) are left out of the paths, and the order depends only on the
        model's forward pass, so equal tuples mean that the same states are read.
        """
        return tuple(path for tap in self.taps for path in tap.module_paths)

    def difference(self, other: "TapPlan") -> str:
        """The first difference from another plan of the same model, as text; empty if none."""
        for one, two in zip_longest(self.parts, other.parts):
            if one is None or two is None or replace(one, how="") != replace(two, how=""):
                missing = one if two is None else two
                if one is None or two is None or one.path != two.path:
                    return f"{(missing or two).path} runs in one of them only"
                return f"{one.path} is {one.summary} in one and {two.summary} in the other"
        for tap, again in zip(self.taps, other.taps, strict=True):
            if tap.module_paths != again.module_paths:
                return f"{tap.module_paths[0]} is read at other modules"
            if tap.reads != again.reads:
                return f"{tap.module_paths[0]} has another gate or product"
        return ""

    def with_gaps_of(self, other: "TapPlan") -> "TapPlan":
        """This plan, with the inserted positions that only ``other``, of longer input, has seen."""
        taps: list[Tap] = []
        for tap, again in zip(self.taps, other.taps, strict=True):
            layout, longer = getattr(tap, "layout", None), getattr(again, "layout", None)
            adopts = layout is not None and longer is not None and not layout.gaps
            taps.append(replace(tap, layout=longer) if adopts else tap)
        return replace(self, taps=tuple(taps))

    @contextmanager
    def attach(
        self,
        model: nn.Module,
        sites: Collection[str],
        sink: StateSink,
        shape: Callable[[], tuple[int, int]],
    ) -> Iterator[Reader]:
        """Puts hooks on ``model`` that pass its states to ``sink``, until the context closes.

        Args:
            model: The model of ``discover``; it may have been wrapped or compiled since.
            sites: ``"gate"``, ``"product"`` or both; nothing else is read.
            sink: Receives the states.
            shape: Returns sentences and padded tokens of the running microbatch.

        Yields:
            The reader: call its ``begin`` and ``end`` around each forward pass, then check its
            ``error``.

        Raises:
            TapError: If a site does not exist or cannot be read, or the model no longer has the
                modules of the plan.
        """
        if unknown := [site for site in sites if site not in SITES]:
            raise TapError(f"sites must be among {', '.join(SITES)}, got {unknown}")
        if GATE in sites and self.no_gate:
            raise TapError(
                f"cannot read the gate of {self.no_gate[0]}: {self.no_gate_reason}; "
                "use nas_site='product', or pass a function as neuron_modules= that also names the "
                "module of the gate"
            )
        reader, modules = Reader(sites, sink, shape), modules_by_path(model)
        self._check(modules)
        with ExitStack() as stack:
            stack.callback(reader.release)
            for tap in self.taps:
                try:
                    reader.counters.append(tap.install(reader, modules, stack))
                except KeyError as error:
                    raise TapError(
                        f"the model must have the modules in which its neurons were found, but "
                        f"{error} is missing; run discovery again after changing the model"
                    ) from error
            yield reader

    def _check(self, modules: Mapping[str, nn.Module]) -> None:
        changed = change_of(self.signature, modules)
        if changed:
            raise TapError(
                f"the model must be the one in which its neurons were found, but {changed}; run "
                "discovery again after changing the model"
            )


Inspect = Callable[[Trace, TapPlan], None]


def discover(
    model: nn.Module,
    forward: Callable[[], object],
    *,
    neuron_modules: Override = None,
    stack: str = "encoder",
    one_at_a_time: bool = False,
    inspect: Inspect | None = None,
    tokens: Tensor | None = None,
) -> TapPlan:
    """Finds the feed-forward neurons of ``model`` by following one microbatch through it.

    Args:
        model: The model as it is trained (with adapters, wrappers and patches), in eval mode.
        forward: Runs one small microbatch of at least 2 tokens through ``model``. The token ids
            [batch, tokens] must be the first argument of a module, or its ``input_ids``.
        neuron_modules: The down projections, if they cannot be found: a regular expression for
            their paths, or a function of the model that returns the paths (or a mapping from
            each path to the path of the module whose output is the gate).
        stack: The stack of an encoder-decoder model to read: ``"encoder"``, ``"decoder"`` or
            ``"both"``.
        one_at_a_time: Whether the model refuses more than one sentence; else a single sentence
            runs as two equal ones, which tells sentences and tokens apart.
        inspect: Called with the trace of the forward pass and the plan.
        tokens: The token ids [batch, tokens] that ``forward`` passes on; None finds them among the
            arguments of the modules.

    Raises:
        TapError: If there is no feed-forward network, or one cannot be read.
    """
    if stack not in STACKS:
        raise TapError(f"stack must be one of {', '.join(STACKS)}, got {stack!r}")
    discovery = Discovery(model, neuron_modules, stack)
    discovery.trace.doubles = not one_at_a_time
    if tokens is not None:
        discovery.trace.shape = (tokens.shape[0], tokens.shape[1])
        discovery.trace.node(tokens).positions = numbered(discovery.trace.shape)
    with torch.no_grad(), discovery.trace:
        forward()
    try:
        networks = discovery.networks()
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        if isinstance(e, TapError):
            raise
        raise TapError(
            f"the feed-forward networks of {type(model).__name__} cannot be found at "
            f"{discovery.place or 'any module'} ({type(e).__name__}: {e}); pass the down "
            "projections as neuron_modules="
        ) from e
    plan = _plan(networks, model)
    if inspect is not None:
        inspect(discovery.trace, plan)
    return plan


def _plan(networks: list[FoundFFN], model: nn.Module) -> TapPlan:
    passes = sorted(
        ((one, ffn) for ffn in networks for one in ffn.passes), key=lambda pair: pair[0].key
    )
    parts: list[FFNPart] = []
    parts_of: dict[str, list[tuple[int, int]]] = {}
    for number, (one, ffn) in enumerate(passes):
        parts.append(FFNPart(one.label, ffn.path, ffn.kind, ffn.width, ffn.how, ffn.experts))
        parts_of.setdefault(ffn.path, []).append((one.call, number))
    taps = tuple(
        ffn.tap_for(tuple(number for _, number in sorted(parts_of[ffn.path]))) for ffn in networks
    )
    unknown = [f for f in networks if not f.has_gate]
    reason = next((f.problem for f in unknown if f.problem), TapPlan.no_gate_reason)
    paths = [path for tap in taps for path in tap.module_paths]
    signature = signature_of(paths, modules_by_path(model))
    return TapPlan(tuple(parts), taps, tuple(f.path for f in unknown), reason, signature)
