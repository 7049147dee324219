"""Taps for dense feed-forward networks: plain hooks, or computing the states again."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import local_shard, tensors_of
from neuronxa_callback.taps.pointwise import Formula
from neuronxa_callback.taps.reader import GATE, PRODUCT, ReadCounter, Reader


@dataclass(frozen=True)
class StateLayout:
    """How a module's states are laid out in memory, compared with [batch, tokens, width]."""

    channels_first: bool = False
    time_first: bool = False
    gaps: tuple[tuple[str, int], ...] = ()
    """Positions that the model inserts: ``front``, ``first`` (behind the first token), ``last``
    (in front of the last token), ``behind`` or ``inside``, and their number during discovery."""

    def ordered(self, states: Tensor, shape: tuple[int, int]) -> Tensor:
        """``states`` as [batch, tokens, width], without positions that the model inserted.

        Raises:
            TapError: If the states do not belong to the microbatch's tokens.
        """
        batch, tokens = shape
        states = local_shard(states)
        if self.channels_first:
            states = states.movedim(1, -1)
        width, rows = states.shape[-1], states.numel() // max(states.shape[-1], 1)
        apart = states.ndim == 3 and states.shape[1 if self.time_first else 0] == batch
        if rows % batch or (batch > 1 and not apart and rows < batch * tokens):
            raise TapError(_not_those(batch, tokens, states))
        if self.time_first:
            states = states.reshape(-1, batch, width).transpose(0, 1)
        else:
            states = states.reshape(batch, -1, width)
        if states.shape[1] <= tokens:
            return states
        kept = self._kept(states.shape[1], tokens)
        if kept is None:
            raise TapError(_not_those(batch, tokens, states))
        return kept(states)

    def _kept(self, length: int, tokens: int) -> Callable[[Tensor], Tensor] | None:
        """Takes the tokens out of an extended sequence of ``length`` positions."""
        gaps = self.gaps
        if len(self.gaps) == 1:
            # One run of inserted positions may have any length.
            gaps = ((self.gaps[0][0], length - tokens),)
        elif sum(count for _, count in self.gaps) != length - tokens:
            return None
        places = {"front": 0, "first": 1, "last": tokens - 1, "behind": tokens}
        kept: list[int] = []
        inserted = dict.fromkeys(range(tokens + 1), 0)
        for place, count in gaps:
            if place not in places:
                return None
            inserted[places[place]] += count
        position = 0
        for token in range(tokens):
            position += inserted[token]
            kept.append(position)
            position += 1
        if kept[-1] - kept[0] == tokens - 1:
            return lambda states: states[:, kept[0] : kept[0] + tokens]
        return lambda states: states[:, kept]


def _not_those(batch: int, tokens: int, states: Tensor) -> str:
    return (
        f"states must belong to {batch} x {tokens} tokens, got shape {tuple(states.shape)}; tokens "
        "that are packed, pooled or sharded over ranks cannot be measured"
    )


@dataclass(frozen=True)
class Source:
    """Where a state is read: at a module, or computed from the outputs of other modules."""

    module: str = ""
    """The module whose output (of a gate) or input (of a product) is the state."""
    formula: Formula | None = None
    """Computes the state instead."""
    layers: tuple[str, ...] = ()
    """The modules whose outputs the formula needs."""
    parts: tuple[str, ...] = ()
    """``path:name`` of weights and ``path:`` of modules that the formula needs."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that are hooked."""
        return self.layers if self.formula is not None else ((self.module,) if self.module else ())


