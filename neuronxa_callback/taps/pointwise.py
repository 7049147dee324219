"""The operations of a feed-forward network, and how to compute one of its states again.

``trace_ffn_input`` walks backward from the input of a linear layer. If it finds only pointwise
operations on the outputs of linear layers that all read one tensor, and one of the operations is an
activation function, then the layer is a down projection. Its input, before any norm, is the
product; the factor of the product that contains the activation function is the gate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neuronxa_callback.taps.graph import CASTS, LAYOUT, Node, operation_names

SLICES = operation_names(
    "__getitem__ chunk split unbind narrow select tensor_split split_with_sizes"
)
TIMES = operation_names("mul __mul__ __rmul__ __imul__ mul_ multiply")
_LINEAR = operation_names(
    "add __add__ __radd__ __iadd__ add_ sub __sub__ __rsub__ rsub sub_ __isub__ div __truediv__ "
    "__rtruediv__ __itruediv__ div_ true_divide neg __neg__ addcmul"
)
_BOUNDS = operation_names("clamp clamp_ clip clamp_min clamp_max minimum maximum min max expm1")
_GATING_OPS = operation_names(
    "silu silu_ gelu relu relu_ sigmoid sigmoid_ erf hardswish mish relu6 selu celu elu leaky_relu "
    "softplus prelu hardsigmoid logsigmoid where threshold rrelu hardtanh softsign"
)
# A tanh alone may only bound a factor that has no activation function (softcapping).
_ACTIVATION_OPS = _GATING_OPS | operation_names("tanh tanh_")
# Not activation functions, but parts of their formulas and of norms.
_OTHER = operation_names(
    "square pow __pow__ pow_ exp abs sqrt rsqrt log log1p lt gt le ge __gt__ __lt__ __ge__ __le__ "
    "eq ne __eq__ __ne__ isinf isnan logical_or logical_and logical_not masked_fill"
)
POINTWISE = TIMES | _LINEAR | _BOUNDS | _ACTIVATION_OPS | _OTHER
# Over all neurons of a token: Gemma 3n keeps only the largest.
_OVER_NEURONS = operation_names("mean std var amax")
_IN_PLACE_OPERATORS = operation_names("iadd isub imul itruediv")

Slice = tuple[int, str]
"""A source: a linear layer's output (by identity) and the part of it that is read."""


