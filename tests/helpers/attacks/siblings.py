"""More hostile models, judged through a probe: networks, experts and places in the model."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks.experts import Experts, by_selection
from tests.helpers.attacks.models import (
    HIDDEN,
    WIDTH,
    Block,
    Decoder,
    GatedNetwork,
    Network,
    PlainNetwork,
    States,
    apply,
    decoder,
    one_unusual,
    stirred,
)
from tests.helpers.attacks.proofs import Second
from tests.helpers.attacks.tokens import Around


class Divided(Network):
    """One projection, divided into two axes: value, then gate."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(HIDDEN, 2 * WIDTH), nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        both = self.both(x)
        both = both.view(*both.shape[:-1], 2, WIDTH)
        return self.down(both[..., 0, :] * functional.gelu(both[..., 1, :]))

    def by_hand(self, x: Tensor) -> States:
        value, gate = apply(self.both, x).split(WIDTH, dim=-1)
        return functional.gelu(gate), functional.gelu(gate) * value


class TwoNorms(GatedNetwork):
    """Gate and up projection have a norm each."""

    def __init__(self) -> None:
        super().__init__(one=nn.LayerNorm(HIDDEN), other=nn.LayerNorm(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        gate = self.act(self.gate(self.one(x)))
        return self.down(gate * self.up(self.other(x)))

    def by_hand(self, x: Tensor) -> States:
        gate = self.act(apply(self.gate, self.one(x)))
        return gate, gate * apply(self.up, self.other(x))


class Joined(Network):
    """The down projection also gets a part that has no activation function."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(HIDDEN, 8 + WIDTH), nn.Linear(8 + WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        kept, state = self.both(x).split([8, WIDTH], dim=-1)
        return self.down(torch.cat([kept, functional.gelu(state)], dim=-1))


class Keys(Network):
    """Keys and values as bare weights."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values = (nn.Parameter(torch.zeros(WIDTH, HIDDEN)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x @ self.keys.T) @ self.values


class Depths(GatedNetwork):
    """Runs on the tokens with the highest score."""

    def __init__(self) -> None:
        super().__init__(score=nn.Linear(HIDDEN, 1))

    def chosen(self, x: Tensor) -> Tensor:
        """Positions of the tokens, in their order."""
        scores = apply(self.score, x).squeeze(-1)
        return scores.topk(x.shape[1] // 2 + 1, dim=-1).indices.sort(dim=-1).values

    def forward(self, x: Tensor) -> Tensor:
        index = self.chosen(x)[..., None].expand(-1, -1, HIDDEN)
        return torch.zeros_like(x).scatter_add(1, index, super().forward(x.gather(1, index)))

    def by_hand(self, x: Tensor) -> States:
        runs = torch.zeros(x.shape[:2]).scatter(1, self.chosen(x), 1.0)[..., None]
        gate, product = super().by_hand(x)
        return gate * runs, product * runs


class Reversed(Around):
    """The tokens in reverse."""

    def there(self, x: Tensor) -> Tensor:
        return x.flip(1)

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y.flip(1)


class OneRow(Around):
    """All sentences in one row."""

    def there(self, x: Tensor) -> Tensor:
        return x.reshape(1, -1, HIDDEN)

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y.view_as(x)


class OnLongInput(Around):
    """Pads long inputs behind the tokens to a multiple of 16."""

    def there(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, -x.shape[1] % 16 if x.shape[1] > 8 else 0))

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y[:, : x.shape[1]]


class Dense(Experts):
    """All experts count for all tokens."""

    def by_hand(self, x: Tensor) -> list[States]:
        return [expert.by_hand(x) for expert in self.each()]


def mixture(net, rows, weights, index):
    """All experts on all tokens, with weights that are never 0."""
    shares = torch.softmax(apply(net.router, rows), dim=-1)
    return sum(shares[:, k : k + 1] * expert(rows) for k, expert in enumerate(net.each()))


def zeroed_rows(net, rows, weights, index):
    """All experts on all tokens; those that are not routed are set to 0 before."""
    out = torch.zeros_like(rows)
    for number, expert in enumerate(net.each()):
        routed = (index == number).any(dim=-1, keepdim=True)
        out += expert(rows * routed) * (weights * (index == number)).sum(dim=-1, keepdim=True)
    return out


def by_mask(net, rows, weights, index):
    """Rows by a boolean mask."""
    out = torch.zeros_like(rows)
    for number, expert in enumerate(net.each()):
        mask = (index == number).any(dim=-1)
        share = (weights * (index == number)).sum(dim=-1)[mask]
        if mask.any():
            out[mask] += expert(rows[mask]) * share[:, None]
    return out


class Embedded(Decoder):
    """A network of the embedding, in a list of its own."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        layers = [nn.Linear(HIDDEN, WIDTH), nn.GELU(), nn.Linear(WIDTH, HIDDEN)]
        self.first = nn.ModuleList([nn.Sequential(*layers)])

    def around(self, x, run):
        return run(x + self.first[0](x))


def gated(**options):
    """A model of gated networks."""
    return lambda: decoder(lambda: GatedNetwork(**options))


def tied():
    """One network in all blocks."""
    network = GatedNetwork()
    return stirred(Decoder(lambda _: Block(network)))


CASES = {
    "a clamp from below": (gated(join=lambda n, g, u, x: (g * u).clamp(min=-0.5)), ""),
    "hardshrink": (gated(join=lambda n, g, u, x: functional.hardshrink(g * u, 0.3)), ""),
    "above the median": (
        gated(join=lambda n, g, u, x: g * u * (g * u > (g * u).median(-1, keepdim=True).values)),
        "",
    ),
    "a squared factor": (gated(join=lambda n, g, u, x: g * u**2), ""),
    "a length of 1": (
        gated(
            join=lambda n, g, u, x: functional.normalize(g * u, dim=-1),
            product=lambda n, g, u, x: g * u,
        ),
        "",
    ),
    "fp64 inside": (gated(join=lambda n, g, u, x: (g.double() * u.double()).float()), ""),
    "a threshold": (gated(act=lambda x: functional.relu(x - 0.5)), ""),
    "lerp": (gated(join=lambda n, g, u, x: torch.lerp(u, g * u, 0.5)), "lerp"),
    "a gate of the product": (
        gated(join=lambda n, g, u, x: g * u * torch.sigmoid(g * u)),
        "goes through 'mul'",
    ),
    "a quotient": (gated(join=lambda n, g, u, x: g / torch.exp(u.clamp(-3, 3))), "'div'"),
    "one projection in two axes": (lambda: decoder(Divided), ""),
    "two norms": (lambda: decoder(TwoNorms), ""),
    "two norms in one block": (lambda: one_unusual(GatedNetwork, TwoNorms), ""),
    "a joined part in one block": (lambda: one_unusual(GatedNetwork, Joined), r"layers\.1\.ffn"),
    "keys and values in one block": (lambda: one_unusual(GatedNetwork, Keys), "without calling"),
    "squares in one block": (
        lambda: one_unusual(GatedNetwork, lambda: PlainNetwork(act=torch.square)),
        r"layers\.1\.ffn\.down",
    ),
    "one network in all blocks": (tied, ""),
    "a network for one sentence": (
        lambda: stirred(Decoder(lambda _: Second(GatedNetwork(), lambda x: len(x) == 1))),
        "the same feed-forward networks",
    ),
    "a network for long input": (
        lambda: stirred(Decoder(lambda _: Second(GatedNetwork(), lambda x: x.shape[1] > 12))),
        "the same feed-forward networks",
    ),
    "the highest scores": (lambda: decoder(Depths), ""),
    "reversed tokens": (lambda: decoder(Reversed), ""),
    "one row": (lambda: decoder(OneRow), ""),
    "padding of long input": (lambda: decoder(OnLongInput), ""),
    "a mixture of all experts": (lambda: decoder(lambda: Dense(mixture)), ""),
    "experts on zeroed rows": (
        lambda: decoder(lambda: Experts(zeroed_rows)),
        "switches its output",
    ),
    "experts by a mask": (lambda: decoder(lambda: Experts(by_mask)), ""),
    "experts beside a shared one": (
        lambda: decoder(
            lambda: Experts(by_selection(lambda rows, token: rows[token]), shared=True)
        ),
        "",
    ),
    "a network of the embedding": (
        lambda: stirred(Embedded(lambda _: Block(GatedNetwork()))),
        "the embedding",
    ),
    "bfloat16": (lambda: decoder(GatedNetwork).bfloat16(), ""),
}
