"""Which operations make up a feed-forward network, and how a state is computed again.

``feeding`` walks back from the input of a linear layer. Where it meets nothing but pointwise
operations on the outputs of linear layers that all read one tensor, with an activation function
among them, the layer is a down projection. Its input, before any norm, is the product; the factor
of the product that holds the activation function is the gate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neuronxa_callback.taps.trace import CASTS, LAYOUT, Node, names

SLICES = names("__getitem__ chunk split unbind narrow select tensor_split split_with_sizes")
TIMES = names("mul __mul__ __rmul__ __imul__ mul_ multiply")
_LINEAR = names(
    "add __add__ __radd__ __iadd__ add_ sub __sub__ __rsub__ rsub sub_ __isub__ div __truediv__ "
    "__rtruediv__ __itruediv__ div_ true_divide neg __neg__ addcmul"
)
_BOUNDS = names("clamp clamp_ clip clamp_min clamp_max minimum maximum min max expm1")
_GATING = names(
    "silu silu_ gelu relu relu_ sigmoid sigmoid_ erf hardswish mish relu6 selu celu elu leaky_relu "
    "softplus prelu hardsigmoid logsigmoid where threshold rrelu hardtanh softsign"
)
# A tanh alone may be a mere bound on a factor that has no activation function (softcapping).
_CURVED = _GATING | names("tanh tanh_")
# No activation functions in themselves; parts of their formulas, and of norms.
_OTHER = names(
    "square pow __pow__ pow_ exp abs sqrt rsqrt log log1p lt gt le ge __gt__ __lt__ __ge__ __le__ "
    "eq ne __eq__ __ne__ isinf isnan logical_or logical_and logical_not masked_fill"
)
POINTWISE = TIMES | _LINEAR | _BOUNDS | _CURVED | _OTHER
# Over all neurons of a token, as where only the largest pass (Gemma 3n).
_OVERALL = names("mean std var amax")
_WRITTEN = names("iadd isub imul itruediv")

Slice = tuple[int, str]
"""One source: a linear layer's output (by identity) and which part of it."""


