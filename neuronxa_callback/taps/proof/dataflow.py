"""The data flow of one forward pass, as the proof of completeness reads it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import nn

from neuronxa_callback.taps.flow.operations import ACTIVATIONS, SLICES, TIMES, WEAK_ACTIVATIONS
from neuronxa_callback.taps.graph import Node, operation_names
from neuronxa_callback.taps.modules import up_to_first_number
from neuronxa_callback.taps.trace import Trace

PRODUCTS = operation_names(
    "linear matmul __matmul__ __rmatmul__ mm bmm addmm addbmm baddbmm einsum"
)
"""Products of matrices: a linear layer if one operand is a weight."""
ATTENTION = PRODUCTS | operation_names("scaled_dot_product_attention")
_FILTERS = operation_names(
    "cumsum conv1d conv2d fft fft2 rfft irfft ifft fft_fft fft_fft2 fft_rfft fft_irfft"
)
MIXES = _FILTERS | operation_names("cumprod logcumsumexp topk sort argsort embedding")
"""Operations that read other tokens, rank states or look something up; filters are linear."""
REORDERS = operation_names(
    "flip roll sort argsort gather take_along_dim index_select take masked_select "
    "repeat_interleave rot90 fliplr"
)
"""Operations that put tokens in another order."""
_SUMS = operation_names(
    "add __add__ __radd__ __iadd__ add_ index_add_ index_add scatter_add scatter_add_ sub "
    "__sub__ __rsub__ sub_ sum"
)
_LINEAR = (
    _SUMS
    | SLICES
    | TIMES
    | operation_names(
        "div __truediv__ div_ true_divide neg cat concat stack hstack vstack mean var std "
        "rsqrt sqrt norm index_select gather take_along_dim repeat_interleave "
        "expand repeat expand_as zeros zeros_like new_zeros empty_like empty flip roll pad "
        "copy_ __setitem__ index_copy_ index_put_ scatter scatter_ unfold"
    )
)
"""Operations of norms, and those that are linear in the states."""


@dataclass(frozen=True)
class Source:
    """What a linear layer's input is computed from."""

    linears: tuple[Node, ...]
    active: bool
    """Whether a non-linear function lies between."""
    mixed: bool
    """Whether other tokens are read between."""


