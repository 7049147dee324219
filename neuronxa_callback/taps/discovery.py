"""From one forward pass to the feed-forward networks that ran in it, and how each is read."""

import re
from dataclasses import replace

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.expert_hooks import ExpertsTap
from neuronxa_callback.taps.expert_recipes import recipe
from neuronxa_callback.taps.fused_kernels import KernelMatch, match_module, match_product
from neuronxa_callback.taps.hooks import DenseTap, RecomputedTap, StateLayout, local
from neuronxa_callback.taps.layers import FoundFFN, Pass, labelled, stack_of
from neuronxa_callback.taps.module_experts import Group, group_found, group_of, no_experts_left
from neuronxa_callback.taps.modules import is_linear, numbered
from neuronxa_callback.taps.override import Override, given_by
from neuronxa_callback.taps.pointwise import (
    FFNInput,
    Formula,
    NotPointwise,
    formula,
    trace_ffn_input,
)
from neuronxa_callback.taps.stacked_experts import Recipe, is_experts
from neuronxa_callback.taps.trace import Call, Node, Trace

# Shaped like feed-forward networks, but not on the way from token to token.
_NOT_NEURONS = re.compile(r"router|norm|adapter|(^|\.)gate\.|per_layer_|hyper", re.IGNORECASE)


class Discovery:
    """Watches one forward pass; ``found`` is what it was."""

    def __init__(self, model: nn.Module, override: Override, stack: str) -> None:
        self.model, self.stack = model, stack
        self.trace = Trace(model, self._leaving)
        self.given, self.by_pattern = given_by(override, model), isinstance(override, str)
        self.recipes: dict[str, Recipe] = {}
        self.guesses: dict[str, KernelMatch] = {}
        self.failed: dict[str, TapError] = {}
        self._found: dict[str, FoundFFN] = {}

    def found(self) -> list[FoundFFN]:
        """Every feed-forward network that ran, its passes labelled by layer.

        Raises:
            TapError: If there is none, or one that cannot be read.
        """
        for call in self.trace.calls:
            self._see(call)
        found = labelled(list(self._found.values()), self.model, self.stack)
        self._all_met()
        if not found and self.failed:
            raise next(iter(self.failed.values()))
        if not found:
            raise TapError(_nothing(self.model))
        for path, error in self.failed.items():
            if path not in self._found:
                raise error
        if self.given is None:
            no_experts_left(self.trace, self._found)
        _, tokens = self.trace.shape or (0, 0)
        plain = {stack_of(each.path) for each in found if each.length == tokens}
        for each in found:
            # Where a stack has the tokens as they are, other lengths are not padding.
            if each.rows or (each.length > tokens and stack_of(each.path) in plain):
                raise TapError(_pooled(each, tokens))
        return found

    def _all_met(self) -> None:
        # A regular expression may match more than runs: experts that no token was routed to.
        given = {} if self.given is None or self.by_pattern else self.given
        around = tuple(f"{path}." for path in self._found)
        unmet = [path for path in given if path not in self._found and not path.startswith(around)]
        if unmet:
            raise TapError(
                "neuron_modules must name linear layers that run on the tokens, got "
                f"{unmet[0]!r}, which did not"
            )

    def _leaving(self, call: Call) -> None:
        # Here, while the weights of sharded models are gathered.
        if self.given is not None and call.path not in self.given:
            return
        if is_experts(call.module):
            if call.path not in self.recipes and isinstance(call.output, Tensor):
                try:
                    self.recipes[call.path] = recipe(
                        call.path, call.module, call.args, call.kwargs, call.output
                    )
                except TapError as error:
                    self.failed[call.path] = error
        elif call.path not in self.guesses and not is_linear(call.module):
            try:
                guess = match_module(call, self.trace.calls)
            except TapError as error:
                self.failed[call.path] = error
            else:
                if guess is not None:
                    self.guesses[call.path] = guess

    def _see(self, call: Call) -> None:
        if call.path in self.recipes:
            self._experts(call, self.recipes[call.path])
        elif call.path in self.guesses:
            self._recomputed(call, self.guesses[call.path])
        elif is_linear(call.module) and call.source is not None:
            self._linear(call)

    def _experts(self, call: Call, cooked: Recipe) -> None:
        found = self._found.setdefault(
            call.path,
            FoundFFN(
                call.path,
                "routed",
                cooked.experts * cooked.width,
                "computed from the input of the experts, for the rows that are routed",
                lambda parts: ExpertsTap(call.path, parts, cooked).install,
                experts=cooked.experts,
            ),
        )
        found.passes.append(Pass(call.block, call.order))

    def _recomputed(self, call: Call, guess: KernelMatch) -> None:
        found = self._found.setdefault(
            call.path,
            FoundFFN(
                call.path,
                guess.kind,
                guess.width,
                f"computed from the input of {call.path}: {guess.words}",
                lambda parts: RecomputedTap(call.path, parts, guess.states).install,
            ),
        )
        self._count(found, call, -1)

    def _linear(self, call: Call) -> None:
        if self.given is not None and call.path not in self.given:
            return
        if call.path in self._found:
            self._count(self._found[call.path], call, _channels(call.module))
            return
        feed, redo = self._feed(call)
        if feed is None:
            return
        tap = self._tap(call, feed, redo)
        if group := group_of(call, feed):
            self._grouped(call, feed, tap, group)
            return
        found = self._described(call, feed, tap)
        self._found[call.path] = found
        self._count(found, call, _channels(call.module))

    def _feed(self, call: Call) -> tuple[FFNInput | None, tuple[Formula, str] | None]:
        assert call.source is not None
        if self.given is None and (
            not numbered(call.block[0])
            or _NOT_NEURONS.search(call.path.removeprefix(call.block[0])) is not None
        ):
            return None, None
        try:
            feed = trace_ffn_input(call.source)
        except NotPointwise as error:
            found = match_product(call, self.trace.calls) if error.node.unknown else None
            if found is not None:
                return found
            bare = FFNInput(call.source.root(), None, (), None)
            return (bare, None) if self.given is not None else (None, None)
        if self.given is None and (feed.gate is None or not _returns(call, feed)):
            return None, None
        return feed, None

    def _tap(self, call: Call, feed: FFNInput, redo: tuple[Formula, str] | None) -> DenseTap:
        path, again = (self.given or {}).get(call.path, ""), None
        if redo is not None:
            again = redo[0]
        elif not path and feed.gated:
            path, again = _gate_of(feed)
        linears = tuple(dict.fromkeys(source.path for source in feed.behind_gate))
        return DenseTap(
            path=call.path,
            parts=(),
            product=feed.norm.path if feed.norm is not None else call.path,
            gate=path,
            formula=again,
            sources=linears if again is not None else (),
            width=_width(call),
            overwritten=feed.gate is not None and feed.gate.overwritten,
            layout=self._layout(call),
        )

    def _described(self, call: Call, feed: FFNInput, tap: DenseTap) -> FoundFFN:
        kind = "plain" if not feed.gated else "fused" if len(feed.sources) == 1 else "gated"
        no_gate = ""
        if (feed.gate is None or feed.gated) and not tap.watched:
            no_gate = f"the activation in front of {call.path} is computed inside of its module"
        gate = "the same" if not tap.watched else f"output of {tap.gate}"
        if tap.formula is not None:
            gate = f"computed from the output of {', '.join(tap.sources)}"
        how = f"product: input of {tap.product}; gate: {'none' if no_gate else gate}"
        ignored: list[int] = []
        return FoundFFN(
            call.path,
            kind,
            tap.width,
            how,
            lambda parts: replace(tap, parts=parts, ignored=tuple(ignored)).install,
            no_gate=no_gate,
            ignored=ignored,
        )

    def _grouped(self, call: Call, feed: FFNInput, tap: DenseTap, group: Group) -> None:
        if group.around.path in self._found:
            found = self._found[group.around.path]
        else:
            found = self._found[group.around.path] = group_found(
                self.model, feed, replace(tap, rows=True), group
            )
        if all(each.call != group.around.order for each in found.passes):
            found.passes.append(Pass(call.block, group.around.order))

    def _count(self, found: FoundFFN, call: Call, channels: int) -> None:
        """Adds a pass where this call begins one; chunks of tokens make one pass together."""
        assert call.input is not None
        batch, tokens = self.trace.shape or (1, 1)
        rows = call.input.numel() // call.input.shape[channels]
        found.length = rows // batch
        if found.length in self.trace.shifts:
            rows = batch * tokens
        number, found.calls = found.calls, found.calls + 1
        if found.rows == 0 and found.passes and rows != batch * tokens and found.whole:
            # The network also serves states of no token (PEGASUS-X).
            found.ignored.append(number)
            return
        if found.rows == 0:
            found.passes.append(Pass(call.block, call.order))
        found.whole = found.whole and rows == batch * tokens
        found.rows += rows
        if found.rows == batch * tokens:
            found.rows = 0

    def _layout(self, call: Call) -> StateLayout:
        assert call.input is not None
        shape = call.input.shape
        batch, tokens = self.trace.shape or (0, 0)
        first = isinstance(call.module, nn.Conv1d)
        swapped = len(shape) == 3 and not first and shape[:2] == (tokens, batch) != (batch, tokens)
        length = shape[-1] if first else shape[1] if len(shape) == 3 else 0
        return StateLayout(first, swapped, self.trace.shifts.get(length, 0))


