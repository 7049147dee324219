"""Passes neuron states from hooks to a sink during a forward pass, and counts every read.

Axes: ``batch`` sentences of the running microbatch, ``tokens`` padded, ``width`` neurons.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError

GATE, PRODUCT = "gate", "product"
SITES = (GATE, PRODUCT)
"""Where a state is read: after the activation function, or at the down projection's input."""


class StateSink(Protocol):
    """Receives the states. The tensors are views of the model's own: read them, do not keep them.

    They are on the model's device, in its dtype, without gradients.
    """

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """Receives states of all neurons for consecutive tokens of every sentence.

        Args:
            part: Index into ``TapPlan.parts``.
            site: ``"gate"`` or ``"product"``.
            states: [batch, some tokens, width].
            start: Position of the first of these tokens in the padded sentences.
        """

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """Receives states of some pairs of a token and an expert. Pairs never received are 0.

        Args:
            part: Index into ``TapPlan.parts``.
            site: ``"gate"`` or ``"product"``.
            states: [rows, d_ff]. Neuron j of expert e is neuron ``e * d_ff + j`` of the part.
            token: [rows], indices into the flattened ``batch * tokens``.
            expert: [rows], indices of the experts.
            last: Whether these are the last rows of this pass.
        """


class Tap(Protocol):
    """Reads one feed-forward network, or one set of experts, with hooks. A frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def parts(self) -> tuple[int, ...]:
        """The index into ``TapPlan.parts`` of each pass, in order."""

    @property
    def module_paths(self) -> tuple[str, ...]:
        """Paths of the modules whose inputs or outputs are read: first product, then gate."""

    @property
    def reads(self) -> object:
        """How product and gate are read; equal if they are read in the same way."""

    def install(
        self, reader: "Reader", modules: Mapping[str, nn.Module], stack: ExitStack
    ) -> "ReadCounter":
        """Puts hooks on ``modules`` (by path); ``stack`` removes them when it closes.

        Raises:
            KeyError: If a module is missing.
        """


class Reader:
    """Checks each forward pass: every part must be read exactly once, else ``error`` is set."""

    def __init__(
        self, sites: Collection[str], sink: StateSink, shape: Callable[[], tuple[int, int]]
    ) -> None:
        self.sites = tuple(site for site in SITES if site in sites)
        self.sink, self.shape = sink, shape
        self.error: Exception | None = None
        self.counters: list[ReadCounter] = []

    def begin(self) -> None:
        """Call this before each forward pass: clears ``error`` and all counters."""
        self.error = None
        self.release()

    def end(self) -> None:
        """Call this after each forward pass: sets ``error`` if a part was not read exactly once."""
        problems = [text for counter in self.counters if (text := counter.problem(self.sites))]
        self.release()
        if self.error is None and problems:
            rest = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            self.error = TapError(
                "every feed-forward network must be read exactly once in each of its passes, got "
                f"{'; '.join(problems[:3])}{rest}; if a module was replaced, compiled or fused "
                "after discovery, run discovery again, or pass neuron_modules="
            )

    def release(self) -> None:
        """Resets all counters and drops every tensor that they hold."""
        for counter in self.counters:
            counter.reset()

    def before(
        self, module: nn.Module, read: Callable[[nn.Module, Any, Any], None], stack: ExitStack
    ) -> None:
        """Hooks ``read(module, args, kwargs)`` in front of ``module`` until ``stack`` closes."""
        hook = module.register_forward_pre_hook(self.guarded(read), with_kwargs=True)
        stack.callback(hook.remove)

    def after(
        self, module: nn.Module, read: Callable[[nn.Module, Any, Any], None], stack: ExitStack
    ) -> None:
        """Hooks ``read(module, args, output)`` behind ``module`` until ``stack`` closes."""
        stack.callback(module.register_forward_hook(self.guarded(read)).remove)

    def guarded(self, read: Callable[..., None]) -> Callable[..., None]:
        """A hook that returns None, never raises, and does nothing after the first error."""

        def hook(*args: Any) -> None:
            if self.error is not None:
                return
            try:
                with torch.no_grad():
                    read(*args)
            except Exception as error:
                self.error = error

        return hook


class ReadCounter:
    """Counts the reads of one tap: complete passes, and tokens within the running pass."""

    def __init__(self, reader: Reader, path: str, parts: tuple[int, ...]) -> None:
        self.reader, self.path, self.parts = reader, path, parts
        self.latest: dict[str, Tensor] = {}
        """The latest outputs of the modules that the gate is computed from."""
        self.owners: dict[str, nn.Module] = {}
        """``path:name`` of a weight that a formula needs -> its module."""
        self.reset()

    def reset(self) -> None:
        """Sets all counts to 0 and drops all tensors."""
        self.passes = dict.fromkeys(SITES, 0)
        self.tokens = dict.fromkeys(SITES, 0)
        self.missing: dict[str, str] = {}
        """Site -> path of a module that did not run."""
        self.calls = 0
        self.latest.clear()

    def dense(self, site: str, states: Tensor) -> None:
        """Passes on states [batch, some tokens, width]; a pass is complete with all tokens."""
        tokens = self.reader.shape()[1]
        start, part = self.tokens[site], self.part(site)
        if part is None:
            self.passes[site] += 1
            return
        self.reader.sink.dense(part, site, states, start)
        self.tokens[site] = start + states.shape[1]
        if self.tokens[site] >= tokens:
            self.passes[site] += 1
            self.tokens[site] -= tokens

    def part(self, site: str) -> int | None:
        """The part of the running pass; ``None`` after the last expected pass."""
        number = self.passes[site]
        return self.parts[number] if number < len(self.parts) else None

    def problem(self, sites: Sequence[str]) -> str:
        """The first difference from one read per expected pass; empty if there is none."""
        for site in sites:
            if site in self.missing:
                return f"no {site} at {self.path} because {self.missing[site]} did not run"
            if self.passes[site] != len(self.parts) or self.tokens[site]:
                extra = f" and {self.tokens[site]} tokens" if self.tokens[site] else ""
                return (
                    f"{site} at {self.path} {self.passes[site]}{extra} of {len(self.parts)} times"
                )
        return ""
