"""What a trace must know of one call: its sentences, its memory, whether it acts as a layer."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.taps.flow.operations import CONTRACTIONS, SUMS
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.modules import tensors_of


def is_single(args: Any, kwargs: Any) -> bool:
    """Whether the token ids are those of one sentence."""
    first = next(tensors_of((kwargs.get("input_ids"), args, kwargs)), None)
    return first is not None and first.ndim > 1 and first.shape[0] == 1


def token_ids(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The arguments that may be token ids, the most likely first."""
    named = [value for name, value in kwargs.items() if name.endswith("input_ids")]
    for ids in (kwargs.get("input_ids"), *args[:1], *named):
        if isinstance(ids, Tensor) and not ids.is_floating_point() and ids.ndim > 1:
            yield ids


def twice(value: Any) -> Any:
    """The arguments for two equal sentences instead of one."""
    if isinstance(value, Tensor):
        return torch.cat([value, value]) if value.ndim and value.shape[0] == 1 else value
    if type(value) in (tuple, list):
        return type(value)(twice(item) for item in value)
    if type(value) is dict:
        return {key: twice(item) for key, item in value.items()}
    return value


def storage(tensor: Tensor) -> int:
    """Identity of the memory that a tensor shares with its views."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (RuntimeError, NotImplementedError):
        return id(tensor)


def acts_as_linear(out: Node, source: Node) -> bool:
    """Whether ``out`` is ``source`` times a weight, plus weights."""
    node = out.root()
    while node.name in SUMS and len(node.inputs) == 2:
        states = [part for part in node.inputs if not part.constant]
        if len(states) != 1:
            return False
        node = states[0].root()
    if node.name not in CONTRACTIONS or out.value.ndim != source.value.ndim:
        return False
    states = [part for part in node.inputs if not part.constant]
    weights = [part for part in node.inputs if part.constant and part.root().path]
    same_rows = out.value.shape[:-1] == source.value.shape[:-1]
    return (
        len(states) == 1
        and bool(weights)
        and states[0].root() is source.root()
        and same_rows
        and all(part.value.ndim <= 2 for part in weights)
    )


def paths_of_weights(model: nn.Module, paths: Mapping[int, str]) -> dict[int, str]:
    """Identity of each parameter and buffer -> ``path:name``, given the paths of modules."""
    return {
        id(weight): f"{paths[id(module)]}:{name}"
        for module in model.modules()
        for name, weight in (*module._parameters.items(), *module._buffers.items())
        if weight is not None
    }


def path_of_weight(weight: Tensor, calls: Iterable[Call]) -> str:
    """``path:name`` of a weight of one of the running calls, or of its children; else empty.

    Weights that are gathered or loaded for one call are other objects than before it.
    """
    for call in calls:
        children = ((f".{name}", module) for name, module in call.module.named_children())
        for prefix, owner in (("", call.module), *children):
            for name, own in owner._parameters.items():
                if own is weight:
                    return f"{call.path}{prefix}:{name}"
    return ""
