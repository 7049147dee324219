"""A norm and a feed-forward network in one module: Transformer Engine's ``LayerNormMLP``.

Its kernels cannot be traced, and it has no layers to call. Its attributes hold the weights and name
the norm and the activation, from which its states are computed again; they are used only if they
reproduce the output of the module.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.fused_kernels import ACTIVATIONS, Activation, KernelMatch
from neuronxa_callback.taps.graph import Call
from neuronxa_callback.taps.modules import is_norm_network, tensors_of

NAMES: Mapping[str, tuple[str, bool]] = {
    "gelu": ("gelu_tanh", False),
    "geglu": ("gelu_tanh", True),
    "qgelu": ("quick_gelu", False),
    "qgeglu": ("quick_gelu", True),
    "relu": ("relu", False),
    "reglu": ("relu", True),
    "srelu": ("relu2", False),
    "sreglu": ("relu2", True),
    "silu": ("silu", False),
    "swiglu": ("silu", True),
    "glu": ("sigmoid", True),
}
"""Value of ``activation`` -> activation function of the gate, and whether there is another half."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 1e-2}
"""Dtype of the output -> relative difference that rounding allows; for others 3e-2."""


@dataclass(frozen=True)
class NormNetworkStates:
    """Computes gate and product of such a module from its weights."""

    act: Activation
    gated: bool
    """Whether the first half of the inner projection is the gate and the second the other factor;
    else all of it is the gate, which is the product."""

    def __call__(self, module: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and product [..., width] of ``hidden``, in the dtype of the module's forward."""
        dtype = _running_dtype(hidden)
        outs = _linear(module, "fc1", _normalized(module, hidden.to(dtype)).to(dtype))
        halves = outs.chunk(2, dim=-1) if self.gated else (outs,)
        # As in the kernels: rounded once, behind the product.
        gate = self.act(_precise(halves[0]))
        product = gate * _precise(halves[1]) if self.gated else gate
        return gate.to(dtype), product.to(dtype)

    def output(self, module: nn.Module, product: Tensor) -> Tensor:
        """The module's output [..., hidden] for a product."""
        return _linear(module, "fc2", product, bias=bool(getattr(module, "apply_bias", True)))


def match_norm_network(call: Call) -> KernelMatch | None:
    """How to compute the states of the called module; None if it is no such module.

    Raises:
        TapError: If they cannot be computed, or do not give the output that the module gave.
    """
    module, hidden = call.module, call.input
    if not is_norm_network(module) or hidden is None:
        return None
    if problem := _problem(module):
        raise TapError(
            f"the feed-forward network {call.path} must be one whose states can be computed, but"
            f" {problem}"
        )
    name = str(module.activation)
    act, gated = NAMES[name]
    states = NormNetworkStates(ACTIVATIONS[act], gated)
    with torch.no_grad():
        _, product = states(module, hidden)
        computed, given = states.output(module, product), next(tensors_of(call.output))
    if not _is_close(computed, given):
        raise TapError(
            f"the attributes of {call.path} must say what it computes, but {name} between its"
            " weights does not give its output; pass the networks that can be read as"
            " neuron_modules="
        )
    kind = "fused" if gated else "plain"
    return KernelMatch(kind, product.shape[-1], f"{name} of fc1 behind its norm", states)


def _problem(module: nn.Module) -> str:
    """Why the states of such a module cannot be computed; empty if they can."""
    if module.activation not in NAMES:
        return f"its activation is {module.activation!r}, expected one of {', '.join(NAMES)}"
    if int(getattr(module, "tp_size", 1)) > 1:
        return f"its neurons are spread over {module.tp_size} ranks; give it tp_size=1"
    if getattr(module, "primary_weights_in_fp8", False):
        return "its weights are kept in FP8; create it without FP8 parameters"
    if getattr(module, "fp8", False):
        return (
            "it runs in FP8, where nothing shows its states; let it run in FP8 in training only"
            " (the default of accelerate: use_autocast_during_eval=False)"
        )
    return ""


def _running_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype in which such a module computes."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _normalized(module: nn.Module, hidden: Tensor) -> Tensor:
    weight, bias, eps = module.layer_norm_weight, module.layer_norm_bias, float(module.eps)  # type: ignore[arg-type]
    assert isinstance(weight, Tensor)
    x = _precise(hidden)
    scale = weight.to(x.dtype) + (1 if module.zero_centered_gamma else 0)
    if module.normalization == "RMSNorm":
        return functional.rms_norm(x, scale.shape, scale, eps)
    shift = bias.to(x.dtype) if isinstance(bias, Tensor) else None
    return functional.layer_norm(x, scale.shape, scale, shift, eps)


def _linear(module: nn.Module, name: str, x: Tensor, bias: bool = True) -> Tensor:
    weight, shift = getattr(module, f"{name}_weight"), getattr(module, f"{name}_bias", None)
    # Without a bias, the attribute is an empty tensor.
    used = bias and isinstance(shift, Tensor) and shift.numel() > 0
    return functional.linear(
        x, weight.to(x.dtype), shift.to(x.dtype) if used and shift is not None else None
    )


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _is_close(computed: Tensor, given: Tensor) -> bool:
    if computed.shape != given.shape:
        return False
    bound = TOLERANCE.get(given.dtype, 3e-2) * given.float().norm()
    # NaN is a difference.
    return bool((computed.float() - given.float()).norm() <= bound)
