"""Computes the neuron states of routed experts again from the input of the experts.

Experts that are one module with 3-D weights run in an order that depends on the kernel, and hooks
inside of the module cannot tell the tokens apart. Their input can: the states of the routed rows
are computed from it, a bounded number at a time, before the routing weight is applied.
``expert_recipes`` checks on the first microbatch that these states give the module's own output.

Axes: ``rows`` pairs of a token and an expert, sorted by expert; ``hidden``; ``d_ff`` neurons of
one expert.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import tensors_of
from neuronxa_callback.taps.pointwise import Formula

ELEMENTS = 2**25
"""Most numbers passed on at a time: 128 MiB in fp32."""
CACHED = 2**19
"""Most numbers computed at a time on a CPU: if they fit into its cache, it is a third faster."""

PROJECTED = "gate_up"
"""Path of the projections in the gate's formula."""


@dataclass
class Rows:
    """Pairs of a token and an expert, sorted by expert."""

    hidden: Tensor
    """[any, hidden], the input of the experts."""
    source: Tensor
    """[rows], the row of ``hidden`` that each pair reads."""
    token: Tensor
    expert: Tensor
    counts: list[int]
    """Number of rows of each expert."""
    index: Tensor | None = None
    """[tokens, top_k], the experts of each token."""
    weight: Tensor | None = None
    """[tokens, top_k], the routing weights."""

    def read(self, part: slice) -> Tensor:
        """[some rows, hidden]."""
        return self.hidden.index_select(0, self.source[part])

    def weights(self, experts: int) -> Tensor:
        """[rows], the routing weight of each row, in fp32."""
        assert self.index is not None
        assert self.weight is not None
        table = self.index.new_zeros(self.index.shape[0], experts + 1, dtype=torch.float32)
        table.scatter_add_(
            1, self.index.clamp(max=experts), self.weight.view_as(self.index).float()
        )
        return table[self.token, self.expert]


@dataclass(frozen=True)
class Weights:
    """The projections of all experts, each [experts, out, in]."""

    inward: tuple[Tensor, ...]
    down: Tensor
    bias: Tensor | None = None
    down_bias: Tensor | None = None

    @property
    def width(self) -> int:
        """Neurons of one expert."""
        return self.down.shape[2]


def is_experts(module: nn.Module) -> bool:
    """Whether the module holds many experts as 3-D weights."""
    return is_stack(module, "down_proj") or _is_dbrx(module)


def is_stack(module: nn.Module, name: str) -> bool:
    """Whether the module has 3-D weights of that name."""
    weights = getattr(module, name, None)
    return isinstance(weights, Tensor) and weights.ndim == 3


def _is_dbrx(module: nn.Module) -> bool:
    glu = module._modules.get("mlp")
    return hasattr(module, "num_experts") and all(
        isinstance(getattr(glu, name, None), Tensor) for name in ("w1", "v1", "w2")
    )


