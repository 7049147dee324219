"""Experts that are modules of their own: which belong together, and whose input says the tokens.

And experts that nothing here can read: they are named, never left out in silence.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.expert_hooks import GroupTap
from neuronxa_callback.taps.hooks import DenseTap
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import is_linear, named, numbered
from neuronxa_callback.taps.pointwise import FFNInput
from neuronxa_callback.taps.trace import Call, Node, Trace, names

_ROWS = ("__getitem__", "index_select")
_LOOKUPS = ("embedding", "embedding_bag")
_RANKINGS = names("topk argmax argsort sort max multinomial")


@dataclass(frozen=True)
class Group:
    """Where experts were met that are given rows, not tokens."""

    around: Call
    """The module around the experts, which is given all tokens."""
    expert: Call | None
    """One expert; ``None`` where one call holds the rows of all."""


def group_of(call: Call, feed: FFNInput) -> Group | None:
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


def group_found(model: nn.Module, feed: FFNInput, tap: DenseTap, group: Group) -> FoundFFN:
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
    return FoundFFN(
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


def no_experts_left(trace: Trace, found: Collection[str]) -> None:
    """Experts that none of ``found`` accounts for are refused: beside others, nobody would notice.

    Raises:
        TapError: If there are such, by name.
    """
    for call in trace.calls:
        inside = any(path.startswith(call.path) for path in found)
        around = any(call.path.startswith(f"{path}.") for path in found)
        named_so = re.search(r"experts?$", type(call.module).__name__.lower())
        if named_so and numbered(call.block[0]) and not (inside or around):
            if is_linear(call.module) or not any(True for _ in call.module.parameters()):
                continue
            raise TapError(
                f"experts must be one module with 3-D weights, or modules of their own, "
                f"{call.path} ({type(call.module).__name__}) is neither (packed weights?); "
                "load the model dequantised, or name what can be read with neuron_modules="
            )
    if picked := _picked(trace.nodes()):
        raise TapError(
            "experts must be linear layers or 3-D weights, and the tokens of "
            f"{picked} pick theirs from the rows of a table, one neuron each (retrieved experts, "
            "product keys); name the feed-forward networks that can be read with neuron_modules="
        )


def _picked(nodes: Iterable[Node]) -> str:
    """Inside of which module states rank rows of weights to look up; empty where nowhere.

    Token ids, positions and distances look rows up as well, but no states ranked those.
    """
    for node in nodes:
        if node.name not in _LOOKUPS + _ROWS:
            continue
        looked_up = node.name in _LOOKUPS
        table = any(_is_table(each.root(), looked_up) for each in node.inputs)
        if table and any(_ranked(each) for each in node.inputs):
            return node.within
    return ""


def _is_table(node: Node, looked_up: bool) -> bool:
    # Rows are also taken from states, which may be leaves: a kernel made them.
    weights = node.op == "leaf" and (looked_up or isinstance(node.value, nn.Parameter))
    return weights and node.value.ndim > 1 and node.value.is_floating_point()


def _ranked(node: Node) -> bool:
    """Whether these whole numbers come from an order of states."""
    waiting, seen = [node], set[int]()
    while waiting:
        one = waiting.pop()
        if one.value.is_floating_point() or id(one) in seen:
            continue
        seen.add(id(one))
        if one.name in _RANKINGS and any(each.value.is_floating_point() for each in one.inputs):
            return True
        waiting += one.inputs
    return False
