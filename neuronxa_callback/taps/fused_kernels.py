"""Feed-forward networks whose inside cannot be followed: kernels that do several steps at once.

What they compute is guessed from a table of activation functions, and kept only where it gives
the values that the model itself had.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import is_linear, numbered
from neuronxa_callback.taps.pointwise import FFNInput, Formula
from neuronxa_callback.taps.trace import Call, Node

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
"""Kernels exist for these."""


@dataclass(frozen=True)
class KernelMatch:
    """What a module that calls none of its linear layers computes."""

    kind: str
    width: int
    words: str
    states: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
    """Module and input -> gate and product."""


def match_product(call: Call, calls: Sequence[Call]) -> tuple[FFNInput, tuple[Formula, str]] | None:
    """What feeds this layer, where a kernel stands between it and those beside it."""
    product = call.input
    if product is None or not call.outer:
        return None
    beside = [
        each
        for each in calls[: call.order]
        if each.outer and each.outer[-1] is call.outer[-1] and is_linear(each.module)
    ]
    parts = list(_halves(beside, product.shape[-1]))
    for gate, up in _pairs([value() for _, value in parts]):
        for name, act in ACTIVATIONS.items():
            if _same(act(parts[gate][1]()) * parts[up][1](), product):
                return _fed(call, beside, parts[gate], act, name)
    return None


_Part = tuple[tuple[int, int], Callable[[], Tensor]]


def _halves(beside: Sequence[Call], width: int) -> Iterator[_Part]:
    """Outputs, or halves of outputs, that are as wide as the product."""
    for number, each in enumerate(beside):
        for half in range(each.output.shape[-1] // width):
            if each.output.shape[-1] in (width, 2 * width):
                yield (number, half), _half(each.output, half, width)


def _half(output: Tensor, half: int, width: int) -> Callable[[], Tensor]:
    return lambda: output[..., half * width : (half + 1) * width]


def _pairs(parts: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    for one in range(len(parts)):
        for other in range(len(parts)):
            if one != other and parts[one].shape == parts[other].shape:
                yield one, other


def _fed(
    call: Call, beside: Sequence[Call], part: _Part, act: Activation, name: str
) -> tuple[FFNInput, tuple[Formula, str]]:
    (number, half), value = part
    source, width = beside[number], value().shape[-1]
    # Not the call itself: it would keep the trace alive.
    path, begin = source.path, half * width

    def gate(outputs: Mapping[str, Tensor]) -> Tensor:
        return act(outputs[path][..., begin : begin + width])

    assert call.source is not None
    node = Node(source.output, "linear", [source.source])
    node.path = source.path
    return FFNInput(call.source, node, (node,), None, (node,)), (gate, name)


def match_module(call: Call, calls: Sequence[Call]) -> KernelMatch | None:
    """What this module computes, where it has the layers of such a network and calls none.

    Raises:
        TapError: If it has, but computes something else with them.
    """
    down, inward = _layers(call.module)
    if down is None or not numbered(call.block[0]) or call.input is None:
        return None
    ran = (each for each in calls[call.order + 1 :] if is_linear(each.module))
    if any(call in each.outer for each in ran) or not isinstance(call.output, Tensor):
        return None
    for guess in _guesses(call.module, down, inward):
        _, product = guess.states(call.module, call.input)
        if _same(call.module.get_submodule(down)(product), call.output):
            return guess
    raise TapError(
        f"the feed-forward network {call.path} must call its linear layers, or compute what they "
        "would; it does neither (a fused kernel?): switch that off, or name what can be read with "
        "neuron_modules="
    )


def _layers(module: nn.Module) -> tuple[str | None, tuple[str, ...]]:
    """Names of the down projection and of those before it, where there are just these."""
    linears = {name: each for name, each in module.named_children() if is_linear(each)}
    sizes = {name: _sizes(each) for name, each in linears.items()}
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


def _guesses(module: nn.Module, down: str, inward: tuple[str, ...]) -> Iterator[KernelMatch]:
    width = _sizes(module.get_submodule(down))[0]
    fused = len(inward) == 1 and _sizes(module.get_submodule(inward[0]))[1] == 2 * width
    orders = [inward] if len(inward) == 1 else [inward, inward[::-1]]
    for order in orders:
        for swap in (False, True) if fused else (False,):
            for name, act in ACTIVATIONS.items():
                kind = "fused" if fused else "gated" if len(inward) == 2 else "plain"
                words = f"{name} of {order[0]}"
                yield KernelMatch(kind, width, words, _states(order, fused, swap, act))


def _states(
    order: tuple[str, ...], fused: bool, swap: bool, act: Activation
) -> Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]:
    def states(module: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
        outs = [module.get_submodule(name)(hidden) for name in order]
        if fused:
            outs = list(outs[0].chunk(2, dim=-1))
            outs = outs[::-1] if swap else outs
        gate = act(outs[0])
        return gate, gate * outs[1] if len(outs) == 2 else gate

    return states


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    loose = other.dtype not in (torch.float32, torch.float64)
    worst = (one.float() - other.float()).abs().amax()
    return bool(worst <= (3e-2 if loose else 1e-4) * other.float().abs().amax())
