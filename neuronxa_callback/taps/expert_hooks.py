"""Hooks for routed experts: 3-D experts computed once more, and experts that are modules each."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.hooks import (
    GATE,
    PRODUCT,
    DenseTap,
    ReadCounter,
    Reader,
    on_the_way_in,
)
from neuronxa_callback.taps.modules import tensors_of
from neuronxa_callback.taps.stacked_experts import Recipe


@dataclass(frozen=True)
class ExpertsTap:
    """Reads experts that are one module with 3-D weights."""

    path: str
    parts: tuple[int, ...]
    recipe: Recipe

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """One hook on the way in, which computes the routed rows."""
        meter = ReadCounter(reader, self.path, self.parts)
        on_the_way_in(modules[self.path], partial(self._read, meter), reader, stack)
        return meter

    def _read(self, meter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        sites = meter.reader.sites
        part = meter.part(sites[0]) if sites else None
        for states, token, expert, last in self.recipe.states(module, args, kwargs, sites):
            for site in sites:
                if part is not None:
                    meter.reader.sink.routed(part, site, states[site], token, expert, last)
        for site in sites:
            meter.passes[site] += 1


@dataclass(frozen=True)
class GroupTap:
    """Reads experts that each are a module of their own, or rows that are sorted by expert.

    Such modules are given rows without knowing whose they are. The rows are copies of the tokens
    that the module around them was given, bit for bit: that says whose they are.
    """

    path: str
    """The module around the experts, which is given all tokens."""
    parts: tuple[int, ...]
    experts: tuple[DenseTap, ...]
    """How each expert is read; one only where its calls hold the rows of all experts."""
    inward: tuple[str, ...]
    """The first linear layer of each expert: its input are the rows."""
    number: int

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Hooks on the module around the experts and on each expert."""
        meter = ReadCounter(reader, self.path, self.parts)
        run = _Run(self, meter)
        around = modules[self.path]
        enter = around.register_forward_pre_hook(reader.guarded(run.enter), with_kwargs=True)
        stack.callback(enter.remove)
        for number, (tap, inward) in enumerate(zip(self.experts, self.inward, strict=True)):
            arrive = reader.guarded(run.arriving(number))
            first = modules[inward].register_forward_pre_hook(arrive, with_kwargs=True)
            stack.callback(first.remove)
            inner = _ExpertCounter(reader, tap.path, (0,), run, number)
            run.counters.append(inner)
            tap.install(reader, modules, stack, inner)
        leave = around.register_forward_hook(reader.guarded(run.leave))
        stack.callback(leave.remove)
        return meter