@dataclass(frozen=True)
class DenseTap:
    """Reads one feed-forward network from the modules that take its product and return its gate."""

    path: str
    """The down projection."""
    product: Source
    """Its input, or the input of a norm in front of it."""
    gate: Source = field(default_factory=Source)
    """Empty if the gate is the product."""
    parts: tuple[int, ...] = ()
    width: int = 0
    """Neurons on this rank."""
    overwritten: frozenset[str] = frozenset()
    """The modules whose output the model overwrites before the product arrives."""
    layout: StateLayout = field(default_factory=StateLayout)
    ignored: tuple[int, ...] = ()
    """Calls, counted from 0 in each forward pass, whose states do not belong to tokens."""
    rows: bool = False
    """Whether the states belong to routed rows instead of all tokens."""
    projections: tuple[tuple[str, int], ...] = ()
    """Path and columns, on this rank, of each linear layer that the product is computed from."""

    @property
    def gate_modules(self) -> tuple[str, ...]:
        """The modules whose outputs give the gate; empty if the gate is the product."""
        return self.gate.modules

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module that takes the product, then those that give the gate."""
        return (self.product.module or self.path, *self.gate.modules)

    @property
    def reads(self) -> object:
        """How product and gate are read; equal if they are read in the same way."""
        return self.product, self.gate

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Hooks the product and, if the reader wants it, the gate."""
        return self.install_with(ReadCounter(reader, self.path, self.parts), modules, stack)

    def install_with(
        self, counter: ReadCounter, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Like ``install``, with a counter of the caller's."""
        reader = counter.reader
        wanted: dict[str, None] = {}
        for site, source in ((GATE, self.gate), (PRODUCT, self.product)):
            if site in reader.sites or (site == PRODUCT and not self.gate.modules):
                wanted |= dict.fromkeys(source.layers)
                for part in source.parts:
                    counter.owners[part] = modules[part.rpartition(":")[0]]
        if GATE in reader.sites:
            wanted |= dict.fromkeys(self.gate.modules)
        for path in wanted:
            reader.after(modules[path], partial(self._keep_output, counter, path), stack)
        place = self.product.module or self.path
        reader.before(modules[place], partial(self._read, counter), stack)
        return counter

    def _keep_output(
        self, counter: ReadCounter, path: str, module: nn.Module, args: Any, output: Any
    ) -> None:
        out = next(tensors_of(output))
        # A shared activation module also runs elsewhere, on other widths.
        channels = 1 if self.layout.channels_first else -1
        if path != self.gate.module or out.shape[channels] == self.width:
            counter.latest[path] = out.clone() if path in self.overwritten else out

    def _read(self, counter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        counter.calls += 1
        if counter.calls - 1 in self.ignored:
            counter.latest.clear()
            return
        shape = counter.reader.shape()
        arrived = next(tensors_of((args, kwargs)))
        latest = dict(counter.latest)
        counter.latest.clear()
        for site in counter.reader.sites:
            source = self.gate if site == GATE and self.gate.modules else self.product
            states = self._state(counter, site, source, arrived, latest)
            if states is not None:
                states = local_shard(states) if self.rows else self.layout.ordered(states, shape)
                counter.dense(site, states)

    def _state(
        self,
        counter: ReadCounter,
        site: str,
        source: Source,
        arrived: Tensor,
        latest: Mapping[str, Tensor],
    ) -> Tensor | None:
        if source is self.product and source.formula is None:
            return arrived
        missing = [path for path in source.modules if path not in latest]
        if missing:
            counter.missing[site] = missing[0]
            return None
        if source.formula is None:
            return latest[source.module]
        values: dict[str, Any] = dict(latest)
        for part in source.parts:
            owner, name = counter.owners[part], part.rpartition(":")[2]
            values[part] = getattr(owner, name) if name else owner
        return source.formula(values)


class RecomputedStates(Protocol):
    """Computes the states of a module that calls none of its layers."""

    def __call__(self, module: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and product [..., width] of the module's input."""

    def output(self, module: nn.Module, product: Tensor) -> Tensor:
        """The module's output for a product."""


@dataclass(frozen=True)
class RecomputedTap:
    """Reads a network that calls none of its layers: computes its states from its input."""

    path: str
    """The module around the layers."""
    states: RecomputedStates
    """From the module and its input to gate and product."""
    layout: StateLayout = field(default_factory=StateLayout)
    parts: tuple[int, ...] = ()

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module whose input is read."""
        return (self.path,)

    @property
    def reads(self) -> object:
        """The formulas of product and gate."""
        return self.states

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Hooks the input of the module."""
        counter = ReadCounter(reader, self.path, self.parts)
        reader.before(modules[self.path], partial(self._read, counter), stack)
        return counter

    def _read(self, counter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        hidden = next(tensors_of((args, kwargs)))
        gate, product = self.states(module, hidden)
        for site in counter.reader.sites:
            states = gate if site == GATE else product
            counter.dense(site, self.layout.ordered(states, counter.reader.shape()))
