"""Runs a module's own code on inputs and weights of our own, in fp32.

Beside a loud neuron, or in 16 bits, activation functions look alike; on plain numbers in fp32 they
differ. A copy shares no tensor and no hook with the model.
"""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
"""Largest difference of two results in fp32, relative to their largest value."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class NoCopyError(Exception):
    """The module cannot be run on other inputs."""


def plain_numbers(shape: Sequence[int], like: Tensor, seed: int = 0) -> Tensor:
    """Normal numbers in fp32 on the device of ``like``; the caller's random state stays."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu").to(
        like.device
    )


def reproduces(computed: Tensor, expected: Tensor) -> bool:
    """Whether two results in fp32 are equal up to the order of summation."""
    if computed.shape != expected.shape or computed.is_meta:
        return False
    difference = (computed.float() - expected.float()).abs().amax()
    # NaN is a difference.
    return bool(difference <= TOLERANCE * expected.float().abs().amax())


def fresh_copy(module: nn.Module) -> nn.Module:
    """A copy in fp32 without hooks, whose weights are plain numbers.

    Raises:
        NoCopyError: If weights are packed.
    """
    return _fresh(module, itertools.count(1))


def _fresh(module: nn.Module, seeds: Iterator[int]) -> nn.Module:
    new = _bare(module)
    for name, child in module._modules.items():
        new._modules[name] = None if child is None else _fresh(child, seeds)
    for name, weight in module._parameters.items():
        if weight is not None and not weight.is_floating_point():
            raise NoCopyError
        if weight is not None:
            numbers = plain_numbers(weight.shape, weight, next(seeds))
            scale = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.1
            new._parameters[name] = nn.Parameter(numbers * scale, requires_grad=False)
    for name, buffer in module._buffers.items():
        kept = buffer is not None and buffer.is_floating_point()
        new._buffers[name] = buffer.float() if kept and buffer is not None else buffer
    return new


def input_of_layer(
    module: nn.Module,
    args: Any,
    kwargs: Any,
    outputs: Mapping[str, Tensor],
    layer: str,
) -> Tensor:
    """The input of ``layer`` if the layers in ``outputs`` (by name) return these tensors.

    Raises:
        NoCopyError: If the module does not run on other inputs.
    """
    copied = _with_children(module, {**{k: _Returns(v) for k, v in outputs.items()}})
    taken = _Takes()
    copied = _with_children(copied, {layer: taken})
    first = next(iter(outputs.values()))

    def other(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return plain_numbers((*first.shape[:-1], value.shape[-1]), value)
        return value

    try:
        copied(*(other(value) for value in args), **{k: other(v) for k, v in kwargs.items()})
    except _Taken:
        pass
    except Exception as error:
        raise NoCopyError from error
    if taken.value is None:
        raise NoCopyError
    return taken.value


class _Returns(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.value


class _Taken(Exception):  # noqa: N818
    pass


class _Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value: Tensor | None = None

    def forward(self, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.value = value
        raise _Taken


def _with_children(module: nn.Module, children: Mapping[str, nn.Module]) -> nn.Module:
    """A copy in which some submodules, by path, are others."""
    new = _bare(module)
    new._modules = dict(module._modules)
    for path, child in children.items():
        name, _, rest = path.partition(".")
        inner = new._modules.get(name)
        if inner is None:
            raise NoCopyError
        new._modules[name] = _with_children(inner, {rest: child}) if rest else child
    return new


def _bare(module: nn.Module) -> nn.Module:
    """A shallow copy without hooks; a forward that was patched on the module runs on the copy."""
    new = copy.copy(module)
    new.__dict__ = dict(module.__dict__)
    for name in _HOOKS:
        new.__dict__[name] = OrderedDict()
    for name in ("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"):
        new.__dict__[name] = OrderedDict()
    for name in ("_parameters", "_buffers", "_modules"):
        new.__dict__[name] = dict(module.__dict__[name])
    patched = new.__dict__.pop("_old_forward", new.__dict__.get("forward"))
    new.__dict__.pop("_hf_hook", None)
    if isinstance(patched, MethodType):
        new.__dict__["forward"] = MethodType(patched.__func__, new)
    return new