class NotPointwise(Exception):  # noqa: N818
    """The walk back met something that no feed-forward network has there."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name)
        self.node = node


@dataclass(frozen=True)
class FFNInput:
    """What feeds a down projection."""

    product: Node
    gate: Node | None
    """The factor of the product with the activation function; the product where there is one."""
    sources: tuple[Node, ...]
    """Outputs of the linear layers it all comes from."""
    norm: Node | None
    """The norm between the product and the down projection."""
    behind_gate: tuple[Node, ...] = ()
    """Those sources that the gate comes from."""

    @property
    def gated(self) -> bool:
        """Whether the gate is but one factor of the product."""
        return self.gate is not None and self.gate is not self.product


def trace_ffn_input(entering: Node) -> FFNInput:
    """What feeds the linear layer that ``entering`` goes into.

    Raises:
        NotPointwise: If that is no function, neuron by neuron, of other linear layers.
    """
    product, norm = _strip(entering)
    walk = BackwardWalk()
    sources = walk.sources(product)
    if not sources:
        raise NotPointwise(product)
    gate = walk.gate(product)
    outputs = dict.fromkeys(walk.outputs[key] for key, _ in sources)
    behind = dict.fromkeys(walk.outputs[key] for key, _ in walk.sources(gate)) if gate else {}
    return FFNInput(product, gate, tuple(outputs), norm, tuple(behind))


def _strip(node: Node) -> tuple[Node, Node | None]:
    norm = None
    while (node.keeps or node.op == "norm") and node.inputs:
        norm = node if node.op == "norm" else norm
        node = node.inputs[0]
    return node, norm


class BackwardWalk:
    """One walk back from a tensor; remembers what was found under each node."""

    def __init__(self) -> None:
        self.outputs: dict[int, Node] = {}
        self._under: dict[int, dict[Slice, None]] = {}

    def sources(self, node: Node) -> dict[Slice, None]:
        """The parts of linear layers' outputs that ``node`` is computed from, in order.

        Raises:
            NotPointwise: If there is anything else than pointwise operations on the way.
        """
        if id(node) not in self._under:
            self._under[id(node)] = self._find(node)
        return self._under[id(node)]

    def _find(self, node: Node) -> dict[Slice, None]:
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
            return {(key, part + sliced(node)): None for key, part in inner}
        if not (node.keeps or node.op == "module" or node.name in POINTWISE | _OVERALL):
            raise NotPointwise(node)
        found: dict[Slice, None] = {}
        for each in node.inputs:
            found |= self.sources(each)
        return found

    def curved(self, node: Node, among: frozenset[str] = _CURVED) -> bool:
        """Whether there is an activation function between the linear layers and ``node``."""
        if node.op in ("linear", "leaf"):
            return False
        return (
            node.op == "module"
            or node.name in among
            or any(self.curved(each, among) for each in node.inputs if self.sources(each))
        )

    def gate(self, node: Node) -> Node | None:
        """The factor with the activation function; ``node`` itself where nothing is gated."""
        return self._factor(node) or (node if self.curved(node) else None)

    def _factor(self, node: Node) -> Node | None:
        if node.op == "linear":
            return None
        live = [each for each in node.inputs if self.sources(each)]
        if node.name in TIMES and len(live) == 2:
            one, other = live
            if not self.sources(one).keys() & self.sources(other).keys():
                return self._chosen(one, other)
        # A scaled, cast or moved product is a product.
        return self._factor(live[0]) if len(live) == 1 else None

    def _chosen(self, one: Node, other: Node) -> Node | None:
        for among in (_CURVED, _GATING):
            sides = [each for each in (one, other) if self.curved(each, among)]
            if len(sides) == 1:
                return sides[0]
        return one if self.curved(one) else None


def sliced(node: Node) -> str:
    """Which part of its input a slice is, as text."""
    return f"{node.name}{node.args[1:]}{dict(node.kwargs)}{node.index}"


Formula = Callable[[Mapping[str, Tensor]], Tensor]
"""From the outputs of linear layers, by path, to a state."""


def formula(node: Node) -> Formula | None:
    """The operations that made ``node``, to be done again on the outputs of linear layers.

    Where a tensor lies in memory is left out, so that the channels must stay last; ``None`` where
    an operation depends on more than that.
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
        return _applied(node, node.module)
    known = node.name in CASTS or node.name in SLICES or node.name in POINTWISE
    return (
        _applied(node, node.op)
        if known and not isinstance(node.op, str) and not in_place(node)
        else None
    )


def in_place(node: Node) -> bool:
    """Whether the operation writes into its first input."""
    bare = node.name.strip("_")
    return node.name == f"{bare}_" or bare in _WRITTEN


def _applied(node: Node, op: Any) -> Formula | None:
    parts = {id(each): formula(each) for each in node.inputs}
    if any(each is None for each in parts.values()):
        return None
    index, args, kwargs = node.index, _keyed(node.args), _keyed(dict(node.kwargs))

    def run(outputs: Mapping[str, Tensor]) -> Tensor:
        values = {key: part(outputs) for key, part in parts.items() if part is not None}
        out = op(*_filled(args, values), **_filled(kwargs, values))
        return out if index is None else out[index]  # type: ignore[no-any-return]

    return run


@dataclass(frozen=True)
class _Hole:
    key: int


def _keyed(template: Any) -> Any:
    # Holes instead of nodes: a formula must not keep the trace's tensors alive.
    if isinstance(template, Node):
        return _Hole(id(template))
    if isinstance(template, (tuple, list)):
        return tuple(_keyed(each) for each in template)
    if isinstance(template, dict):
        return {key: _keyed(each) for key, each in template.items()}
    return template


def _filled(template: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(template, _Hole):
        return values[template.key]
    if isinstance(template, tuple):
        return tuple(_filled(each, values) for each in template)
    if isinstance(template, dict):
        return {key: _filled(each, values) for key, each in template.items()}
    return template
