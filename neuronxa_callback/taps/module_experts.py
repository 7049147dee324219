"""Experts that are separate modules: which modules form one set, and which input has the tokens.

Experts that cannot be read are refused by name, so that they are never left out silently.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.expert_hooks import ExpertGroupTap
from neuronxa_callback.taps.graph import Call, Node, operation_names
from neuronxa_callback.taps.hooks import DenseTap
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import is_linear, is_list_entry, modules_by_path
from neuronxa_callback.taps.pointwise import FFNInput, Formula
from neuronxa_callback.taps.trace import Trace

_ROW_SELECTIONS = ("__getitem__", "index_select")
_LOOKUPS = ("embedding", "embedding_bag")
_RANKINGS = operation_names("topk argmax argsort sort max multinomial")


@dataclass(frozen=True)
class ExpertGroup:
    """A set of experts that get rows instead of all tokens."""

    around: Call
    """The module around the experts, whose input is all tokens."""
    expert: Call | None
    """One of the experts; ``None`` if one call gets the rows of all experts."""


def expert_group(call: Call, ffn_input: FFNInput) -> ExpertGroup | None:
    """The group of experts that this call belongs to; ``None`` if it reads all tokens."""
    if not ffn_input.sources:
        return None
    read = ffn_input.sources[0].inputs[0].root()
    if hasattr(call.module, "input_size"):
        return ExpertGroup(call.outer[-1], None)
    if read.name not in _ROW_SELECTIONS or len(read.inputs) < 2:
        return None
    for depth in range(len(call.outer) - 1, 0, -1):
        if re.search(r"\d+$", call.outer[depth].path):
            return ExpertGroup(call.outer[depth - 1], call.outer[depth])
    return None


def experts_of_group(
    model: nn.Module, ffn_input: FFNInput, tap: DenseTap, group: ExpertGroup
) -> FoundFFN:
    """All experts of the group as one set of neurons; ``tap`` reads one of them."""
    source, tap = ffn_input.sources[0], replace(tap, rows=True)
    taps: tuple[DenseTap, ...] = (tap,)
    row_modules: tuple[str, ...] = (source.path,)
    if group.expert is None:
        count = int(getattr(source.module, "num_experts", 1))
    else:
        siblings = _siblings(model, group.expert)
        count = len(siblings)
        old = group.expert.path
        taps = tuple(_moved(tap, old, new) for new in siblings)
        row_modules = tuple(_move(source.path, old, new) for new in siblings)
    around = group.around.path
    return FoundFFN(
        around,
        "routed",
        count * tap.width,
        f"rows of {count} experts, matched with the tokens that {around} is given",
        ExpertGroupTap(around, taps, row_modules),
        experts=count,
    )


def _siblings(model: nn.Module, expert: Call) -> list[str]:
    head = re.sub(r"\d+$", "", expert.path)
    paths = [
        path
        for path, module in modules_by_path(model).items()
        if re.fullmatch(re.escape(head) + r"\d+", path) and type(module) is type(expert.module)
    ]
    return sorted(paths, key=lambda path: int(path[len(head) :]))


def _move(path: str, old: str, new: str) -> str:
    return path.replace(old + ".", new + ".", 1)


def _moved(tap: DenseTap, old: str, new: str) -> DenseTap:
    """The tap of the expert at ``old``, for the expert at ``new``."""
    sources = {source: _move(source, old, new) for source in tap.sources}
    return replace(
        tap,
        path=_move(tap.path, old, new),
        product=_move(tap.product, old, new),
        gate=_move(tap.gate, old, new),
        sources=tuple(sources.values()),
        formula=None if tap.formula is None else _RenamedFormula(tap.formula, sources),
        projections=tuple((_move(path, old, new), size) for path, size in tap.projections),
    )


@dataclass(frozen=True)
class _RenamedFormula:
    """A formula on the outputs of other layers."""

    formula: Formula
    names: Mapping[str, str]
    """Path in the formula -> path of the layer."""

    def __call__(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return self.formula({name: outputs[path] for name, path in self.names.items()})


def refuse_unread_experts(trace: Trace, found: Collection[str]) -> None:
    """Refuses experts that ran but are not in ``found``; otherwise they would go unnoticed.

    Raises:
        TapError: If there are such experts; names the first.
    """
    for call in trace.calls:
        inside = any(path.startswith(call.path) for path in found)
        around = any(call.path.startswith(f"{path}.") for path in found)
        is_named_expert = re.search(r"experts?$", type(call.module).__name__.lower())
        if is_named_expert and is_list_entry(call.block[0]) and not (inside or around):
            if is_linear(call.module) or not any(True for _ in call.module.parameters()):
                continue
            raise TapError(
                f"experts must be one module with 3-D weights or separate modules, but {call.path} "
                f"({type(call.module).__name__}) is neither (packed weights?); load the model "
                "dequantized, or pass the networks that can be read as neuron_modules="
            )
    if picker := _module_of_retrieval(trace.nodes()):
        raise TapError(
            "experts must be linear layers or 3-D weights, but each token of "
            f"{picker} selects single neurons from a table of rows (retrieved experts, product "
            "keys); pass the networks that can be read as neuron_modules="
        )


def _module_of_retrieval(nodes: Iterable[Node]) -> str:
    """The module in which states rank rows of a table of weights; empty if there is none.

    Token ids, positions and distances are lookups too, but their indices are no ranking of states.
    """
    for node in nodes:
        if node.name not in _LOOKUPS + _ROW_SELECTIONS:
            continue
        is_lookup = node.name in _LOOKUPS
        table = any(_is_table(part.root(), is_lookup) for part in node.inputs)
        if table and any(_is_ranking(part) for part in node.inputs):
            return node.within
    return ""


def _is_table(node: Node, is_lookup: bool) -> bool:
    # Rows are also selected from states, which are leaves if a kernel computed them.
    weights = node.op == "leaf" and (is_lookup or isinstance(node.value, nn.Parameter))
    return weights and node.value.ndim > 1 and node.value.is_floating_point()


def _is_ranking(node: Node) -> bool:
    """Whether these integers come from sorting states."""
    waiting, seen = [node], set[int]()
    while waiting:
        current = waiting.pop()
        if current.value.is_floating_point() or id(current) in seen:
            continue
        seen.add(id(current))
        if current.name in _RANKINGS and any(
            part.value.is_floating_point() for part in current.inputs
        ):
            return True
        waiting += current.inputs
    return False