class DataFlow:
    """The graph of a trace, with the consumers of each tensor."""

    def __init__(self, trace: Trace) -> None:
        self.nodes = list(_closure(trace.nodes()))
        self.shape = trace.shape or (1, 1)
        self.consumers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for part in node.inputs:
                self.consumers.setdefault(id(part), []).append(node)
        self._weights: dict[int, bool] = {}

    def linears(self) -> Iterator[Node]:
        """Every linear layer: a module, or a product with a weight."""
        return (node for node in self.nodes if self.is_linear(node))

    def is_linear(self, node: Node) -> bool:
        """Whether the node is a linear layer's output."""
        if node.op == "linear":
            return True
        if node.name not in PRODUCTS:
            return False
        kinds = [self.is_weight(part) for part in node.inputs if part.value.ndim > 1]
        return True in kinds and False in kinds

    def is_weight(self, node: Node) -> bool:
        """Whether the tensor is computed from parameters alone."""
        if id(node) not in self._weights:
            self._weights[id(node)] = False
            inputs = [part for part in node.inputs if part.value.numel() > 1]
            self._weights[id(node)] = (
                isinstance(node.value, nn.Parameter)
                if node.op == "leaf"
                else bool(inputs) and all(self.is_weight(part) for part in inputs)
            )
        return self._weights[id(node)]

    def data_of(self, linear: Node) -> Node:
        """The operand of a linear layer that is not a weight."""
        return next((p for p in linear.inputs if not self.is_weight(p)), linear.inputs[0])

    def source_of(self, node: Node, block: str) -> Source:
        """Walks backward from a tensor to the linear layers before it, inside of a block."""
        waiting, seen = [(node, False)], dict[int, bool]()
        linears: dict[int, Node] = {}
        active = mixed = False
        while waiting:
            current, after = waiting.pop()
            if seen.get(id(current), False) or (id(current) in seen and not after):
                continue
            seen[id(current)] = after
            if self.is_linear(current) and place_of(current).startswith(block):
                linears[id(current)] = current
                active = active or after
                continue
            # A number per token is a weight of the token, not a neuron.
            outside = not place_of(current).startswith(block)
            if outside or current.value.ndim == 0 or current.value.shape[-1] == 1:
                continue
            if current.name in ATTENTION:
                mixed = True
                continue
            mixed = mixed or (current.name in MIXES and current.value.is_floating_point())
            after = after or not self._is_linear_step(current)
            waiting += [(part, after) for part in current.inputs]
        return Source(tuple(linears.values()), active, mixed)

    def _is_linear_step(self, node: Node) -> bool:
        """Whether the operation is linear in the states: a norm is."""
        if node.name in TIMES:
            return sum(p.value.ndim > 1 and p.value.shape[-1] > 1 for p in self._data(node)) < 2
        return node.keeps_values or node.op == "norm" or node.name in _LINEAR | _FILTERS

    def _data(self, node: Node) -> list[Node]:
        return [part for part in node.inputs if not self.is_weight(part)]

    def returns(self, node: Node, hidden: Collection[int]) -> bool:
        """Whether a linear layer's output, bounded or not, is added to states of such a width."""
        waiting, seen = [node], {id(node)}
        while waiting:
            current = waiting.pop()
            for user in self.consumers.get(id(current), ()):
                if id(user) in seen:
                    continue
                seen.add(id(user))
                if user.value.ndim == 0 or not user.value.is_floating_point():
                    continue
                if self._adds(user, current) and user.value.shape[-1] in hidden:
                    return True
                bounds = user.name in ACTIVATIONS | WEAK_ACTIVATIONS
                if bounds or self._passes(user, current):
                    waiting.append(user)
        return False

    def _adds(self, user: Node, current: Node) -> bool:
        """Whether the operation adds other states."""
        others = [p for p in user.inputs if p is not current]
        data = [p for p in others if p.value.ndim > 1 and not self.is_weight(p)]
        return user.name in _SUMS and user.name != "sum" and bool(data)

    def _passes(self, user: Node, current: Node) -> bool:
        """Whether the states go on, scaled or moved, and not as a factor of other states."""
        if user.name in TIMES:
            others = [p for p in user.inputs if p is not current]
            return all(
                p.value.ndim == 0 or p.value.shape[-1] == 1 or self.is_weight(p) for p in others
            )
        if self.is_linear(user):
            return user.op != "linear" or user.inputs[0] is current
        return user.keeps_values or user.op == "norm" or user.name in _LINEAR

    def token_rows(self, node: Node) -> bool:
        """Whether rows are tokens in their order, along at least one path to a linear layer."""
        waiting, seen = [node], set[int]()
        while waiting:
            current = waiting.pop()
            if id(current) in seen or self.is_weight(current):
                continue
            seen.add(id(current))
            if self.is_linear(current) or current.op == "leaf" or current.name == "embedding":
                return True
            if current.name in PRODUCTS and current.value.shape[: len(self.shape)] == self.shape:
                return True
            if current.name in REORDERS or current.name in PRODUCTS or _selects_rows(current):
                continue
            size = max((part.value.numel() for part in current.inputs), default=0)
            waiting += [part for part in current.inputs if part.value.numel() == size]
        return False

    def users(self, node: Node) -> Iterator[tuple[Node, Node]]:
        """Operations that use a linear layer's output, scaled or moved; each with what it reads."""
        waiting, seen = [node], set[int]()
        while waiting:
            current = waiting.pop()
            for user in self.consumers.get(id(current), ()):
                if id(user) not in seen:
                    seen.add(id(user))
                    yield user, current
                    added = self._adds(user, current) and not user.name.startswith("index_add")
                    if self._passes(user, current) and not added and not self.is_linear(user):
                        waiting.append(user)


def place_of(node: Node) -> str:
    """The module in which a tensor was produced; empty for inputs and weights."""
    return node.path or node.within


def block_of(node: Node) -> str:
    """The path of the numbered block in which a tensor was produced; empty if in none."""
    return up_to_first_number(place_of(node))


def _selects_rows(node: Node) -> bool:
    return node.name == "__getitem__" and len(node.inputs) > 1


def rows_of(node: Node) -> Node:
    """The tensor whose rows these are."""
    while (node.keeps_values or _selects_rows(node) or node.name in REORDERS) and node.inputs:
        node = node.inputs[0]
    return node


def before_norm(node: Node) -> Node:
    """The states that a norm module, or nothing but a change of layout, gives."""
    while (node.keeps_values or node.op == "norm") and node.inputs:
        node = node.inputs[0]
    return node


def _closure(nodes: Iterator[Node]) -> Iterator[Node]:
    waiting, seen = list(nodes), set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += node.inputs
