"""Refuses experts that ran but cannot be read, so that they are never left out silently."""

import re
from collections.abc import Collection, Iterable

from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.flow.operations import RANKINGS
from neuronxa_callback.taps.graph import Node
from neuronxa_callback.taps.modules import is_linear, is_list_entry
from neuronxa_callback.taps.trace import Trace

_ROW_SELECTIONS = ("__getitem__", "index_select", "gather", "take_along_dim", "masked_select")
_LOOKUPS = ("embedding", "embedding_bag")


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
        if current.name in RANKINGS and any(
            part.value.is_floating_point() for part in current.inputs
        ):
            return True
        waiting += current.inputs
    return False
