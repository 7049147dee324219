"""A backward walk from one tensor to the linear layers that it is computed from."""

from typing import Any

from torch import nn

from neuronxa_callback.taps.flow.operations import (
    ACTIVATIONS,
    CONTRACTIONS,
    OVER_NEURONS,
    POINTWISE,
    SLICES,
    WEAK_ACTIVATIONS,
)
from neuronxa_callback.taps.graph import Node

Slice = tuple[int, str]
"""A source: a linear layer's output (by identity) and the part of it that is read."""


class NotPointwise(Exception):  # noqa: N818
    """The backward walk reached an operation that feed-forward networks do not have."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self.node = node


def is_projection(node: Node) -> bool:
    """Whether the tensor is the output of a linear layer, or of an operation that acts as one."""
    if node.op == "linear":
        return True
    if node.name not in CONTRACTIONS:
        return False
    states = [part for part in node.inputs if not part.constant]
    weights = [part for part in node.inputs if part.constant and part.value.ndim > 1]
    return len(states) == 1 and bool(weights)


def is_token_scalar(node: Node) -> bool:
    """Whether the tensor has one number per token that depends on the token."""
    return node.value.ndim > 1 and node.value.shape[-1] == 1 and not node.constant


class BackwardWalk:
    """A backward walk from one tensor; caches the sources of each node, and equal nodes."""

    def __init__(self) -> None:
        self.outputs: dict[int, Node] = {}
        self._sources: dict[int, dict[Slice, None]] = {}
        self._keys: dict[int, Any] = {}
        self._equal: dict[Any, Node] = {}

    def sources(self, node: Node) -> dict[Slice, None]:
        """The parts of linear layers' outputs that ``node`` is computed from, in order.

        One number per token (a routing weight, a norm's scale) counts as a constant.

        Raises:
            NotPointwise: If another than a pointwise operation lies between them.
        """
        if id(node) not in self._sources:
            self._sources[id(node)] = self._find_sources(node)
        return self._sources[id(node)]

    def _find_sources(self, node: Node) -> dict[Slice, None]:
        if node.value.numel() == 1 or node.constant or is_token_scalar(node):
            return {}
        if is_projection(node):
            self.outputs[id(node)] = node
            return {(id(node), ""): None}
        if node.op == "leaf":
            if isinstance(node.value, nn.Parameter) or node.value.ndim <= 1:
                return {}
            raise NotPointwise(node)
        if node.name in SLICES:
            inner = self.sources(node.inputs[0])
            return {(key, part + slice_text(node)): None for key, part in inner}
        known = node.op in ("module", "norm") or node.name in POINTWISE | OVER_NEURONS
        if not (node.keeps_values or known):
            raise NotPointwise(node)
        sources: dict[Slice, None] = {}
        for part in node.inputs:
            sources |= self.sources(part)
        return sources

    def has_activation(self, node: Node, weak: bool = True) -> bool:
        """Whether an activation function lies between the linear layers and ``node``.

        Args:
            node: The tensor.
            weak: Whether operations count that may also be a bound or a mask.
        """
        if is_projection(node) or node.op == "leaf" or not self.sources(node):
            return False
        return (
            node.op == "module"
            or node.name in ACTIVATIONS
            or (weak and node.name in WEAK_ACTIVATIONS)
            or any(self.has_activation(part, weak) for part in node.inputs)
        )

    def computed(self, node: Node) -> list[Node]:
        """The distinct inputs that come from linear layers; equal tensors count once."""
        if is_projection(node) or self.is_part(node):
            return []
        parts = (self.same(part) for part in node.inputs if self.sources(part))
        return list({id(part): part for part in parts}.values())

    def is_part(self, node: Node) -> bool:
        """Whether the tensor is one part of a linear layer's output."""
        while node.name in SLICES or node.keeps_values:
            node = node.inputs[0]
        return is_projection(node)

    def same(self, node: Node) -> Node:
        """The first tensor that is computed in the same way from the same tensors."""
        root = node.root()
        return self._equal.setdefault(self._key(root), root)

    def _key(self, node: Node) -> Any:
        if id(node) not in self._keys:
            self._keys[id(node)] = self._find_key(node)
        return self._keys[id(node)]

    def _find_key(self, node: Node) -> Any:
        if isinstance(node.op, str) or is_projection(node) or node.overwritten:
            return id(node.value) if node.op == "leaf" else id(node)
        try:
            if not self.sources(node) and not is_token_scalar(node):
                return id(node)
        except NotPointwise:
            return id(node)
        args = self._template(node.args)
        if node.name in ("mul", "__mul__", "multiply") and not node.kwargs:
            args = tuple(sorted(args, key=str))
        key = (node.name.strip("_"), args, self._template(dict(node.kwargs)), node.index)
        return hash(str(key))

    def _template(self, value: Any) -> Any:
        if isinstance(value, Node):
            return ("node", id(self.same(value)))
        if isinstance(value, (tuple, list)):
            return tuple(self._template(item) for item in value)
        if isinstance(value, dict):
            return tuple((key, self._template(item)) for key, item in sorted(value.items()))
        return repr(value)

    def spine(self, top: Node) -> list[Node]:
        """The tensors that everything from the linear layers to ``top`` passes, ``top`` first."""
        top = self.same(top)
        order, children = self._region(top)
        bit = {id(node): 1 << number for number, node in enumerate(order)}
        passed = {id(top): bit[id(top)]}
        for node in order:
            # All users come earlier in the order, so this set is complete.
            above = passed[id(node)] = passed[id(node)] | bit[id(node)]
            for child in children[id(node)]:
                passed[id(child)] = passed.get(id(child), above) & above
        ends = [node for node in order if not children[id(node)]]
        common = passed[id(ends[0])]
        for node in ends:
            common &= passed[id(node)]
        return [node for node in order if common & bit[id(node)]]

    def _region(self, top: Node) -> tuple[list[Node], dict[int, list[Node]]]:
        """All tensors between ``top`` and the linear layers, users before their inputs."""
        children: dict[int, list[Node]] = {}
        done: list[Node] = []
        waiting: list[tuple[Node, bool]] = [(top, False)]
        while waiting:
            node, complete = waiting.pop()
            if complete:
                done.append(node)
            elif id(node) not in children:
                children[id(node)] = self._children(node)
                waiting.append((node, True))
                waiting += [(child, False) for child in children[id(node)]]
        return done[::-1], children

    def _children(self, node: Node) -> list[Node]:
        # Parts of a sum of layers (Zamba 2) are sources of their own.
        if self.is_part(node) or (node.name in SLICES and not self.has_activation(node)):
            return []
        return self.computed(node)


def slice_text(node: Node) -> str:
    """The part of its input that a slicing operation takes, as text."""
    rest = tuple(_text(item) for item in node.args[1:])
    return (
        f"{node.name}{rest}{ {key: _text(item) for key, item in node.kwargs.items()} }{node.index}"
    )


def _text(value: Any) -> str:
    return f"tensor {id(value.value)}" if isinstance(value, Node) else repr(value)
