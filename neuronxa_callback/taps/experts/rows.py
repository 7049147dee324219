"""Which token and which expert each row of routed experts belongs to.

Axes: ``tokens`` of a microbatch, flattened; ``top_k`` experts of each token; ``rows`` pairs of a
token and an expert; ``hidden``; ``d_ff`` neurons of one expert.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import tensors_of


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


def rows_of(args: Any, kwargs: Any, experts: int) -> Rows:
    """The routed rows of one call, from the arguments of the module of experts."""
    hidden, index, weight = routing_of(args, kwargs)
    if index is None and weight is None:
        return _scaled_rows(hidden, experts)
    if index is None:
        tokens = hidden.shape[0]
        index = torch.arange(experts, device=hidden.device).expand(tokens, experts)
    order = index.reshape(-1).argsort(stable=True)
    expert = index.reshape(-1)[order]
    token = order // index.shape[1]
    # Drops experts of other ranks, padding, and the second of two equal experts of one token.
    kept = expert < experts
    kept[1:] &= (expert[1:] != expert[:-1]) | (token[1:] != token[:-1])
    token, expert = token[kept], expert[kept]
    counts = torch.bincount(expert, minlength=experts).tolist()
    return Rows(hidden, token, token, expert, counts, index, weight)


def routing_of(args: Any, kwargs: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """From a call's arguments: inputs [any, hidden], experts [tokens, top_k], their weights."""
    first, *others = tensors_of((args, kwargs))
    hidden = first.reshape(-1, first.shape[-1])
    index = next((tensor for tensor in others if not tensor.is_floating_point()), None)
    weight = next((tensor for tensor in others if tensor.is_floating_point()), None)
    return hidden, None if index is None else index.reshape(hidden.shape[0], -1), weight


def _scaled_rows(hidden: Tensor, experts: int) -> Rows:
    # Llama 4: every expert gets all tokens; those of other experts are scaled by 0.
    tokens = hidden.shape[0] // experts
    row = hidden.ne(0).any(dim=1).nonzero()[:, 0]
    expert = row // tokens
    counts = torch.bincount(expert, minlength=experts).tolist()
    return Rows(hidden, row, row % tokens, expert, counts)


@dataclass(frozen=True)
class OneCall:
    """How the rows are ordered where a module computes all of them in one call."""

    implementation: str
    """The kernel, by transformers' name."""
    by_expert: bool
    """Whether the rows are sorted by expert, by ``torch.sort``; else they are token by token."""
    activated: bool
    """Whether the gate is the output of the module's activation function."""

    def rows(self, index: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row its token and its expert, and whether it is kept; ``index`` [tokens, top_k].

        Dropped are experts of other ranks, padding, and the second of two equal experts.
        """
        flat = index.reshape(-1)
        repeated = (index[:, :, None] == index[:, None, :]).tril(-1).any(dim=2).reshape(-1)
        if self.by_expert:
            # As the kernel calls it: equal input, equal order.
            expert, order = torch.sort(flat)
        else:
            expert, order = flat, torch.arange(len(flat), device=flat.device)
        return order // index.shape[1], expert, (expert < experts) & ~repeated[order]


def implementation_of(module: nn.Module) -> str:
    """The kernel that runs the module's experts, by transformers' name; empty if unknown."""
    return str(getattr(getattr(module, "config", None), "_experts_implementation", None) or "")


def is_gated(module: nn.Module) -> bool:
    """Whether the module multiplies two projections."""
    plain = hasattr(module, "up_proj") and not hasattr(module, "gate_proj")
    return bool(getattr(module, "has_gate", not plain))


def watch_product(
    module: nn.Module, read: Callable[[Tensor, Tensor, Tensor | None], None], stack: ExitStack
) -> None:
    """Calls ``read`` whenever the module has computed products, until ``stack`` closes.

    ``read`` gets the projections, the products, and the output of the activation function (None
    if it did not run exactly once). It must not raise.
    """
    act, own = module._modules.get("act_fn"), getattr(module, "_apply_gate", None)
    if act is not None and not is_gated(module):

        def plain(_: nn.Module, args: Any, out: Tensor) -> None:
            read(args[0], out, out)

        stack.callback(act.register_forward_hook(plain).remove)
    if own is None or not is_gated(module):
        return
    inside, outputs = False, list[Tensor]()

    def keep(_: nn.Module, args: Any, out: Tensor) -> None:
        if inside:
            outputs.append(out)

    def apply_gate(projected: Tensor) -> Tensor:
        nonlocal inside
        inside = True
        try:
            product: Tensor = own(projected)
            read(projected, product, outputs[0] if len(outputs) == 1 else None)
        finally:
            inside = False
            outputs.clear()
        return product

    if act is not None:
        stack.callback(act.register_forward_hook(keep).remove)
    _replace_method(module, "_apply_gate", apply_gate, stack)


def _replace_method(
    module: nn.Module, name: str, method: Callable[..., Any], stack: ExitStack
) -> None:
    before = dict(vars(module))
    setattr(module, name, method)
    if name in before:
        stack.callback(setattr, module, name, before[name])
    else:
        stack.callback(delattr, module, name)


class TokenMatcher:
    """Finds tokens again by the bits of their hidden states [tokens, hidden]."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden
        generator = torch.Generator(device="cpu").manual_seed(0)
        self.factors = (
            torch.randint(1, 2**62, (hidden.shape[1],), generator=generator, device="cpu") * 2 + 1
        )
        self.factors = self.factors.to(hidden.device)
        self.keys, self.order = torch.sort(self._key(hidden), stable=True)

    def _key(self, rows: Tensor) -> Tensor:
        # Integer sums wrap around, so the order of summation does not matter.
        return (_bits(rows).long() * self.factors).sum(dim=1)

    def match(self, rows: Tensor, expert: Tensor, path: str) -> tuple[Tensor, Tensor]:
        """The token that each row copies, and whether it is the expert's first copy of that token.

        Equal tokens are assigned in their order, which is safe: equal rows have equal states.

        Raises:
            TapError: If a row is not a copy of a token.
        """
        if rows.shape[1] != self.hidden.shape[1] or rows.dtype != self.hidden.dtype:
            raise TapError(_not_copies(path))
        key = self._key(rows)
        position, rank = torch.searchsorted(self.keys, key), _rank(key, expert)
        equal = torch.searchsorted(self.keys, key, right=True) - position
        first = rank < equal
        position = position + torch.where(first, rank, torch.zeros_like(rank))
        token = self.order[position.clamp(max=len(self.order) - 1)]
        if not torch.equal(_bits(self.hidden[token]), _bits(rows)):
            raise TapError(_not_copies(path))
        return token, first


def _not_copies(path: str) -> str:
    return (
        f"the inputs of the experts in {path} must be copies of its tokens, got other rows, which "
        "cannot be matched with tokens; leave these experts out with neuron_modules="
    )


def _rank(key: Tensor, expert: Tensor) -> Tensor:
    """For each row, the number of earlier rows with the same key and expert."""
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(expert[order], stable=True)]
    same = (key[order][1:] == key[order][:-1]) & (expert[order][1:] == expert[order][:-1])
    index = torch.arange(len(key), device=key.device)
    starts = torch.where(torch.cat([same.new_zeros(1), same]), torch.zeros_like(index), index)
    rank = torch.empty_like(index)
    rank[order] = index - torch.cummax(starts, dim=0).values
    return rank


def _bits(values: Tensor) -> Tensor:
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return values.contiguous().view(integer)