class NotPointwise(Exception):  # noqa: N818
    """The backward walk reached an operation that feed-forward networks do not have."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self.node = node


@dataclass(frozen=True)
class FFNInput:
    """The computation between a down projection and the linear layers before it."""

    product: Node
    gate: Node | None
    """The factor of the product that contains the activation function; the product itself if the
    network is not gated; None if there is no activation function."""
    sources: tuple[Node, ...]
    """Outputs of the linear layers that the product is computed from."""
    norm: Node | None
    """The norm between the product and the down projection."""
    gate_sources: tuple[Node, ...] = ()
    """The sources that the gate is computed from."""

    @property
    def gated(self) -> bool:
        """Whether the gate is one factor of the product, not the whole product."""
        return self.gate is not None and self.gate is not self.product


def trace_ffn_input(layer_input: Node) -> FFNInput:
    """Walks backward from the input of a linear layer to the linear layers before it.

    Raises:
        NotPointwise: If the input is not a pointwise function of other linear layers' outputs.
    """
    product, norm = _before_norm(layer_input)
    walk = BackwardWalk()
    sources = walk.sources(product)
    if not sources:
        raise NotPointwise(product)
    gate = walk.gate(product)
    outputs = dict.fromkeys(walk.outputs[key] for key, _ in sources)
    of_gate = dict.fromkeys(walk.outputs[key] for key, _ in walk.sources(gate)) if gate else {}
    return FFNInput(product, gate, tuple(outputs), norm, tuple(of_gate))


def _before_norm(node: Node) -> tuple[Node, Node | None]:
    norm = None
    while (node.keeps_values or node.op == "norm") and node.inputs:
        norm = node if node.op == "norm" else norm
        node = node.inputs[0]
    return node, norm


class BackwardWalk:
    """A backward walk from one tensor; caches the sources of each node."""

    def __init__(self) -> None:
        self.outputs: dict[int, Node] = {}
        self._sources: dict[int, dict[Slice, None]] = {}

    def sources(self, node: Node) -> dict[Slice, None]:
        """The parts of linear layers' outputs that ``node`` is computed from, in order.

        Raises:
            NotPointwise: If another than a pointwise operation lies between them.
        """
        if id(node) not in self._sources:
            self._sources[id(node)] = self._find_sources(node)
        return self._sources[id(node)]

    def _find_sources(self, node: Node) -> dict[Slice, None]:
        if node.op == "linear":
            self.outputs[id(node)] = node
            return {(id(node), ""): None}
        if node.value.numel() == 1:
            return {}
        if node.op == "leaf":
            if isinstance(node.value, nn.Parameter) or node.value.ndim <= 1:
                return {}
            raise NotPointwise(node)
        if node.name in SLICES:
            inner = self.sources(node.inputs[0])
            return {(key, part + slice_text(node)): None for key, part in inner}
        if not (node.keeps_values or node.op == "module" or node.name in POINTWISE | _OVER_NEURONS):
            raise NotPointwise(node)
        sources: dict[Slice, None] = {}
        for part in node.inputs:
            sources |= self.sources(part)
        return sources

    def has_activation(self, node: Node, among: frozenset[str] = _ACTIVATION_OPS) -> bool:
        """Whether an activation function lies between the linear layers and ``node``."""
        if node.op in ("linear", "leaf"):
            return False
        return (
            node.op == "module"
            or node.name in among
            or any(self.has_activation(part, among) for part in node.inputs if self.sources(part))
        )

    def gate(self, node: Node) -> Node | None:
        """The factor with the activation function; ``node`` itself if it is not a gated product."""
        return self._factor(node) or (node if self.has_activation(node) else None)

    def _factor(self, node: Node) -> Node | None:
        if node.op == "linear":
            return None
        computed = [part for part in node.inputs if self.sources(part)]
        if node.name in TIMES and len(computed) == 2:
            one, other = computed
            if not self.sources(one).keys() & self.sources(other).keys():
                return self._activated(one, other)
        # A product that was scaled, cast or moved is still a product.
        return self._factor(computed[0]) if len(computed) == 1 else None

    def _activated(self, one: Node, other: Node) -> Node | None:
        for among in (_ACTIVATION_OPS, _GATING_OPS):
            sides = [side for side in (one, other) if self.has_activation(side, among)]
            if len(sides) == 1:
                return sides[0]
        return one if self.has_activation(one) else None


def slice_text(node: Node) -> str:
    """The part of its input that a slicing operation takes, as text."""
    return f"{node.name}{node.args[1:]}{dict(node.kwargs)}{node.index}"


Formula = Callable[[Mapping[str, Tensor]], Tensor]
"""Computes a state from the outputs of linear layers, by path."""


def formula(node: Node) -> Formula | None:
    """A function that repeats the operations behind ``node`` on the outputs of linear layers.

    Operations on the memory layout are left out, so the channels must stay last. ``None`` if an
    operation depends on more than its inputs' values.
    """
    if node.op == "linear":
        path = node.path
        return lambda outputs: outputs[path]
    if node.op == "leaf":
        value = node.value
        return lambda outputs: value
    if node.name in LAYOUT:
        before = node.inputs[0]
        same = before.value.shape[-1] == node.value.shape[-1]
        return formula(before) if same else None
    if node.op == "module" and node.module is not None:
        return _repeat(node, node.module)
    known = node.name in CASTS or node.name in SLICES or node.name in POINTWISE
    return (
        _repeat(node, node.op)
        if known and not isinstance(node.op, str) and not in_place(node)
        else None
    )


def in_place(node: Node) -> bool:
    """Whether the operation writes into its first input."""
    bare = node.name.strip("_")
    return node.name == f"{bare}_" or bare in _IN_PLACE_OPERATORS


def _repeat(node: Node, op: Any) -> Formula | None:
    parts = {id(part): formula(part) for part in node.inputs}
    if any(part is None for part in parts.values()):
        return None
    index, args, kwargs = node.index, _with_slots(node.args), _with_slots(dict(node.kwargs))

    def run(outputs: Mapping[str, Tensor]) -> Tensor:
        values = {key: part(outputs) for key, part in parts.items() if part is not None}
        out = op(*_fill(args, values), **_fill(kwargs, values))
        return out if index is None else out[index]  # type: ignore[no-any-return]

    return run


@dataclass(frozen=True)
class _Slot:
    key: int


def _with_slots(template: Any) -> Any:
    # Slots instead of nodes: a formula must not keep the tensors of the trace alive.
    if isinstance(template, Node):
        return _Slot(id(template))
    if isinstance(template, (tuple, list)):
        return tuple(_with_slots(item) for item in template)
    if isinstance(template, dict):
        return {key: _with_slots(item) for key, item in template.items()}
    return template


def _fill(template: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(template, _Slot):
        return values[template.key]
    if isinstance(template, tuple):
        return tuple(_fill(item, values) for item in template)
    if isinstance(template, dict):
        return {key: _fill(item, values) for key, item in template.items()}
    return template
