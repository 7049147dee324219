"""Routed experts in several spellings."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks.models import (
    HIDDEN,
    GatedNetwork,
    Network,
    States,
    apply,
)


class Experts(Network):
    """Routed experts; ``run`` is one way of writing them."""

    count, chosen, width = 5, 2, 14

    def __init__(self, run, shared: bool = False, named: bool = False) -> None:
        super().__init__()
        self.router, self.run = nn.Linear(HIDDEN, self.count), run
        made = [GatedNetwork(self.width) for _ in range(self.count)]
        self.experts = (
            nn.ModuleDict({f"e{k}": each for k, each in enumerate(made)})
            if named
            else (nn.ModuleList(made))
        )
        self.shared = GatedNetwork() if shared else None

    def each(self) -> list[GatedNetwork]:
        """The experts in order."""
        inner = self.experts
        return list(inner.values()) if isinstance(inner, nn.ModuleDict) else list(inner)

    def routed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and experts of each row."""
        return torch.softmax(apply(self.router, rows), dim=-1).topk(self.chosen)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, HIDDEN)
        out = self.run(self, rows, *self.routed(rows)).view_as(x)
        return out if self.shared is None else out + self.shared(x)

    def by_hand(self, x: Tensor) -> list[States]:
        rows = x.reshape(-1, HIDDEN)
        _, index = self.routed(rows)
        gates, products = [], []
        for number, expert in enumerate(self.each()):
            runs = (index == number).any(dim=1, keepdim=True)
            gate, product = expert.by_hand(rows)
            gates.append(gate * runs)
            products.append(product * runs)
        parts = [
            tuple(torch.cat(each, dim=1).reshape(*x.shape[:2], -1) for each in (gates, products))
        ]
        return parts + ([self.shared.by_hand(x)] if self.shared is not None else [])


def by_selection(select):
    """Experts one by one, on the rows that ``select`` takes."""

    def run(net, rows, weights, index):
        out = torch.zeros_like(rows)
        for number, expert in enumerate(net.each()):
            token, place = torch.where(index == number)
            if len(token):
                result = expert(select(rows, token)) * weights[token, place, None]
                out.index_add_(0, token, result)
        return out

    return run


def sorted_rows(net, rows, weights, index):
    """All rows sorted by expert, then in pieces."""
    order = index.flatten().argsort(stable=True)
    sizes = torch.bincount(index.flatten(), minlength=net.count).tolist()
    pieces = rows[order // net.chosen].split(sizes)
    done = [expert(piece) for expert, piece in zip(net.each(), pieces, strict=True) if len(piece)]
    out = torch.cat(done)
    back = torch.empty_like(out)
    back[order] = out
    return (back.view(*index.shape, -1) * weights[..., None]).sum(dim=1)


def weight_in_front_of_down(net, rows, weights, index):
    """The routing weight multiplies the product."""
    out = torch.zeros_like(rows)
    for number, expert in enumerate(net.each()):
        token, place = torch.where(index == number)
        if len(token):
            mine = rows[token]
            product = (
                functional.silu(expert.gate(mine)) * expert.up(mine) * weights[token, place, None]
            )
            out.index_add_(0, token, expert.down(product))
    return out


def all_on_all(net, rows, weights, index):
    """All experts on all tokens, with weights that are mostly 0."""
    table = torch.zeros(len(rows), net.count).scatter(1, index, weights)
    return sum(expert(rows) * table[:, k : k + 1] for k, expert in enumerate(net.each()))


def weighted_rows(net, rows, weights, index):
    """The routing weight multiplies the expert's input."""
    out = torch.zeros_like(rows)
    for number, expert in enumerate(net.each()):
        token, place = torch.where(index == number)
        if len(token):
            out.index_add_(0, token, expert(rows[token] * weights[token, place, None]))
    return out


class Unequal(Experts):
    """Experts of two widths."""

    def __init__(self, run) -> None:
        super().__init__(run)
        self.experts[2] = GatedNetwork(self.width + 2)


class Stacked(Network):
    """All experts in 3-D weights of names of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = (
            nn.Parameter(torch.zeros(shape)) for shape in ((4, HIDDEN, 10), (4, 10, HIDDEN))
        )
        self.router = nn.Linear(HIDDEN, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.router(x), dim=-1)
        state = functional.gelu(torch.einsum("bth,ehw->btew", x, self.inner))
        return torch.einsum("btew,ewh,bte->bth", state, self.outer, weights)
