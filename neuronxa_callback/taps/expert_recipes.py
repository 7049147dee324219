"""How the states of a module of experts are computed again, checked against what it gave."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import tensors_of
from neuronxa_callback.taps.pointwise import BackwardWalk, Formula, NotPointwise, formula
from neuronxa_callback.taps.stacked_experts import (
    PROJECTED,
    Recipe,
    Rows,
    Weights,
    apply_gate,
    is_stack,
    project,
    rows_of,
    weights_of,
)
from neuronxa_callback.taps.trace import Node, Trace


def recipe(path: str, module: Any, args: Any, kwargs: Any, output: Tensor) -> Recipe:
    """How the states of these experts are computed, checked against one call of theirs.

    Raises:
        TapError: If the weights are packed, or the module's output is not reproduced.
    """
    name = type(module).__name__
    down = module.down_proj if is_stack(module, "down_proj") else None
    if down is not None and not down.is_floating_point():
        raise TapError(
            f"the experts at {path} ({name}) must have plain floating-point weights, got "
            f"{down.dtype}; load the model dequantised"
        )
    stated = getattr(module, "is_transposed", None)
    for transposed in (stated,) if isinstance(stated, bool) else (False, True):
        try:
            found = _tried(module, args, kwargs, output, transposed)
        except (RuntimeError, NotPointwise):
            continue
        if found is not None:
            return found
    raise TapError(
        f"the states of the experts at {path} ({name}) must reproduce their output, and do not; "
        "leave them out with neuron_modules=, or load them as plain weights"
    )


def _tried(
    module: nn.Module, args: Any, kwargs: Any, output: Tensor, transposed: bool
) -> Recipe | None:
    weights = weights_of(module, transposed)
    experts = weights.down.shape[0]
    rows = rows_of(module, args, kwargs, experts)
    projected = project(rows.read(slice(None)), weights, rows.counts, 0, None)
    with Trace(module) as trace:
        source = trace.node(projected)
        source.op, source.path = "linear", PROJECTED
        product = trace.node(apply_gate(module, projected))
    again = _output(module, args, kwargs, weights, rows, product.value)
    loose = output.dtype not in (torch.float32, torch.float64)
    scale = output.abs().amax()
    if not (again - output.float()).abs().amax() <= (3e-2 if loose else 1e-4) * scale:
        return None
    node, columns = _gate(product, projected)
    return Recipe(experts, weights.width, transposed, node, columns)


def _gate(product: Node, projected: Tensor) -> tuple[Formula | None, slice | None]:
    walk = BackwardWalk()
    walk.sources(product)
    gate = walk.gate(product)
    if gate is None or gate is product:
        return None, None
    redo = formula(gate)
    if redo is None:
        raise NotPointwise(gate)
    half = projected.shape[1] // 2
    whole = redo({PROJECTED: projected})
    for columns in (slice(0, half), slice(half, None), slice(0, None, 2), slice(1, None, 2)):
        only = torch.zeros_like(projected)
        only[:, columns] = projected[:, columns]
        if torch.equal(redo({PROJECTED: only}), whole):
            return redo, columns
    return redo, None


def _output(
    module: nn.Module, args: Any, kwargs: Any, weights: Weights, rows: Rows, product: Tensor
) -> Tensor:
    """What the module should give [tokens, hidden] where the product is right, in fp32."""
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
    if rows.weight is None:
        whole = torch.zeros(hidden.shape, dtype=torch.float32, device=out.device)
        tokens = hidden.shape[0] // len(rows.counts)
        whole[rows.expert * tokens + rows.token] = out.float()
        return whole
    total = torch.zeros(hidden.shape, dtype=torch.float32, device=out.device)
    total.index_add_(0, rows.token, out.float() * rows.weights(len(rows.counts))[:, None])
    return total + _passed_through(module, args, kwargs, hidden, len(rows.counts))


def _passed_through(
    module: nn.Module, args: Any, kwargs: Any, hidden: Tensor, experts: int
) -> Tensor | float:
    """What experts that do nothing (LongCat) hand on."""
    if not getattr(module, "zero_expert_num", 0):
        return 0.0
    _, index, weight = list(tensors_of((args, kwargs)))[:3]
    share = (weight.float() * (index >= experts)).sum(dim=1, keepdim=True)
    return hidden.float() * share