class _Run:
    """One pass of the module around the experts."""

    def __init__(self, group: GroupTap, meter: ReadCounter) -> None:
        self.group, self.meter = group, meter
        self.counters: list[ReadCounter] = []
        self.tokens: Tokens | None = None
        self.rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.counts = dict.fromkeys((GATE, PRODUCT), 0)

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """All tokens come in."""
        hidden = next(tensors_of((args, kwargs)))
        self.tokens = Tokens(hidden.reshape(-1, hidden.shape[-1]))
        self.counts = dict.fromkeys((GATE, PRODUCT), 0)

    def arriving(self, number: int) -> Callable[..., None]:
        """A hook for the rows of expert ``number``."""

        def arrive(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self.tokens is None:
                raise TapError(f"experts must run inside of {self.group.path}, and did not")
            rows = next(tensors_of((args, kwargs)))
            rows = rows.reshape(-1, rows.shape[-1])
            expert = self._experts(number, rows, args, kwargs)
            token, first = self.tokens.of(rows, expert, self.group.path)
            self.rows[number] = (token[first], expert[first], first)

        return arrive

    def _experts(self, number: int, rows: Tensor, args: Any, kwargs: Any) -> Tensor:
        if len(self.group.experts) > 1:
            return torch.full((rows.shape[0],), number, device=rows.device)
        sizes = next(each for each in (*args[1:], *kwargs.values()) if not isinstance(each, bool))
        counts = torch.as_tensor(sizes, device=rows.device)
        return torch.arange(len(counts), device=rows.device).repeat_interleave(counts)

    def read(self, site: str, number: int, states: Tensor) -> None:
        """Hands on the states of expert ``number``."""
        part = self.meter.part(site)
        token, expert, first = self.rows[number]
        # A token that an expert is given twice has its states once.
        states = states.reshape(-1, states.shape[-1])[first]
        self.counts[site] += states.shape[0]
        if part is not None:
            self.meter.reader.sink.routed(part, site, states, token, expert, False)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """All experts have run."""
        for site in self.meter.reader.sites:
            part = self.meter.part(site)
            missed = next((m.missed[site] for m in self.counters if site in m.missed), None)
            if missed is not None:
                self.meter.missed[site] = missed
            elif self.counts[site]:
                self.meter.passes[site] += 1
            if part is not None and self.tokens is not None:
                hidden = self.tokens.hidden
                none = torch.zeros(0, dtype=torch.long, device=hidden.device)
                states = hidden.new_zeros(0, self.group.experts[0].width)
                self.meter.reader.sink.routed(part, site, states, none, none, True)
        self.tokens = None
        self.rows.clear()
        for each in self.counters:
            each.reset()


class _ExpertCounter(ReadCounter):
    """Sends one expert's states on as rows."""

    def __init__(
        self, reader: Reader, path: str, parts: tuple[int, ...], run: _Run, number: int
    ) -> None:
        super().__init__(reader, path, parts)
        self.run, self.number = run, number

    def dense(self, site: str, states: Tensor) -> None:
        """States of some rows."""
        self.run.read(site, self.number, states)


class Tokens:
    """The tokens that a module was given, to be found again bit for bit."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden
        generator = torch.Generator().manual_seed(0)
        self.factors = torch.randint(1, 2**62, (hidden.shape[1],), generator=generator) * 2 + 1
        self.factors = self.factors.to(hidden.device)
        self.keys, self.order = torch.sort(self._key(hidden), stable=True)

    def _key(self, rows: Tensor) -> Tensor:
        # Sums of integers wrap around, so that their order does not matter.
        return (_bits(rows).long() * self.factors).sum(dim=1)

    def of(self, rows: Tensor, expert: Tensor, path: str) -> tuple[Tensor, Tensor]:
        """The token that each row is a copy of, and whether it is the first of that token.

        Equal tokens are given out in their order: equal rows have equal states.

        Raises:
            TapError: If a row is no copy of any token.
        """
        key = self._key(rows)
        place, rank = torch.searchsorted(self.keys, key), _rank(key, expert)
        equal = torch.searchsorted(self.keys, key, right=True) - place
        first = rank < equal
        place = place + torch.where(first, rank, torch.zeros_like(rank))
        found = self.order[place.clamp(max=len(self.order) - 1)]
        if not torch.equal(_bits(self.hidden[found]), _bits(rows)):
            raise TapError(
                f"the rows that the experts in {path} are given must be copies of its tokens, and "
                "are not: it cannot be said whose states they are; leave them out with "
                "neuron_modules="
            )
        return found, first


def _rank(key: Tensor, expert: Tensor) -> Tensor:
    """How many rows before it have the same key and expert."""
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(expert[order], stable=True)]
    same = (key[order][1:] == key[order][:-1]) & (expert[order][1:] == expert[order][:-1])
    index = torch.arange(len(key), device=key.device)
    starts = torch.where(torch.cat([same.new_zeros(1), same]), torch.zeros_like(index), index)
    rank = torch.empty_like(index)
    rank[order] = index - torch.cummax(starts, dim=0).values
    return rank


def _bits(values: Tensor) -> Tensor:
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return values.contiguous().view(whole)
