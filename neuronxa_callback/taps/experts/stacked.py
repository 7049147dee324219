"""The neuron states of routed experts that are one module with 3-D weights.

Such experts run in an order that depends on the kernel. Their input tells the tokens apart: the
states of the routed rows are computed from it, a bounded number at a time, before the routing
weight is applied. ``recipes`` checks on the first microbatch that these states give the
module's own output. Where the module computes all rows in one call, in an order that was found to
be known (``OneCall``), its own states are read instead.

Axes: ``rows`` pairs of a token and an expert, sorted by expert; ``hidden``; ``d_ff`` neurons of
one expert.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.rows import OneCall, Rows, is_gated, routing_of, rows_of
from neuronxa_callback.taps.pointwise import Formula

ELEMENTS = 2**25
"""Most numbers passed on at a time: 128 MiB in fp32."""
CACHED = 2**19
"""Most numbers computed at a time on a CPU: if they fit into its cache, it is a third faster."""

PROJECTED = "gate_up"
"""Path of the projections in the gate's formula."""


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
    one_call: OneCall | None = None
    """How the module's own states are read; ``None`` if they must be computed."""

    def own_states(
        self,
        args: Any,
        kwargs: Any,
        call: tuple[Tensor, Tensor, Tensor | None],
        sites: Sequence[str],
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor, bool]]:
        """Like ``states``, of the rows that the module has computed itself.

        Args:
            args: The module's arguments.
            kwargs: Its keyword arguments.
            call: Its projections, products and activations, which must be whole (``is_whole``).
            sites: The sites to read.
        """
        projected, product, activated = call
        index = routing_of(args, kwargs)[1]
        assert self.one_call is not None
        assert index is not None
        token, expert, kept = self.one_call.rows(index, self.experts)
        every = bool(kept.all())
        # They are there already; a GPU reads many at a time with few launches.
        elements = ELEMENTS * (1 if product.device.type == "cpu" else 8)
        limit = max(elements // max(2 * self.width, 1), 1)
        for begin in range(0, max(len(product), 1), limit):
            part = slice(begin, begin + limit)
            states = {}
            if "gate" in sites and self.gate is not None:
                own = activated if self.one_call.activated else None
                if own is None:
                    states["gate"] = self.gate({PROJECTED: projected[part]})
                else:
                    states["gate"] = own[part]
            states |= {site: product[part] for site in sites if site not in states}
            last = begin + limit >= len(product)
            if every:
                yield states, token[part], expert[part], last
                continue
            chosen = kept[part]
            states = {site: each[chosen] for site, each in states.items()}
            yield states, token[part][chosen], expert[part][chosen], last

    def is_whole(self, args: Any, kwargs: Any, call: tuple[Tensor, Tensor, Tensor | None]) -> bool:
        """Whether one call has computed all rows, with what ``one_call`` needs."""
        index, activated = routing_of(args, kwargs)[1], call[2]
        return (
            self.one_call is not None
            and index is not None
            and len(call[0]) == len(call[1]) == index.numel()
            and (activated is not None or not self.one_call.activated)
        )

    def confirms(
        self,
        module: nn.Module,
        args: Any,
        kwargs: Any,
        call: tuple[Tensor, Tensor, Tensor | None],
        most: int,
    ) -> bool:
        """Whether ``own_states`` are the states computed, in up to ``most`` rows of each portion.

        This is also a check that the rows belong to these tokens and experts.
        """
        weights, hidden = weights_of(module, self.transposed), routing_of(args, kwargs)[0]
        sites = ("gate", "product")
        for states, token, expert, _ in self.own_states(args, kwargs, call, sites):
            rows = torch.linspace(0, len(token) - 1, min(most, len(token))).long().to(token.device)
            pairs = zip(token[rows].tolist(), expert[rows].tolist(), strict=True)
            projected = [
                project(hidden[at : at + 1], weights, [1], number, None) for at, number in pairs
            ]
            if not projected:
                continue
            product = apply_gate(module, torch.cat(projected))
            gate = product if self.gate is None else self.gate({PROJECTED: torch.cat(projected)})
            for site, expected in zip(sites, (gate, product), strict=True):
                if not _are_close(states[site][rows], expected):
                    return False
        return True

    def states(
        self, module: nn.Module, args: Any, kwargs: Any, sites: Sequence[str]
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor, bool]]:
        """Yields states [rows, d_ff] by site, tokens, experts, and if these rows are the last."""
        weights = weights_of(module, self.transposed)
        rows = rows_of(args, kwargs, self.experts)
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


def _are_close(one: Tensor, other: Tensor) -> bool:
    bound = 1e-4 if other.dtype in (torch.float32, torch.float64) else 3e-2
    # NaN is close to nothing.
    return bool((one.float() - other.float()).abs().amax() <= bound * other.float().abs().amax())


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
    gated = is_gated(module)
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
