"""Hooks that hand a model's neuron states on while it runs, count them, and leave no trace.

Axes: ``batch`` sentences of the running microbatch, ``tokens`` padded, ``width`` neurons.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import tensors_of
from neuronxa_callback.taps.pointwise import Formula

GATE, PRODUCT = "gate", "product"
SITES = (GATE, PRODUCT)


class StateSink(Protocol):
    """What wants the states. Tensors are views of the model's own: read them, never keep them."""

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """States [batch, tokens, width] of each sentence's tokens ``start``, ``start + 1``, ..."""

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """States [rows, d_ff] of pairs of a token and an expert; all others are 0.

        Args:
            part: Index into ``TapPlan.parts``.
            site: ``"gate"`` or ``"product"``.
            states: Neuron j of expert e is neuron ``e * d_ff + j`` of the part.
            token: [rows], places in the flattened ``batch * tokens``.
            expert: [rows].
            last: Whether no further rows of this pass follow.
        """


class Reader:
    """Watches one forward pass after another: each part is read exactly once, or ``error`` says."""

    def __init__(
        self, sites: Collection[str], sink: StateSink, shape: Callable[[], tuple[int, int]]
    ) -> None:
        self.sites = tuple(site for site in SITES if site in sites)
        self.sink, self.shape = sink, shape
        self.error: Exception | None = None
        self.counters: list[ReadCounter] = []

    def begin(self) -> None:
        """Before each forward pass."""
        self.error = None
        for meter in self.counters:
            meter.reset()

    def end(self) -> None:
        """After each forward pass: notes a ``TapError`` where anything was not read just once."""
        wrong = [text for meter in self.counters if (text := meter.wrong(self.sites))]
        for meter in self.counters:
            meter.reset()
        if self.error is None and wrong:
            rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            self.error = TapError(
                "every feed-forward network must be read exactly once in each of its passes, got "
                f"{'; '.join(wrong[:3])}{rest}; was a module replaced, compiled or fused after the "
                "taps were found? Find them again, or say where the neurons are by neuron_modules="
            )

    def forget(self) -> None:
        """Lets go of every tensor."""
        for meter in self.counters:
            meter.reset()

    def guarded(self, work: Callable[..., None]) -> Callable[..., None]:
        """A hook that returns nothing, raises nothing, and does nothing after a first error."""

        def hook(*args: Any) -> None:
            if self.error is not None:
                return
            try:
                with torch.no_grad():
                    work(*args)
            except Exception as error:
                self.error = error

        return hook


class ReadCounter:
    """How far the reading of one place is: its passes, and the tokens within the running one."""

    def __init__(self, reader: Reader, path: str, parts: tuple[int, ...]) -> None:
        self.reader, self.path, self.parts = reader, path, parts
        self.latest: dict[str, Tensor] = {}
        self.reset()

    def reset(self) -> None:
        """Back to the beginning; lets go of all tensors."""
        self.passes = dict.fromkeys(SITES, 0)
        self.place = dict.fromkeys(SITES, 0)
        self.missed: dict[str, str] = {}
        self.calls = 0
        self.latest.clear()

    def dense(self, site: str, states: Tensor) -> None:
        """Hands on states [batch, some tokens, width]; a pass is over when it has all tokens."""
        tokens = self.reader.shape()[1]
        start, number = self.place[site], self.passes[site]
        if number >= len(self.parts):
            self.passes[site] += 1
            return
        self.reader.sink.dense(self.parts[number], site, states, start)
        self.place[site] = start + states.shape[1]
        if self.place[site] >= tokens:
            self.passes[site], self.place[site] = number + 1, self.place[site] - tokens

    def part(self, site: str) -> int | None:
        """The part of the running pass; ``None`` where there should be none."""
        number = self.passes[site]
        return self.parts[number] if number < len(self.parts) else None

    def wrong(self, sites: Sequence[str]) -> str:
        """What was not as it must be, in words; empty where all is well."""
        for site in sites:
            if site in self.missed:
                return f"no {site} at {self.path} since {self.missed[site]} did not run"
            if self.passes[site] != len(self.parts) or self.place[site]:
                some = f" and {self.place[site]} tokens" if self.place[site] else ""
                return f"{site} at {self.path} {self.passes[site]}{some} of {len(self.parts)} times"
        return ""


Install = Callable[[Reader, Mapping[str, nn.Module], ExitStack], ReadCounter]
"""Puts hooks on modules, by path, until the stack closes."""


