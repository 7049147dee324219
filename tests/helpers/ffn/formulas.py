"""Formulas from which the tests compute neuron states by hand, and how states are compared."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "relu": lambda x: x * (x > 0),
    "relu2": lambda x: (x * (x > 0)) ** 2,
    "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
}


def linear(module: Any, x: Tensor) -> Tensor:
    """One linear layer by its weights alone, channels last."""
    if hasattr(module, "nf"):
        return x @ module.weight + module.bias
    weight = module.weight
    if isinstance(module, nn.Conv1d):
        groups = x.chunk(module.groups, dim=-1)
        parts = weight[:, :, 0].chunk(module.groups)
        out = torch.cat([g @ p.T for g, p in zip(groups, parts, strict=True)], dim=-1)
        return out + module.bias
    return x @ weight.T + (0 if module.bias is None else module.bias)


def close(one: Tensor, other: Tensor, tolerance: float = 2e-5) -> bool:
    """Whether two states are equal up to rounding, NaN never."""
    if one.shape != other.shape:
        return False
    scale = other.abs().max().item() if other.numel() else 0.0
    return bool(((one - other).abs() <= tolerance * max(scale, 1e-6)).all())


def same_states(
    one: Sequence[Mapping[str, Tensor]],
    other: Sequence[Mapping[str, Tensor]],
    tolerance: float = 2e-5,
) -> bool:
    """Whether two lists of parts have equal states at each site of the first."""
    return len(one) == len(other) and all(
        close(a[site], b[site], tolerance) for a, b in zip(one, other, strict=True) for site in a
    )