def _returns(call: Call, feed: FFNInput) -> bool:
    """Whether the layer leads back to where all its sources read: width to width, one tensor."""
    read = [source.inputs[0].root() for source in feed.sources]
    if any(each is not read[0] for each in read):
        # A low-rank path beside a projection (Zamba 2) begins where that does.
        read = [_origin(each) for each in read]
    came = feed.sources[0].inputs[0].value.shape[_channels(call.module)]
    went = call.output.shape[_channels(call.module)]
    return all(each is read[0] for each in read) and bool(came == went)


def _origin(node: Node) -> Node:
    while node.op == "linear":
        node = node.inputs[0].root()
    return node


def _gate_of(feed: FFNInput) -> tuple[str, Formula | None]:
    assert feed.gate is not None
    node: Node = feed.gate
    while not node.modules and node.keeps and node.inputs:
        node = node.inputs[0]
    return (node.modules[-1], None) if node.modules else ("", formula(feed.gate))


def _width(call: Call) -> int:
    assert call.input is not None
    return local(call.input).shape[_channels(call.module)]


def _channels(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.Conv1d) else -1


def _pooled(found: FoundFFN, tokens: int) -> str:
    return (
        f"a feed-forward network must run on every token, {found.path} runs on {found.length} "
        f"positions where there are {tokens} tokens (pooled, packed or latent); name those that "
        "do with neuron_modules="
    )


def _nothing(model: nn.Module) -> str:
    return (
        f"no feed-forward network found in {type(model).__name__}: no linear layer of a numbered "
        "block reads a pointwise non-linear function of other linear layers; say where its neurons "
        "are by neuron_modules="
    )
