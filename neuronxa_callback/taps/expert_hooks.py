"""Taps for routed experts: 3-D weights computed again, and experts that are separate modules."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.hooks import DenseTap
from neuronxa_callback.taps.modules import loaded, tensors_of
from neuronxa_callback.taps.reader import SITES, ReadCounter, Reader
from neuronxa_callback.taps.stacked_experts import Recipe


@dataclass(frozen=True)
class ExpertsTap:
    """Reads experts that are one module with 3-D weights."""

    path: str
    recipe: Recipe
    parts: tuple[int, ...] = ()

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module of experts, whose input is read."""
        return (self.path,)

    @property
    def reads(self) -> object:
        """How the states are computed."""
        return self.recipe

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Hooks the module's input; the states of the routed rows are computed from it."""
        counter = ReadCounter(reader, self.path, self.parts)
        reader.before(modules[self.path], partial(self._read, counter), stack)
        return counter

    def _read(self, counter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        sites = counter.reader.sites
        part = counter.part(sites[0]) if sites else None
        with loaded(module):
            for states, token, expert, last in self.recipe.states(module, args, kwargs, sites):
                for site in sites:
                    if part is not None:
                        counter.reader.sink.routed(part, site, states[site], token, expert, last)
        for site in sites:
            counter.passes[site] += 1


@dataclass(frozen=True)
class ExpertGroupTap:
    """Reads experts that are separate modules, or one module whose rows are sorted by expert.

    Such modules get rows without the tokens' indices. Each row is a bit-identical copy of a token
    that the module around the experts got, so it can be matched with that token.
    """

    path: str
    """The module around the experts, whose input is all tokens."""
    experts: tuple[DenseTap, ...]
    """One tap per expert; a single tap if one module gets the rows of all experts."""
    row_modules: tuple[str, ...]
    """The first linear layer of each expert: its input is the rows."""
    sorted_rows: bool = False
    """Whether one call gets the rows of all experts, sorted, with their numbers."""
    parts: tuple[int, ...] = ()

    @property
    def module_paths(self) -> tuple[str, ...]:
        """The module around the experts, then each expert's modules."""
        inner = (path for tap in self.experts for path in tap.module_paths)
        return (self.path, *inner)

    @property
    def reads(self) -> object:
        """The modules: a formula is that of the expert that ran first."""
        return self.module_paths

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Hooks the module around the experts and each expert."""
        counter = ReadCounter(reader, self.path, self.parts)
        group = _GroupPass(self, counter)
        reader.before(modules[self.path], group.enter, stack)
        for number, (tap, row_module) in enumerate(
            zip(self.experts, self.row_modules, strict=True)
        ):
            reader.before(modules[row_module], partial(group.match_rows, number), stack)
            inner = _ExpertCounter(reader, tap.path, (0,), group, number)
            group.counters.append(inner)
            tap.install_with(inner, modules, stack)
        reader.after(modules[self.path], group.leave, stack)
        return counter


class _GroupPass:
    """The running pass of the module around a group of experts."""

    def __init__(self, tap: ExpertGroupTap, counter: ReadCounter) -> None:
        self.tap, self.counter = tap, counter
        self.counters: list[ReadCounter] = []
        self.tokens: TokenMatcher | None = None
        self.rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.counts = dict.fromkeys(SITES, 0)

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Indexes the tokens that the module gets."""
        hidden = next(tensors_of((args, kwargs)))
        self.tokens = TokenMatcher(hidden.reshape(-1, hidden.shape[-1]))
        self.counts = dict.fromkeys(SITES, 0)

    def match_rows(self, number: int, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Finds the tokens of the rows that expert ``number`` gets."""
        if self.tokens is None:
            raise TapError(f"experts must run inside {self.tap.path}, but ran outside of it")
        rows = next(tensors_of((args, kwargs)))
        rows = rows.reshape(-1, rows.shape[-1])
        expert = self._experts(number, rows, args, kwargs)
        token, first = self.tokens.match(rows, expert, self.tap.path)
        self.rows[number] = (token[first], expert[first], first)

    def _experts(self, number: int, rows: Tensor, args: Any, kwargs: Any) -> Tensor:
        if not self.tap.sorted_rows:
            return torch.full((rows.shape[0],), number, dtype=torch.long, device=rows.device)
        values = (*args[1:], *kwargs.values())
        sizes = next(value for value in values if not isinstance(value, bool))
        counts = torch.as_tensor(sizes, device=rows.device)
        return torch.arange(len(counts), device=rows.device).repeat_interleave(counts)

    def read(self, site: str, number: int, states: Tensor) -> None:
        """Passes on the states of expert ``number``."""
        part = self.counter.part(site)
        token, expert, first = self.rows[number]
        # If an expert gets a token twice, its states are passed on once.
        states = states.reshape(-1, states.shape[-1])[first]
        self.counts[site] += states.shape[0]
        if part is not None:
            self.counter.reader.sink.routed(part, site, states, token, expert, False)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Completes the pass after all experts have run."""
        for site in self.counter.reader.sites:
            part = self.counter.part(site)
            missing = next((c.missing[site] for c in self.counters if site in c.missing), None)
            if missing is not None:
                self.counter.missing[site] = missing
            elif self.counts[site]:
                self.counter.passes[site] += 1
            if part is not None and self.tokens is not None:
                hidden = self.tokens.hidden
                no_rows = torch.zeros(0, dtype=torch.long, device=hidden.device)
                states = hidden.new_zeros(0, self.tap.experts[0].width)
                self.counter.reader.sink.routed(part, site, states, no_rows, no_rows, True)
        self.tokens = None
        self.rows.clear()
        for counter in self.counters:
            counter.reset()


class _ExpertCounter(ReadCounter):
    """Passes the states of one expert on as routed rows."""

    def __init__(
        self, reader: Reader, path: str, parts: tuple[int, ...], group: _GroupPass, number: int
    ) -> None:
        super().__init__(reader, path, parts)
        self.group, self.number = group, number

    def dense(self, site: str, states: Tensor) -> None:
        """Passes on states of some rows."""
        self.group.read(site, self.number, states)


class TokenMatcher:
    """Finds tokens again by the bits of their hidden states [tokens, hidden]."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden
        generator = torch.Generator(device="cpu").manual_seed(0)
        self.factors = (
            torch.randint(1, 2**62, (hidden.shape[1],), generator=generator, device="cpu") * 2 + 1
        )
        self.factors = self.factors.to(hidden.device)
        self.keys, self.order = torch.sort(self._key(hidden), stable=True)

    def _key(self, rows: Tensor) -> Tensor:
        # Integer sums wrap around, so the order of summation does not matter.
        return (_bits(rows).long() * self.factors).sum(dim=1)

    def match(self, rows: Tensor, expert: Tensor, path: str) -> tuple[Tensor, Tensor]:
        """The token that each row copies, and whether it is the expert's first copy of that token.

        Equal tokens are assigned in their order, which is safe: equal rows have equal states.

        Raises:
            TapError: If a row is not a copy of a token.
        """
        if rows.shape[1] != self.hidden.shape[1] or rows.dtype != self.hidden.dtype:
            raise TapError(_not_copies(path))
        key = self._key(rows)
        position, rank = torch.searchsorted(self.keys, key), _rank(key, expert)
        equal = torch.searchsorted(self.keys, key, right=True) - position
        first = rank < equal
        position = position + torch.where(first, rank, torch.zeros_like(rank))
        token = self.order[position.clamp(max=len(self.order) - 1)]
        if not torch.equal(_bits(self.hidden[token]), _bits(rows)):
            raise TapError(_not_copies(path))
        return token, first


def _not_copies(path: str) -> str:
    return (
        f"the inputs of the experts in {path} must be copies of its tokens, got other rows, which "
        "cannot be matched with tokens; leave these experts out with neuron_modules="
    )


def _rank(key: Tensor, expert: Tensor) -> Tensor:
    """For each row, the number of earlier rows with the same key and expert."""
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(expert[order], stable=True)]
    same = (key[order][1:] == key[order][:-1]) & (expert[order][1:] == expert[order][:-1])
    index = torch.arange(len(key), device=key.device)
    starts = torch.where(torch.cat([same.new_zeros(1), same]), torch.zeros_like(index), index)
    rank = torch.empty_like(index)
    rank[order] = index - torch.cummax(starts, dim=0).values
    return rank


def _bits(values: Tensor) -> Tensor:
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return values.contiguous().view(integer)
