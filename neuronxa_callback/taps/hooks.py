"""Taps for dense feed-forward networks: plain hooks, or computing the states again."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

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
    front: int = 0
    """Number of positions that the model inserts before the microbatch's own tokens."""

    def ordered(self, states: Tensor, shape: tuple[int, int]) -> Tensor:
        """``states`` as [batch, tokens, width], without positions that the model inserted.

        Raises:
            TapError: If the states do not belong to the microbatch's tokens.
        """
        batch, tokens = shape
        states = local_shard(states)
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
                "; tokens that are packed, pooled or sharded over ranks cannot be measured"
            )
        return states.reshape(batch, -1, width)


@dataclass(frozen=True)
class DenseTap:
    """Reads one feed-forward network from the modules that take its product and return its gate."""

    path: str
    """The down projection."""
    product: str
    """The module whose input is the product: the down projection, or a norm before it."""
    parts: tuple[int, ...] = ()
    gate: str = ""
    """The module whose output is the gate; empty if there is none."""
    formula: Formula | None = None
    """Computes the gate from the outputs of ``sources``, if no module returns it."""
    sources: tuple[str, ...] = ()
    width: int = 0
    """Neurons on this rank."""
    overwritten: bool = False
    """Whether the model overwrites the gate's tensor before the product arrives."""
    layout: StateLayout = field(default_factory=StateLayout)
    ignored: tuple[int, ...] = ()
    """Calls, counted from 0 in each forward pass, whose states do not belong to tokens."""
    rows: bool = False
    """Whether the states belong to routed rows instead of all tokens."""
    projections: tuple[tuple[str, int], ...] = ()
    """Path and columns, on this rank, of each linear layer that the product is computed from."""

    @property
    def gate_modules(self) -> tuple[str, ...]:
        """The modules whose latest outputs give the gate; empty if the gate is the product."""
        return (self.gate,) if self.gate else self.sources

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module that takes the product, then those that give the gate."""
        return (self.product, *self.gate_modules)

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
        if GATE in reader.sites:
            for path in self.gate_modules:
                reader.after(modules[path], partial(self._keep_output, counter, path), stack)
        reader.before(modules[self.product], partial(self._read, counter), stack)
        return counter

    def _keep_output(
        self, counter: ReadCounter, path: str, module: nn.Module, args: Any, output: Any
    ) -> None:
        out = next(tensors_of(output))
        # A shared activation module also runs elsewhere, on other widths.
        if not self.gate or out.shape[1 if self.layout.channels_first else -1] == self.width:
            counter.latest[path] = out.clone() if self.overwritten else out

    def _read(self, counter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        counter.calls += 1
        if counter.calls - 1 in self.ignored:
            counter.latest.clear()
            return
        shape = counter.reader.shape()
        product = next(tensors_of((args, kwargs)))
        for site in counter.reader.sites:
            states = product if site == PRODUCT else self._gate(counter, product)
            if states is not None:
                states = local_shard(states) if self.rows else self.layout.ordered(states, shape)
                counter.dense(site, states)

    def _gate(self, counter: ReadCounter, product: Tensor) -> Tensor | None:
        if not self.gate_modules:
            return product
        missing = [path for path in self.gate_modules if path not in counter.latest]
        if missing:
            counter.missing[GATE] = missing[0]
            return None
        outputs = dict(counter.latest)
        counter.latest.clear()
        return outputs[self.gate] if self.formula is None else self.formula(outputs)


@dataclass(frozen=True)
class RecomputedTap:
    """Reads a network that calls none of its layers: computes its states from its input."""

    path: str
    """The module around the layers."""
    states: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
    """From the module and its input to gate and product."""
    parts: tuple[int, ...] = ()

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module whose input is read."""
        return (self.path,)

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
            counter.dense(site, StateLayout().ordered(states, counter.reader.shape()))
