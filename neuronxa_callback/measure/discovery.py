"""From one forward pass to the feed-forward networks that ran in it, and how each is read."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.measure.algebra import Feed, Formula, NotPointwise, feeding, formula
from neuronxa_callback.measure.dataflow import (
    Call,
    Node,
    Trace,
    clean,
    is_linear,
    named,
    numbered,
)
from neuronxa_callback.measure.experts import Recipe, is_experts, recipe
from neuronxa_callback.measure.fused import Guess, guessed, uncalled
from neuronxa_callback.measure.layers import Pass, labelled, stack_of
from neuronxa_callback.measure.reading import DenseTap, Install, Layout, RecomputedTap, local
from neuronxa_callback.measure.routed import ExpertsTap, GroupTap

Override = str | Callable[[nn.Module], Iterable[str] | Mapping[str, str]] | None

# Shaped like feed-forward networks, but not on the way from token to token.
_NOT_NEURONS = re.compile(r"router|norm|adapter|(^|\.)gate\.|per_layer_|hyper", re.IGNORECASE)
_ROWS = ("__getitem__", "index_select")


@dataclass
class Found:
    """One feed-forward network, or one set of routed experts, with all its passes."""

    path: str
    kind: str
    width: int
    how: str
    place: Callable[[tuple[int, ...]], Install]
    """Given its parts in order, what puts the hooks on."""
    passes: list[Pass] = field(default_factory=list)
    experts: int = 0
    no_gate: str = ""
    """Why the gate cannot be read; empty where it can."""
    rows: int = 0
    """Tokens read in the running pass."""
    calls: int = 0
    length: int = 0
    """Positions in the latest call."""
    whole: bool = True
    """Whether each pass so far was one call with all tokens."""
    ignored: list[int] = field(default_factory=list)
    """Which calls are not for tokens."""


class Discovery:
    """Watches one forward pass; ``found`` is what it was."""

    def __init__(self, model: nn.Module, override: Override, stack: str) -> None:
        self.model, self.stack = model, stack
        self.trace = Trace(model, self._leaving)
        self.given, self.by_pattern = _given(override, model), isinstance(override, str)
        self.recipes: dict[str, Recipe] = {}
        self.guesses: dict[str, Guess] = {}
        self.failed: dict[str, TapError] = {}
        self._found: dict[str, Found] = {}

    def found(self) -> list[Found]:
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
        self._no_experts_left()
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

    def _no_experts_left(self) -> None:
        # Beside shared experts, unreadable routed ones would be left out in silence.
        for call in self.trace.calls if self.given is None else ():
            inside = any(path.startswith(call.path) for path in self._found)
            around = any(call.path.startswith(f"{path}.") for path in self._found)
            named_so = re.search(r"experts?$", type(call.module).__name__.lower())
            if named_so and numbered(call.block[0]) and not (inside or around):
                if is_linear(call.module) or not any(True for _ in call.module.parameters()):
                    continue
                raise TapError(
                    f"experts must be one module with 3-D weights, or modules of their own, "
                    f"{call.path} ({type(call.module).__name__}) is neither (packed weights?); "
                    "load the model dequantised, or name what can be read with neuron_modules="
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
                guess = uncalled(call, self.trace.calls)
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
            Found(
                call.path,
                "routed",
                cooked.experts * cooked.width,
                "computed from the input of the experts, for the rows that are routed",
                lambda parts: ExpertsTap(call.path, parts, cooked).install,
                experts=cooked.experts,
            ),
        )
        found.passes.append(Pass(call.block, call.order))

    def _recomputed(self, call: Call, guess: Guess) -> None:
        found = self._found.setdefault(
            call.path,
            Found(
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
        if group := _group(call, feed):
            self._grouped(call, feed, tap, group)
            return
        found = self._described(call, feed, tap)
        self._found[call.path] = found
        self._count(found, call, _channels(call.module))

    def _feed(self, call: Call) -> tuple[Feed | None, tuple[Formula, str] | None]:
        assert call.source is not None
        if self.given is None and (
            not numbered(call.block[0])
            or _NOT_NEURONS.search(call.path.removeprefix(call.block[0])) is not None
        ):
            return None, None
        try:
            feed = feeding(call.source)
        except NotPointwise as error:
            found = guessed(call, self.trace.calls) if error.node.unknown else None
            if found is not None:
                return found
            bare = Feed(call.source.root(), None, (), None)
            return (bare, None) if self.given is not None else (None, None)
        if self.given is None and (feed.gate is None or not _returns(call, feed)):
            return None, None
        return feed, None

    def _tap(self, call: Call, feed: Feed, redo: tuple[Formula, str] | None) -> DenseTap:
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

    def _described(self, call: Call, feed: Feed, tap: DenseTap) -> Found:
        kind = "plain" if not feed.gated else "fused" if len(feed.sources) == 1 else "gated"
        no_gate = ""
        if (feed.gate is None or feed.gated) and not tap.watched:
            no_gate = f"the activation in front of {call.path} is computed inside of its module"
        gate = "the same" if not tap.watched else f"output of {tap.gate}"
        if tap.formula is not None:
            gate = f"computed from the output of {', '.join(tap.sources)}"
        how = f"product: input of {tap.product}; gate: {'none' if no_gate else gate}"
        ignored: list[int] = []
        return Found(
            call.path,
            kind,
            tap.width,
            how,
            lambda parts: replace(tap, parts=parts, ignored=tuple(ignored)).install,
            no_gate=no_gate,
            ignored=ignored,
        )

    def _grouped(self, call: Call, feed: Feed, tap: DenseTap, group: "_Group") -> None:
        if group.around.path in self._found:
            found = self._found[group.around.path]
        else:
            found = self._found[group.around.path] = _group_found(
                self.model, feed, replace(tap, rows=True), group
            )
        if all(each.call != group.around.order for each in found.passes):
            found.passes.append(Pass(call.block, group.around.order))

    def _count(self, found: Found, call: Call, channels: int) -> None:
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

    def _layout(self, call: Call) -> Layout:
        assert call.input is not None
        shape = call.input.shape
        batch, tokens = self.trace.shape or (0, 0)
        first = isinstance(call.module, nn.Conv1d)
        swapped = len(shape) == 3 and not first and shape[:2] == (tokens, batch) != (batch, tokens)
        length = shape[-1] if first else shape[1] if len(shape) == 3 else 0
        return Layout(first, swapped, self.trace.shifts.get(length, 0))


@dataclass(frozen=True)
class _Group:
    around: Call
    """The module around the experts, which is given all tokens."""
    expert: Call | None
    """One expert; ``None`` where one call holds the rows of all."""


def _group(call: Call, feed: Feed) -> _Group | None:
    """The experts that this call belongs to, where it reads only some of the tokens' rows."""
    if not feed.sources:
        return None
    read = feed.sources[0].inputs[0].root()
    if hasattr(call.module, "input_size"):
        return _Group(call.outer[-1], None)
    if read.name not in _ROWS or len(read.inputs) < 2:
        return None
    for place in range(len(call.outer) - 1, 0, -1):
        if re.search(r"\d+$", call.outer[place].path):
            return _Group(call.outer[place - 1], call.outer[place])
    return None


