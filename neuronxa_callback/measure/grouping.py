"""Experts that are modules of their own: which belong together, and whose input says the tokens."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from neuronxa_callback.measure.algebra import Feed
from neuronxa_callback.measure.dataflow import Call
from neuronxa_callback.measure.layers import Found
from neuronxa_callback.measure.modules import named
from neuronxa_callback.measure.reading import DenseTap
from neuronxa_callback.measure.routed import GroupTap

_ROWS = ("__getitem__", "index_select")


@dataclass(frozen=True)
class Group:
    """Where experts were met that are given rows, not tokens."""

    around: Call
    """The module around the experts, which is given all tokens."""
    expert: Call | None
    """One expert; ``None`` where one call holds the rows of all."""


def group_of(call: Call, feed: Feed) -> Group | None:
    """The experts that this call belongs to, where it reads only some of the tokens' rows."""
    if not feed.sources:
        return None
    read = feed.sources[0].inputs[0].root()
    if hasattr(call.module, "input_size"):
        return Group(call.outer[-1], None)
    if read.name not in _ROWS or len(read.inputs) < 2:
        return None
    for place in range(len(call.outer) - 1, 0, -1):
        if re.search(r"\d+$", call.outer[place].path):
            return Group(call.outer[place - 1], call.outer[place])
    return None


def group_found(model: nn.Module, feed: Feed, tap: DenseTap, group: Group) -> Found:
    """All experts of the group, as one set of neurons."""
    first = feed.sources[0].path
    taps: tuple[DenseTap, ...]
    inward: tuple[str, ...]
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
