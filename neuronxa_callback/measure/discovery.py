"""From the trace of one forward pass to the feed-forward networks in it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

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
    tensors_of,
)
from neuronxa_callback.measure.reading import DenseTap, Install, Layout

Override = str | Callable[[nn.Module], Iterable[str] | Mapping[str, str]] | None

# Shaped like feed-forward networks, but not on the way from token to token.
_NOT_NEURONS = re.compile(r"router|norm|adapter|(^|\.)gate\.|per_layer_|hyper", re.IGNORECASE)


@dataclass(frozen=True)
class Pass:
    """One time that a feed-forward network reads all tokens."""

    block: tuple[str, int]
    """The block around it, and its how-manieth run this is."""
    call: int
    """Order among all calls of the trace."""
    key: tuple[int, int] = (0, 0)
    """Order among all layers: the layer's own, then the call."""
    label: int | str = 0


@dataclass
class Found:
    """One feed-forward network, with all its passes."""

    path: str
    kind: str
    width: int
    how: str
    passes: list[Pass]
    place: Callable[[tuple[int, ...]], Install]
    """Given its parts in order, what puts the hooks on."""
    experts: int = 0


def find(trace: Trace, model: nn.Module, override: Override, stack: str) -> list[Found]:
    """Every feed-forward network of the trace, its passes labelled by layer.

    Raises:
        TapError: If there is none, or one that cannot be read.
    """
    given = _given(override, model)
    found = _dense(trace, given)
    found = _of_stack(found, model, stack)
    if not found:
        raise TapError(_nothing(trace, model, override))
    _label(found, model, stack)
    return found


def _given(override: Override, model: nn.Module) -> dict[str, str] | None:
    """Down projections as the user names them, each with its gate's module or ``""``."""
    if override is None:
        return None
    if isinstance(override, str):
        pattern, modules = re.compile(override), named(model)
        return {path: "" for path, m in modules.items() if pattern.search(path) and is_linear(m)}
    named_ = override(model)
    if isinstance(named_, Mapping):
        return {clean(path): clean(gate) for path, gate in named_.items()}
    return dict.fromkeys((clean(path) for path in named_), "")


def _dense(trace: Trace, given: dict[str, str] | None) -> list[Found]:
    taps: dict[str, Found] = {}
    for order, call in enumerate(trace.calls):
        if not is_linear(call.module) or call.source is None:
            continue
        if given is not None and call.path not in given:
            continue
        if call.path in taps:
            taps[call.path].passes += _passes(trace, call, order, taps[call.path])
            continue
        feed = _feed(call, given)
        if feed is not None:
            gate = given[call.path] if given else ""
            taps[call.path] = _found(trace, call, order, feed, gate)
    return [each for each in taps.values() if each.passes]


def _feed(call: Call, given: dict[str, str] | None) -> Feed | None:
    """What feeds this call, where it is that of a down projection."""
    assert call.source is not None
    try:
        feed = feeding(call.source)
    except NotPointwise:
        if given is None:
            return None
        return Feed(call.source.root(), None, (), None)
    if given is not None:
        return feed
    if feed.gate is None or not numbered(call.block[0]) or _NOT_NEURONS.search(call.path):
        return None
    read = [source.inputs[0].root() for source in feed.sources]
    same = all(each is read[0] for each in read)
    width = call.output.shape[_channels(call.module)]
    first = feed.sources[0].inputs[0]
    return feed if same and width == first.value.shape[_channels(call.module)] else None


def _channels(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.Conv1d) else -1


def _passes(trace: Trace, call: Call, order: int, known: Found) -> list[Pass]:
    return [Pass(call.block, order)]


def _found(trace: Trace, call: Call, order: int, feed: Feed, gate: str) -> Found:
    width = feed.product.value.shape[_channels(call.module)]
    gate_path, redo = _gate_of(feed, gate)
    linears = tuple(dict.fromkeys(source.path for source in feed.sources))
    where = feed.norm.path if feed.norm is not None else call.path
    kind = "plain" if not feed.gated else "fused" if len(feed.sources) == 1 else "gated"
    layout = _layout(trace, call)

    def place(parts: tuple[int, ...]) -> Install:
        return DenseTap(
            path=call.path,
            parts=parts,
            product=where,
            gate=gate_path,
            formula=redo,
            sources=linears if redo else (),
            width=width,
            overwritten=feed.gate is not None and feed.gate.overwritten,
            layout=layout,
        ).install

    return Found(call.path, kind, width, "", [Pass(call.block, order)], place)


def _gate_of(feed: Feed, given: str) -> tuple[str, Formula | None]:
    if given or not feed.gated:
        return given, None
    assert feed.gate is not None
    node: Node = feed.gate
    while not node.modules and node.keeps and node.inputs:
        node = node.inputs[0]
    if node.modules:
        return node.modules[-1], None
    return "", formula(feed.gate)


def _layout(trace: Trace, call: Call) -> Layout:
    assert call.source is not None
    shape = call.source.value.shape
    batch, tokens = trace.shape or (0, 0)
    first = isinstance(call.module, nn.Conv1d)
    swapped = len(shape) == 3 and not first and shape[:2] == (tokens, batch) != (batch, tokens)
    front = trace.shifts.get(shape[-1] if first else shape[1], 0) if len(shape) == 3 else 0
    return Layout(first, swapped, front)


def _of_stack(found: list[Found], model: nn.Module, stack: str) -> list[Found]:
    return found


def _label(found: Sequence[Found], model: nn.Module, stack: str) -> None:
    blocks = dict.fromkeys(
        each.block for each in sorted((p for f in found for p in f.passes), key=lambda p: p.call)
    )
    numbers = [int(path.rpartition(".")[2]) for path, _ in blocks]
    plain = len(set(numbers)) == len(numbers)
    labels = dict(zip(blocks, numbers if plain else range(len(blocks)), strict=True))
    order = {block: k for k, block in enumerate(sorted(blocks, key=lambda b: labels[b]))}
    for each in found:
        each.passes = [
            Pass(p.block, p.call, (order[p.block], p.call), labels[p.block]) for p in each.passes
        ]


def _nothing(trace: Trace, model: nn.Module, override: Override) -> str:
    return f"no feed-forward network found in {type(model).__name__}"
