"""Feed-forward networks with fused kernels, which cannot be traced.

Their formula is found by trying every activation function of a table on the weights; a formula is
used only if it reproduces the values that the model itself computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.modules import is_linear, is_list_entry
from neuronxa_callback.taps.pointwise import FFNInput, Formula

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": nn.functional.silu,
    "gelu_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "relu2": lambda x: nn.functional.relu(x).square(),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sigmoid": torch.sigmoid,
}
"""Activation functions for which fused kernels exist."""


@dataclass(frozen=True)
class KernelStates:
    """Computes gate and product of a module from its linear layers."""

    order: tuple[str, ...]
    """Names of the linear layers before the down projection, the gate's first."""
    fused: bool
    """Whether one layer computes both gate and up projection."""
    swap: bool
    """Whether the gate is the second half of a fused layer."""
    act: Activation

    def __call__(self, module: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and product [..., width] of ``hidden``."""
        outs = [module.get_submodule(name)(hidden) for name in self.order]
        if self.fused:
            outs = list(outs[0].chunk(2, dim=-1))
            outs = outs[::-1] if self.swap else outs
        gate = self.act(outs[0])
        return gate, gate * outs[1] if len(outs) == 2 else gate


@dataclass(frozen=True)
class KernelMatch:
    """The formula of a module that calls none of its linear layers."""

    kind: str
    width: int
    description: str
    states: KernelStates


@dataclass(frozen=True)
class KernelGate:
    """The gate of a fused kernel, as a formula of one linear layer's output."""

    path: str
    """The linear layer. Not its call, which would keep the trace alive."""
    columns: slice
    act: Activation

    def __call__(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The gate [..., width]."""
        return self.act(outputs[self.path][..., self.columns])


def match_product(call: Call, calls: Sequence[Call]) -> tuple[FFNInput, Formula] | None:
    """The input of this layer, if a kernel computes it from the linear layers next to it.

    Returns:
        The layer's input and the formula of its gate.
    """
    product = call.input
    if product is None or not call.outer:
        return None
    siblings = [
        other
        for other in calls[: call.order]
        if other.outer and other.outer[-1] is call.outer[-1] and is_linear(other.module)
    ]
    parts = list(_parts(siblings, product.shape[-1]))
    for (gate_of, columns), (up_of, up_columns) in permutations(parts, 2):
        gate, up = gate_of.output[..., columns], up_of.output[..., up_columns]
        for act in ACTIVATIONS.values() if gate.shape == up.shape else ():
            if _reproduces(act(gate) * up, product):
                return _ffn_input(call, gate_of), KernelGate(gate_of.path, columns, act)
    return None


def _parts(siblings: Sequence[Call], width: int) -> Iterator[tuple[Call, slice]]:
    """Outputs, or halves of outputs, that are as wide as the product."""
    for call in siblings:
        size = call.output.shape[-1]
        if size in (width, 2 * width):
            for begin in range(0, size, width):
                yield call, slice(begin, begin + width)


def _ffn_input(call: Call, gate_of: Call) -> FFNInput:
    assert call.source is not None
    node = Node(gate_of.output, "linear", [gate_of.source])
    node.path = gate_of.path
    return FFNInput(call.source, node, (node,), None, (node,))


def match_module(call: Call, calls: Sequence[Call]) -> KernelMatch | None:
    """The formula of a module that has the layers of a feed-forward network but calls none.

    Raises:
        TapError: If no formula reproduces the module's output.
    """
    down, inward = _layers(call.module)
    if down is None or not is_list_entry(call.block[0]) or call.input is None:
        return None
    later = (other for other in calls[call.order + 1 :] if is_linear(other.module))
    if any(call in other.outer for other in later) or not isinstance(call.output, Tensor):
        return None
    for candidate in _candidates(call.module, down, inward):
        _, product = candidate.states(call.module, call.input)
        if _reproduces(call.module.get_submodule(down)(product), call.output):
            return candidate
    raise TapError(
        f"the feed-forward network {call.path} must call its linear layers or give the same output "
        "as they would, but does neither; if it is a fused kernel, switch it off, or pass the "
        "networks that can be read as neuron_modules="
    )


def _layers(module: nn.Module) -> tuple[str | None, tuple[str, ...]]:
    """Names of the down projection and of the layers before it, if the module has only these."""
    sizes = {name: _sizes(child) for name, child in module.named_children() if is_linear(child)}
    if len(sizes) not in (2, 3):
        return None, ()
    for down, (width, hidden) in sizes.items():
        inward = tuple(name for name in sizes if name != down)
        outs = [sizes[name][1] for name in inward]
        fits = all(sizes[name][0] == hidden for name in inward)
        if fits and outs in ([width], [2 * width], [width, width]):
            return down, inward
    return None, ()


def _sizes(module: nn.Module) -> tuple[int, int]:
    if type(module).__name__ == "Conv1D":
        return module.nx, module.nf  # type: ignore[return-value]
    into, out = getattr(module, "in_features", 0), getattr(module, "out_features", 0)
    return into, out


def _candidates(module: nn.Module, down: str, inward: tuple[str, ...]) -> Iterator[KernelMatch]:
    width = _sizes(module.get_submodule(down))[0]
    fused = len(inward) == 1 and _sizes(module.get_submodule(inward[0]))[1] == 2 * width
    orders = [inward] if len(inward) == 1 else [inward, inward[::-1]]
    for order in orders:
        for swap in (False, True) if fused else (False,):
            for name, act in ACTIVATIONS.items():
                kind = "fused" if fused else "gated" if len(inward) == 2 else "plain"
                states = KernelStates(order, fused, swap, act)
                yield KernelMatch(kind, width, f"{name} of {order[0]}", states)


def _reproduces(computed: Tensor, expected: Tensor) -> bool:
    if computed.shape != expected.shape:
        return False
    low_precision = expected.dtype not in (torch.float32, torch.float64)
    difference = (computed.float() - expected.float()).abs().amax()
    scale = expected.float().abs().amax()
    return bool(difference <= (3e-2 if low_precision else 1e-4) * scale)
