"""Refuses feed-forward networks that run, but that no hook can read."""

from collections.abc import Collection

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.flow.operations import CONTRACTIONS
from neuronxa_callback.taps.flow.structure import analyze
from neuronxa_callback.taps.flow.use import Use, data_of
from neuronxa_callback.taps.flow.walk import NotPointwise
from neuronxa_callback.taps.graph import Node
from neuronxa_callback.taps.modules import is_list_entry


def refuse_unread_networks(use: Use, found: Collection[str]) -> None:
    """Refuses networks whose down projection is an operation on weights instead of a module.

    Raises:
        TapError: If there is one in a block; names its module.
    """
    results = {id(call.result.value) for call in use.trace.calls if call.result is not None}
    for node in use.trace.recorded:
        if node.name not in CONTRACTIONS or node.op == "linear" or id(node.value) in results:
            continue
        if _in_block(node.within) and not _is_read(node.within, found) and _is_down(node):
            raise TapError(
                f"a feed-forward network in {node.within} uses the weights of its down projection "
                f"without calling a module ({node.name}), so that no hook can read its neurons; "
                "pass the networks that can be read as neuron_modules="
            )


def _is_read(path: str, found: Collection[str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in found)


def _in_block(path: str) -> bool:
    names = path.split(".")
    return any(is_list_entry(".".join(names[: end + 1])) for end in range(len(names)))


def _is_down(node: Node) -> bool:
    """Whether it maps an activated function of layers back to the width that they read."""
    weights = [part for part in node.inputs if part.constant and part.value.ndim > 1]
    states = [part for part in node.inputs if not part.constant]
    if not weights or not states:
        return False
    for state in states:
        try:
            found = analyze(state)
            if not found.activated or not found.sources:
                continue
            read = {id(data_of(source).root()) for source in found.sources}
        except NotPointwise:
            continue
        width = data_of(found.sources[0]).value.shape[-1]
        if len(read) == 1 and node.value.shape[-1] == width:
            return True
    return False