def _group_found(model: nn.Module, feed: Feed, tap: DenseTap, group: _Group) -> Found:
    first = feed.sources[0].path
    if group.expert is None:
        number = int(getattr(feed.sources[0].module, "num_experts", 1))
        taps, inward = (tap,), (first,)
    else:
        siblings = _siblings(model, group.expert)
        number = len(siblings)
        old = group.expert.path
        taps = tuple(_moved(tap, old, new) for new in siblings)
        inward = tuple(first.replace(old + ".", new + ".", 1) for new in siblings)
    around = group.around.path
    return Found(
        around,
        "routed",
        number * tap.width,
        f"rows of {number} experts, matched with the tokens that {around} is given",
        lambda parts: GroupTap(around, parts, taps, inward, number).install,
        experts=number,
    )


def _siblings(model: nn.Module, expert: Call) -> list[str]:
    head = re.sub(r"\d+$", "", expert.path)
    paths = [
        path
        for path, module in named(model).items()
        if re.fullmatch(re.escape(head) + r"\d+", path) and type(module) is type(expert.module)
    ]
    return sorted(paths, key=lambda path: int(path[len(head) :]))


def _moved(tap: DenseTap, old: str, new: str) -> DenseTap:
    def move(path: str) -> str:
        return path.replace(old + ".", new + ".", 1)

    redo = tap.formula
    renamed = {source: move(source) for source in tap.sources}

    def moved(outputs: Mapping[str, Tensor]) -> Tensor:
        assert redo is not None
        return redo({source: outputs[there] for source, there in renamed.items()})

    return replace(
        tap,
        path=move(tap.path),
        product=move(tap.product),
        gate=move(tap.gate),
        sources=tuple(renamed.values()),
        formula=None if redo is None else moved,
    )


def _returns(call: Call, feed: Feed) -> bool:
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


def _gate_of(feed: Feed) -> tuple[str, Formula | None]:
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


def _given(override: Override, model: nn.Module) -> dict[str, str] | None:
    """Down projections as the user names them, each with its gate's module or ``""``."""
    if override is None:
        return None
    modules = named(model)
    if isinstance(override, str):
        pattern = re.compile(override)
        fits = {path: "" for path, each in modules.items() if pattern.search(path)}
        found = {path: "" for path in fits if is_linear(modules[path]) or is_experts(modules[path])}
    else:
        answer: Any = override(model)
        pairs = answer.items() if isinstance(answer, Mapping) else ((path, "") for path in answer)
        found = {clean(path): clean(gate) for path, gate in pairs}
    unknown = [path for pair in found.items() for path in pair if path and path not in modules]
    if unknown or not found:
        what = f"{override!r} matches none" if not found else f"{unknown[0]!r} is none"
        raise TapError(
            f"neuron_modules must name down projections of {type(model).__name__}, {what} of them"
        )
    return found


def _pooled(found: Found, tokens: int) -> str:
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