@dataclass(frozen=True)
class Recipe:
    """How to compute the states of one module of experts."""

    experts: int
    width: int
    transposed: bool
    gate: Formula | None
    """Computes the gate from the projections; ``None`` if the product is the gate."""
    gate_columns: slice | None
    """The columns of the projections that the gate depends on; ``None`` for all."""

    def states(
        self, module: nn.Module, args: Any, kwargs: Any, sites: Sequence[str]
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor, bool]]:
        """Yields states [rows, d_ff] by site, tokens, experts, and if these rows are the last."""
        weights = weights_of(module, self.transposed)
        rows = rows_of(module, args, kwargs, self.experts)
        passed_on = max(ELEMENTS // max(2 * self.width, 1), 1)
        cached = max(CACHED // max(2 * self.width, 1), 1)
        limit = min(passed_on, cached) if rows.hidden.device.type == "cpu" else passed_on
        for first, last, begin, end in _portions(rows.counts, passed_on):
            runs = [
                self._run(module, weights, rows, sites, *run)
                for run in _portions(rows.counts[first:last], limit, first, begin)
            ]
            part = slice(begin, end)
            states = runs[0] if len(runs) == 1 else _concatenate(runs)
            yield states, rows.token[part], rows.expert[part], last == self.experts

    def _run(
        self,
        module: nn.Module,
        weights: Weights,
        rows: Rows,
        sites: Sequence[str],
        first: int,
        last: int,
        begin: int,
        end: int,
    ) -> dict[str, Tensor]:
        """Site -> states of the rows ``begin`` to ``end``, of experts ``first`` to ``last``."""
        columns = self.gate_columns if tuple(sites) == ("gate",) else None
        hidden = rows.read(slice(begin, end))
        projected = project(hidden, weights, rows.counts[first:last], first, columns)
        states = {}
        if "gate" in sites and self.gate is not None:
            states["gate"] = self.gate({PROJECTED: projected})
        if "product" in sites or self.gate is None:
            product = apply_gate(module, projected)
            states |= {site: product for site in sites if site not in states}
        return states


def _concatenate(runs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {site: torch.cat([run[site] for run in runs]) for site in runs[0]}


def _portions(
    counts: list[int], limit: int, first: int = 0, begin: int = 0
) -> Iterator[tuple[int, int, int, int]]:
    """Runs of whole experts with at most ``limit`` rows: first and last expert, first and last row.

    ``counts`` starts at expert ``first``, whose first row is ``begin``. An expert with more rows
    is a run of its own.
    """
    end, beyond = begin, first + len(counts)
    for expert, count in enumerate(counts, first):
        if end + count - begin > limit and end > begin:
            yield first, expert, begin, end
            first, begin = expert, end
        end += count
    yield first, beyond, begin, end


def project(
    hidden: Tensor,
    weights: Weights,
    counts: list[int],
    first: int,
    columns: slice | None,
) -> Tensor:
    """The projections [rows, projections]; columns that are not requested stay 0."""
    sizes = [weight.shape[1] for weight in weights.inward]
    out = hidden.new_zeros(hidden.shape[0], sum(sizes), dtype=weights.inward[0].dtype)
    begin = 0
    for expert, count in enumerate(counts, first):
        if count:
            rows = slice(begin, begin + count)
            _project_expert(out[rows], hidden[rows], weights, expert, columns or slice(None))
            begin += count
    return out


def _project_expert(
    out: Tensor, rows: Tensor, weights: Weights, expert: int, columns: slice
) -> None:
    bias = None if weights.bias is None else weights.bias[expert]
    if len(weights.inward) == 1:
        weight = weights.inward[0][expert][columns]
        part = None if bias is None else bias[columns]
        out[:, columns] = nn.functional.linear(rows.to(weight.dtype), weight, part)
        return
    begin = 0
    for weight in weights.inward:
        end = begin + weight.shape[1]
        out[:, begin:end] = nn.functional.linear(rows.to(weight.dtype), weight[expert])
        begin = end


def apply_gate(module: nn.Module, projected: Tensor) -> Tensor:
    """The product [rows, d_ff], by the module's own method if it has one."""
    own = getattr(module, "_apply_gate", None)
    inner = module._modules.get("mlp") if _is_dbrx(module) else module
    act = getattr(inner, "act_fn", None) or getattr(inner, "activation_fn", None)
    gated = getattr(
        module, "has_gate", not hasattr(module, "up_proj") or hasattr(module, "gate_proj")
    )
    if callable(own) and gated:
        return own(projected)  # type: ignore[no-any-return]
    if not callable(act):
        raise TapError(
            f"{type(module).__name__} must have an activation function, got none; leave it "
            "out with neuron_modules="
        )
    if not gated:
        return act(projected)  # type: ignore[no-any-return]
    gate, up = projected.chunk(2, dim=-1)
    return act(gate) * up  # type: ignore[no-any-return]


def weights_of(module: Any, transposed: bool) -> Weights:
    """The module's projections, under the same names for all classes."""
    if _is_dbrx(module):
        glu: Any = module._modules["mlp"]
        shape = (module.num_experts, -1, glu.hidden_size)
        w1, v1, w2 = (weight.view(shape) for weight in (glu.w1, glu.v1, glu.w2))
        return Weights((w1, v1), w2.transpose(1, 2))
    names = ("gate_up_proj",) if is_stack(module, "gate_up_proj") else ("gate_proj", "up_proj")
    inward = tuple(getattr(module, name) for name in names if is_stack(module, name))
    down = module.down_proj
    if transposed:
        inward, down = tuple(w.transpose(1, 2) for w in inward), down.transpose(1, 2)
    bias = getattr(module, f"{names[0]}_bias", getattr(module, "up_proj_bias", None))
    return Weights(inward, down, bias, getattr(module, "down_proj_bias", None))


def rows_of(module: nn.Module, args: Any, kwargs: Any, experts: int) -> Rows:
    """The routed rows of one call, from the arguments of the module of experts."""
    first, *others = tensors_of((args, kwargs))
    hidden = first.reshape(-1, first.shape[-1])
    index = next((tensor for tensor in others if not tensor.is_floating_point()), None)
    weight = next((tensor for tensor in others if tensor.is_floating_point()), None)
    if index is None and weight is None:
        return _scaled_rows(hidden, experts)
    if index is None:
        tokens = hidden.shape[0]
        index = torch.arange(experts, device=hidden.device).expand(tokens, experts)
    index = index.reshape(hidden.shape[0], -1)
    order = index.reshape(-1).argsort(stable=True)
    expert = index.reshape(-1)[order]
    token = order // index.shape[1]
    # Drops experts of other ranks, padding, and the second of two equal experts of one token.
    kept = expert < experts
    kept[1:] &= (expert[1:] != expert[:-1]) | (token[1:] != token[:-1])
    token, expert = token[kept], expert[kept]
    counts = torch.bincount(expert, minlength=experts).tolist()
    return Rows(hidden, token, token, expert, counts, index, weight)


def _scaled_rows(hidden: Tensor, experts: int) -> Rows:
    # Llama 4: every expert gets all tokens; those of other experts are scaled by 0.
    tokens = hidden.shape[0] // experts
    row = hidden.ne(0).any(dim=1).nonzero()[:, 0]
    expert = row // tokens
    counts = torch.bincount(expert, minlength=experts).tolist()
    return Rows(hidden, row, row % tokens, expert, counts)
