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
from neuronxa_callback.taps.flow.kernel_copies import (
    NoCopyError,
    fresh_copy,
    input_of_layer,
    plain_numbers,
    reproduces,
)
from neuronxa_callback.taps.flow.structure import FFNInput
from neuronxa_callback.taps.graph import Call
from neuronxa_callback.taps.hooks import RecomputedStates
from neuronxa_callback.taps.modules import contains_linear, is_linear, is_list_entry, is_norm
from neuronxa_callback.taps.pointwise import Formula

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
    down: str
    """Name of the down projection."""

    def __call__(self, module: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and product [..., width] of ``hidden``."""
        outs = [module.get_submodule(name)(hidden) for name in self.order]
        if self.fused:
            outs = list(outs[0].chunk(2, dim=-1))
            outs = outs[::-1] if self.swap else outs
        gate = self.act(outs[0])
        return gate, gate * outs[1] if len(outs) == 2 else gate

    def output(self, module: nn.Module, product: Tensor) -> Tensor:
        """The output [..., hidden] of the down projection for a product."""
        out: Tensor = module.get_submodule(self.down)(product)
        return out


@dataclass(frozen=True)
class KernelMatch:
    """The formula of a module that calls none of its linear layers."""

    kind: str
    width: int
    description: str
    states: RecomputedStates


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

    Raises:
        TapError: If it looks like a kernel, but no formula, or more than one, reproduces it.
    """
    product = call.input
    if product is None or not call.outer or call.source is None:
        return None
    around = call.outer[-1]
    siblings = [
        other
        for other in calls[: call.order]
        if other.outer and other.outer[-1] is around and other.linear
    ]
    parts = list(_parts(siblings, product.shape[-1]))
    if not parts or not _is_alone(call, siblings, calls):
        return None
    names = {each.path: each.path.removeprefix(f"{around.path}.") for each in siblings}
    outputs = {
        names[each.path]: plain_numbers((2, 32, each.output.shape[-1]), each.output, number)
        for number, each in enumerate(siblings)
    }
    try:
        expected = input_of_layer(
            around.module,
            around.args,
            around.kwargs,
            outputs,
            call.path.removeprefix(f"{around.path}."),
        )
    except NoCopyError:
        expected = product.new_zeros(0)
    found = []
    for (gate_of, columns), other in _candidate_parts(parts):
        gate = outputs[names[gate_of.path]][..., columns]
        up = 1.0 if other is None else outputs[names[other[0].path]][..., other[1]]
        found += [
            (gate_of, columns, other, act)
            for act in ACTIVATIONS.values()
            if reproduces(act(gate) * up, expected)
        ]
    if len(found) != 1:
        raise TapError(
            f"the input of {call.path} comes from a kernel that cannot be traced, and "
            f"{len(found) or 'no'} formulas reproduce it instead of one; switch the fused kernel "
            "off, or pass the networks that can be read as neuron_modules="
        )
    gate_of, columns, other, act = found[0]
    second = None if other is None else other[0]
    return _ffn_input(call, gate_of, second), KernelGate(gate_of.path, columns, act)


def _candidate_parts(
    parts: Sequence[tuple[Call, slice]],
) -> Iterator[tuple[tuple[Call, slice], tuple[Call, slice] | None]]:
    """The part of the gate, and the part of the up projection if there is one."""
    yield from ((part, None) for part in parts)
    yield from permutations(parts, 2)


def _is_alone(call: Call, siblings: Sequence[Call], calls: Sequence[Call]) -> bool:
    """Whether the module around has no other linear layers, and these are those of a network."""
    around = call.outer[-1]
    inside = {other.path for other in calls if other.linear and around in other.outer} - {
        call.path,
        *(each.path for each in siblings),
    }
    assert call.input is not None
    assert call.source is not None
    if any(
        each.source is not None and each.source.root() is call.source.root() for each in siblings
    ):
        return False
    for child in around.module.children():
        known = contains_linear(child) or is_norm(child)
        if not known and any(True for _ in child.parameters()):
            return False
    width, hidden = call.input.shape[-1], call.output.shape[-1]
    outs = [each.output.shape[-1] for each in siblings]
    reads_hidden = all(
        each.input is not None and each.input.shape[-1] == hidden for each in siblings
    )
    return not inside and reads_hidden and outs in ([width], [2 * width], [width, width])


def _parts(siblings: Sequence[Call], width: int) -> Iterator[tuple[Call, slice]]:
    """Outputs, or halves of outputs, that are as wide as the product."""
    for call in siblings:
        size = call.output.shape[-1]
        if size in (width, 2 * width):
            for begin in range(0, size, width):
                yield call, slice(begin, begin + width)


def _ffn_input(call: Call, gate_of: Call, other: Call | None) -> FFNInput:
    assert call.source is not None
    assert gate_of.result is not None
    node = gate_of.result
    # Without an up projection, the product is the gate.
    gate = call.source if other is None else node
    sources = [node] if other is None or other.result is None else [node, other.result]
    sources = list(dict.fromkeys(sources))
    return FFNInput(
        call.source, gate, tuple(sources), (node,), gated=other is not None, activated=True
    )


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
    try:
        found = _matching(call, down, inward)
    except NoCopyError:
        found = []
    if len(found) == 1:
        return found[0]
    raise TapError(
        f"the feed-forward network {call.path} must call its linear layers or give the same output "
        "as they would, but does neither; if it is a fused kernel, switch it off, or pass the "
        "networks that can be read as neuron_modules="
    )


def _matching(call: Call, down: str, inward: tuple[str, ...]) -> list[KernelMatch]:
    """The formulas that give the output of the module's own code, on plain numbers in fp32."""
    assert call.input is not None
    module = fresh_copy(call.module)
    hidden = plain_numbers((2, 32, call.input.shape[-1]), call.input)
    try:
        expected = module(*(hidden if value is call.input else value for value in call.args))
    except (RuntimeError, TypeError, ValueError) as error:
        raise NoCopyError from error
    found = []
    for candidate in _candidates(module, down, inward):
        _, product = candidate.states(module, hidden)
        inner = candidate.states.output(module, product)
        if isinstance(expected, Tensor) and reproduces(inner, expected):
            found.append(candidate)
    return found


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
                states = KernelStates(order, fused, swap, act, down)
                yield KernelMatch(kind, width, f"{name} of {order[0]}", states)
