"""Taps for routed experts: 3-D weights computed again, and experts that are separate modules."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.rows import TokenMatcher, implementation_of, watch_product
from neuronxa_callback.taps.experts.stacked import ELEMENTS, Recipe
from neuronxa_callback.taps.hooks import DenseTap
from neuronxa_callback.taps.modules import loaded, tensors_of
from neuronxa_callback.taps.reader import SITES, ReadCounter, Reader

ROWS_CHECKED = 8
"""Rows of each portion whose own states are compared with those computed, once per attachment."""


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
        """How the states are computed; the kernel's own are the same states."""
        return replace(self.recipe, one_call=None)

    def install(
        self, reader: Reader, modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> ReadCounter:
        """Hooks the states that the module computes itself, or computes them from its input."""
        module, one_call = modules[self.path], self.recipe.one_call
        if one_call is None or one_call.implementation != implementation_of(module):
            counter = ReadCounter(reader, self.path, self.parts)
            reader.before(module, partial(self.compute, counter), stack)
            return counter
        running = _OneCallCounter(reader, self)
        reader.before(module, running.enter, stack)
        watch_product(module, reader.guarded(partial(running.read, module)), stack)
        reader.after(module, running.leave, stack)
        return running

    def compute(self, counter: ReadCounter, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Computes the states of a pass from the module's arguments, and passes them on."""
        sites = counter.reader.sites
        with loaded(module):
            self.pass_on(counter, self.recipe.states(module, args, kwargs, sites))

    def pass_on(
        self,
        counter: ReadCounter,
        portions: Iterable[tuple[dict[str, Tensor], Tensor, Tensor, bool]],
    ) -> None:
        """Passes on the states of a whole pass."""
        sites = counter.reader.sites
        part = counter.part(sites[0]) if sites else None
        for states, token, expert, last in portions:
            if part is not None:
                for site in sites:
                    counter.reader.sink.routed(part, site, states[site], token, expert, last)
        for site in sites:
            counter.passes[site] += 1


class _OneCallCounter(ReadCounter):
    """The running pass of a module that computes all rows in one call.

    If it turns out that the module does not, the states are computed from its input.
    """

    def __init__(self, reader: Reader, tap: ExpertsTap) -> None:
        self.tap = tap
        self.checked = False
        """Whether the states of an earlier pass were confirmed."""
        self.refuted = False
        super().__init__(reader, tap.path, tap.parts)

    def reset(self) -> None:
        """Drops the arguments of a pass, too."""
        super().reset()
        self.arguments: tuple[Any, Any] | None = None
        """Those of the running pass, until its states were passed on."""

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Starts a pass."""
        self.arguments = (args, kwargs)

    def read(
        self, module: nn.Module, projected: Tensor, product: Tensor, activated: Tensor | None
    ) -> None:
        """Passes on the module's own states."""
        if self.arguments is None or self.refuted:
            return
        # What is called from here on computes products, too.
        (args, kwargs), self.arguments = self.arguments, None
        call, recipe = (projected, product, activated), self.tap.recipe
        whole = recipe.is_whole(args, kwargs, call)
        if whole and not self.checked:
            self.checked = recipe.confirms(module, args, kwargs, call, ROWS_CHECKED)
        if whole and self.checked:
            self.tap.pass_on(self, recipe.own_states(args, kwargs, call, self.reader.sites))
        else:
            self.refuted, self.arguments = True, (args, kwargs)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Completes the pass."""
        if self.arguments is not None:
            (args, kwargs), self.arguments = self.arguments, None
            self.tap.compute(self, module, args, kwargs)


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
        self.waiting: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        """Site -> states, tokens and experts that are passed on together."""

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Indexes the tokens that the module gets."""
        hidden = next(tensors_of((args, kwargs)))
        self.tokens = TokenMatcher(hidden.reshape(-1, hidden.shape[-1]))
        self.counts = dict.fromkeys(SITES, 0)
        self.waiting = {site: [] for site in SITES}

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
        """Keeps the states of expert ``number``, to pass them on with those of others."""
        token, expert, first = self.rows[number]
        # If an expert gets a token twice, its states are passed on once. This is a copy.
        states = states.reshape(-1, states.shape[-1])[first]
        self.counts[site] += states.shape[0]
        waiting = self.waiting[site]
        if waiting and sum(each.numel() for each, _, _ in waiting) + states.numel() > ELEMENTS:
            self._pass_on(site, last=False)
        self.waiting[site].append((states, token, expert))

    def _pass_on(self, site: str, last: bool) -> None:
        part, waiting = self.counter.part(site), self.waiting[site]
        self.waiting[site] = []
        if not waiting and self.tokens is not None:
            hidden = self.tokens.hidden
            no_rows = torch.zeros(0, dtype=torch.long, device=hidden.device)
            waiting = [(hidden.new_zeros(0, self.tap.experts[0].width), no_rows, no_rows)]
        if part is not None and waiting:
            states, token, expert = (torch.cat(each) for each in zip(*waiting, strict=True))
            self.counter.reader.sink.routed(part, site, states, token, expert, last)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Completes the pass after all experts have run."""
        for site in self.counter.reader.sites:
            self._pass_on(site, last=True)
            missing = next((c.missing[site] for c in self.counters if site in c.missing), None)
            if missing is not None:
                self.counter.missing[site] = missing
            elif self.counts[site]:
                self.counter.passes[site] += 1
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
