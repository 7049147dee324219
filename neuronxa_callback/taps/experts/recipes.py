"""Finds how to compute the states of a module of experts, and checks it on the module's output."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.rows import (
    OneCall,
    Rows,
    implementation_of,
    rows_of,
    watch_product,
)
from neuronxa_callback.taps.experts.stacked import (
    PROJECTED,
    Recipe,
    Weights,
    apply_gate,
    is_stack,
    project,
    weights_of,
)
from neuronxa_callback.taps.flow.structure import analyze
from neuronxa_callback.taps.flow.walk import NotPointwise
from neuronxa_callback.taps.graph import Node
from neuronxa_callback.taps.modules import loaded, tensors_of
from neuronxa_callback.taps.pointwise import Formula, formula
from neuronxa_callback.taps.trace import Trace

ROWS_COMPARED = 256
"""Most rows whose own states are compared with those computed."""


def find_recipe(path: str, module: Any, args: Any, kwargs: Any, output: Tensor) -> Recipe:
    """How to compute the states of these experts, checked on one call of the module.

    Raises:
        TapError: If the weights are packed, or the states do not reproduce the module's output.
    """
    with loaded(module):
        return _find_recipe(path, module, args, kwargs, output)


def _find_recipe(path: str, module: Any, args: Any, kwargs: Any, output: Tensor) -> Recipe:
    name = type(module).__name__
    down = module.down_proj if is_stack(module, "down_proj") else None
    if down is not None and not down.is_floating_point():
        raise TapError(
            f"the experts at {path} ({name}) must have floating-point weights, got {down.dtype}; "
            "load the model dequantized"
        )
    declared = getattr(module, "is_transposed", None)
    for transposed in (declared,) if isinstance(declared, bool) else (False, True):
        try:
            recipe = _try_recipe(module, args, kwargs, output, transposed)
        except (RuntimeError, NotPointwise):
            continue
        if recipe is not None:
            return replace(recipe, one_call=_one_call(module, args, kwargs, recipe))
    raise TapError(
        f"the states computed for the experts at {path} ({name}) must reproduce the module's "
        "output, but do not; leave these experts out with neuron_modules=, or load them as "
        "floating-point weights"
    )


def _try_recipe(
    module: nn.Module, args: Any, kwargs: Any, output: Tensor, transposed: bool
) -> Recipe | None:
    weights = weights_of(module, transposed)
    experts = weights.down.shape[0]
    rows = rows_of(args, kwargs, experts)
    projected = project(rows.read(slice(None)), weights, rows.counts, 0, None)
    with Trace(module) as trace:
        source = trace.node(projected)
        source.op, source.path = "linear", PROJECTED
        product = trace.node(apply_gate(module, projected))
    expected = _output(module, args, kwargs, weights, rows, product.value)
    low_precision = output.dtype not in (torch.float32, torch.float64)
    scale = output.abs().amax()
    if expected.numel() != output.numel():
        return None
    # "not <=" instead of ">", so that NaN counts as a difference.
    difference = expected - output.float().reshape(expected.shape)
    if not difference.abs().amax() <= (3e-2 if low_precision else 1e-4) * scale:
        return None
    node, columns = _gate(product, projected)
    return Recipe(experts, weights.width, transposed, node, columns)


def _one_call(module: nn.Module, args: Any, kwargs: Any, recipe: Recipe) -> OneCall | None:
    """How the module's own states can be read; found by running it, and comparing every row."""
    calls: list[tuple[Tensor, Tensor, Tensor | None]] = []
    if hasattr(module, "_hf_hook"):
        # Running it would offload its weights.
        return None
    with ExitStack() as stack:
        watch_product(module, lambda *call: calls.append(call), stack)
        module.forward(*args, **kwargs)
    if len(calls) != 1:
        return None
    for activated in (True, False):
        for by_expert in (True, False):
            one_call = OneCall(implementation_of(module), by_expert, activated)
            candidate = replace(recipe, one_call=one_call)
            if candidate.is_whole(args, kwargs, calls[0]) and candidate.confirms(
                module, args, kwargs, calls[0], most=ROWS_COMPARED
            ):
                return one_call
    return None


def _gate(product: Node, projected: Tensor) -> tuple[Formula | None, slice | None]:
    found = analyze(product)
    gate = found.gate
    if gate is None and found.activated:
        raise NotPointwise(product)
    if gate is None or gate is found.product:
        return None, None
    compute_gate = formula(gate)
    if compute_gate is None:
        raise NotPointwise(gate)
    half = projected.shape[1] // 2
    from_all = compute_gate({PROJECTED: projected})
    for columns in (slice(0, half), slice(half, None), slice(0, None, 2), slice(1, None, 2)):
        masked = torch.zeros_like(projected)
        masked[:, columns] = projected[:, columns]
        if torch.equal(compute_gate({PROJECTED: masked}), from_all):
            return compute_gate, columns
    return compute_gate, None


def _output(
    module: nn.Module, args: Any, kwargs: Any, weights: Weights, rows: Rows, product: Tensor
) -> Tensor:
    """The module's output [tokens, hidden] in fp32, computed from the product."""
    hidden = next(tensors_of((args, kwargs)))
    hidden = hidden.reshape(-1, hidden.shape[-1])
    parts = []
    begin = 0
    for expert, count in enumerate(rows.counts):
        bias = None if weights.down_bias is None else weights.down_bias[expert]
        parts.append(
            nn.functional.linear(product[begin : begin + count], weights.down[expert], bias)
        )
        begin += count
    out = torch.cat(parts)
    norm: Callable[[Tensor], Tensor] | None = getattr(module, "post_expert_norm", None)
    if norm is not None:
        out = norm(out)
    total = torch.zeros(hidden.shape, dtype=torch.float32, device=out.device)
    if rows.weight is None:
        tokens = hidden.shape[0] // len(rows.counts)
        total[rows.expert * tokens + rows.token] = out.float()
        return total
    total.index_add_(0, rows.token, out.float() * rows.weights(len(rows.counts))[:, None])
    return total + _from_zero_experts(module, args, kwargs, hidden, len(rows.counts))


def _from_zero_experts(
    module: nn.Module, args: Any, kwargs: Any, hidden: Tensor, experts: int
) -> Tensor | float:
    """The output of experts that return their input (LongCat)."""
    if not getattr(module, "zero_expert_num", 0):
        return 0.0
    _, index, weight = list(tensors_of((args, kwargs)))[:3]
    share = (weight.float() * (index >= experts)).sum(dim=1, keepdim=True)
    return hidden.float() * share