@dataclass(frozen=True)
class StateLayout:
    """How the states of one place lie in memory, against [batch, tokens, width]."""

    channels_first: bool = False
    time_first: bool = False
    front: int = 0
    """Tokens that the model puts in front of the microbatch's own."""

    def ordered(self, states: Tensor, shape: tuple[int, int]) -> Tensor:
        """``states`` as [batch, tokens, width], without tokens that the model added.

        Raises:
            TapError: If the states are not those of the microbatch's tokens.
        """
        batch, tokens = shape
        states = local(states)
        if self.channels_first:
            states = states.movedim(1, -1)
        if self.time_first:
            states = states.transpose(0, 1)
        width, rows = states.shape[-1], states.numel() // max(states.shape[-1], 1)
        if states.ndim == 3 and states.shape[0] == batch:
            if states.shape[1] > tokens:
                states = states[:, self.front : self.front + tokens]
            return states
        if rows % batch or (batch > 1 and rows != batch * tokens):
            raise TapError(
                f"states must belong to {batch} x {tokens} tokens, got shape {tuple(states.shape)}"
                "; tokens that are packed, pooled or spread over ranks cannot be measured"
            )
        return states.reshape(batch, -1, width)


def local(states: Tensor) -> Tensor:
    """This rank's slice where neurons are spread over ranks (tensor parallel)."""
    take = getattr(states, "to_local", None)
    return take() if callable(take) else states


@dataclass(frozen=True)
class DenseTap:
    """Reads one feed-forward network with plain hooks."""

    path: str
    """The down projection."""
    parts: tuple[int, ...]
    """One part per pass, in order."""
    product: str
    """The module that the product goes into: the down projection, or a norm before it."""
    gate: str = ""
    """The module that the gate comes out of."""
    formula: Formula | None = None
    """The gate from the outputs of ``sources``, where no module gives it."""
    sources: tuple[str, ...] = ()
    width: int = 0
    overwritten: bool = False
    """Whether the model writes into the gate's tensor before it is read."""
    layout: StateLayout = field(default_factory=StateLayout)
    ignored: tuple[int, ...] = ()
    """Calls, counted from 0 in each forward pass, whose states are not those of tokens."""
    rows: bool = False
    """Whether the states are those of routed rows, not of all tokens."""

    @property
    def watched(self) -> tuple[str, ...]:
        """Modules whose latest output is needed when the product arrives."""
        return (self.gate,) if self.gate else self.sources

    def install(
        self,
        reader: Reader,
        modules: Mapping[str, nn.Module],
        stack: ExitStack,
        meter: ReadCounter | None = None,
    ) -> ReadCounter:
        """Hooks for the product and, where it is asked for, the gate."""
        meter = meter or ReadCounter(reader, self.path, self.parts)
        if GATE in reader.sites:
            for path in self.watched:
                noted = reader.guarded(self._noting(meter, path))
                stack.callback(modules[path].register_forward_hook(noted).remove)
        arrived = reader.guarded(lambda _, args, kwargs: self._read(meter, args, kwargs))
        hook = modules[self.product].register_forward_pre_hook(arrived, with_kwargs=True)
        stack.callback(hook.remove)
        return meter

    def _noting(self, meter: ReadCounter, path: str) -> Callable[..., None]:
        def noted(module: nn.Module, args: Any, output: Any) -> None:
            out = next(tensors_of(output))
            # A shared activation also runs elsewhere, at other widths.
            if not self.gate or out.shape[1 if self.layout.channels_first else -1] == self.width:
                meter.latest[path] = out.clone() if self.overwritten else out

        return noted

    def _read(self, meter: ReadCounter, args: Any, kwargs: Any) -> None:
        meter.calls += 1
        if meter.calls - 1 in self.ignored:
            meter.latest.clear()
            return
        shape = meter.reader.shape()
        product = next(tensors_of((args, kwargs)))
        for site in meter.reader.sites:
            states = product if site == PRODUCT else self._gate(meter, product)
            if states is not None:
                states = local(states) if self.rows else self.layout.ordered(states, shape)
                meter.dense(site, states)

    def _gate(self, meter: ReadCounter, product: Tensor) -> Tensor | None:
        if not self.watched:
            return product
        missing = [path for path in self.watched if path not in meter.latest]
        if missing:
            meter.missed[GATE] = missing[0]
            return None
        found = dict(meter.latest)
        meter.latest.clear()
        return found[self.gate] if self.formula is None else self.formula(found)


def on_the_way_in(
    module: nn.Module, read: Callable[..., None], reader: Reader, stack: ExitStack
) -> None:
    """A hook that calls ``read(module, args, kwargs)`` before the module runs."""
    hook = module.register_forward_pre_hook(reader.guarded(read), with_kwargs=True)
    stack.callback(hook.remove)


@dataclass(frozen=True)
class RecomputedTap:
    """Reads a network that calls none of its layers, by computing it once more from its input."""

    path: str
    parts: tuple[int, ...]
    states: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """One hook on the way in."""
        meter = ReadCounter(reader, self.path, self.parts)
        on_the_way_in(modules[self.path], partial(self._read, meter), reader, stack)
        return meter

    def _read(self, meter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        hidden = next(tensors_of((args, kwargs)))
        gate, product = self.states(module, hidden)
        for site in meter.reader.sites:
            states = gate if site == GATE else product
            meter.dense(site, StateLayout().ordered(states, meter.reader.shape()))
