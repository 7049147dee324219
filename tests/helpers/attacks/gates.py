"""Networks whose last step is no plain multiplication, and networks that are easily overlooked."""

import torch
from torch import Tensor, nn
from torch.nn import functional

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

NO_GATE = r"cannot read the gate of layers\.0\.ffn\.down"


def gated(extra=dict, **options):
    """A model of gated networks; ``extra`` makes further modules."""
    return lambda: decoder(lambda: GatedNetwork(**options, **extra()))


def weights(size=WIDTH):
    """A learned scale."""
    return nn.Parameter(torch.zeros(size))


def scaled(**options):
    """A gated network with a learned scale."""
    return lambda: decoder(lambda: GatedNetwork(scale=weights(), **options))


def kept_large(state):
    """All but the largest third set to 0."""
    bar = state.abs().topk(WIDTH // 3, dim=-1).values[..., -1:]
    return state * (state.abs() >= bar)


class Silencing(nn.Module):
    """An activation module that switches some neurons off."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x).index_fill(-1, torch.tensor([0, 3, 7]), 0.0)


class OwnLayer(nn.Module):
    """A linear layer of a class of one's own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.weight.t())


def with_layers(**layers):
    """A gated network in which some layers are of another class."""

    def build():
        network = GatedNetwork()
        for name, (inputs, outputs) in layers.items():
            setattr(network, name, OwnLayer(inputs, outputs))
        return network

    return build


class Factored(Network):
    """A down projection in two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.first = nn.Linear(HIDDEN, WIDTH), nn.Linear(WIDTH, 6)
        self.second = nn.Linear(6, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(functional.gelu(self.up(x))))

    def by_hand(self, x: Tensor) -> States:
        return (functional.gelu(apply(self.up, x)),) * 2


class BareWeight(GatedNetwork):
    """Uses the weight of the down projection without calling it."""

    def forward(self, x: Tensor) -> Tensor:
        product = functional.silu(self.gate(x)) * self.up(x)
        return torch.einsum("btw,hw->bth", product, self.down.weight)


class InPlace(GatedNetwork):
    """The activation overwrites the projection, and the product the activation."""

    def forward(self, x: Tensor) -> Tensor:
        gate = functional.silu(self.gate(x), inplace=True)
        return self.down(gate.mul_(self.up(x)))


class Linear2Unit(Network):
    """``functional.glu``, whose second half is the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(HIDDEN, 2 * WIDTH), nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.glu(self.both(x), dim=-1))

    def by_hand(self, x: Tensor) -> States:
        value, gate = apply(self.both, x).chunk(2, dim=-1)
        return torch.sigmoid(gate), value * torch.sigmoid(gate)


class Frozen(GatedNetwork):
    """A scale of the states that becomes a Python number."""

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x)
        return self.down(functional.silu(gate / gate.abs().mean().item()) * self.up(x))


class SharedActivation(Network):
    """Two networks at once; one activation module serves both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.act = GatedNetwork(), GatedNetwork(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        second = self.act(self.two.gate(x))
        first = self.act(self.one.gate(x))
        one = self.one.down(first * self.one.up(x))
        return one + self.two.down(second * self.two.up(x))

    def by_hand(self, x: Tensor) -> list[States]:
        states = []
        for each in (self.one, self.two):
            gate = functional.relu(apply(each.gate, x))
            states.append((gate, gate * apply(each.up, x)))
        return states


class Slope(GatedNetwork):
    """Swish with a learned slope."""

    def __init__(self) -> None:
        super().__init__(slope=weights())
        self.act = lambda x: x * torch.sigmoid(self.slope * x)


@torch.jit.script
def scripted_act(x: Tensor) -> Tensor:
    """A scripted activation function."""
    return x * torch.sigmoid(1.702 * x)


@torch.jit.script
def scripted_sum(gate: Tensor, up: Tensor) -> Tensor:
    """A scripted function that is no product of an activation and a factor."""
    return functional.silu(gate) * up + 0.5 * gate


class ScriptedSum(GatedNetwork):
    """A step that cannot be traced and that no formula reproduces."""

    def forward(self, x: Tensor) -> Tensor:
        return self.down(scripted_sum(self.gate(x), self.up(x)))


class ScriptedModule(nn.Module):
    """A whole network for ``torch.jit``."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(HIDDEN, WIDTH), nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x)))


class Attributes(Decoder):
    """Blocks as attributes with numbers instead of a list."""

    def blocks(self, x: Tensor) -> Tensor:
        for name in ("block1", "block2"):
            x = getattr(self, name)(x)
        return x


def attributes():
    """A model without a list of blocks."""
    model = Attributes(lambda _: Block(GatedNetwork()), layers=0)
    model.block1, model.block2 = Block(GatedNetwork()), Block(GatedNetwork())
    return stirred(model)


def plain(**options):
    """A model of plain networks."""
    return lambda: decoder(lambda: PlainNetwork(**options))


norm = nn.LayerNorm
SHARED = nn.Linear(HIDDEN, WIDTH)
CASES = {
    "up times gate": (gated(join=lambda n, g, u, x: u * g), ""),
    "gate times up plus 2": (gated(join=lambda n, g, u, x: g * (2 + u)), ""),
    "tanh on the up side": (gated(join=lambda n, g, u, x: torch.tanh(u) * g), ""),
    "a scale on the product": (scaled(join=lambda n, g, u, x: n.scale * (g * u)), ""),
    "scales on both factors": (scaled(join=lambda n, g, u, x: (g * n.scale) * (u * n.scale)), ""),
    "a clamp on the product": (gated(join=lambda n, g, u, x: (g * u).clamp(-1, 1)), ""),
    "small products masked": (gated(join=lambda n, g, u, x: g * u * ((u * g).abs() > 0.3)), ""),
    "where": (gated(join=lambda n, g, u, x: torch.where((g * u) > -0.2, g * u, 0.0)), ""),
    "masked_fill": (
        gated(join=lambda n, g, u, x: (g * u).masked_fill((g * u).abs() < 0.3, 0)),
        "",
    ),
    "the largest products": (gated(join=lambda n, g, u, x: kept_large(g * u)), ""),
    "nan_to_num": (gated(join=lambda n, g, u, x: (u * g).nan_to_num()), ""),
    "mul with out": (gated(join=lambda n, g, u, x: torch.mul(u, g, out=u)), ""),
    "an up projection that all layers share": (
        gated(
            join=lambda n, g, u, x: n.more(x) * g,
            extra=lambda: {"more": SHARED},
        ),
        "",
    ),
    "three factors": (
        gated(
            join=lambda n, g, u, x: u * n.more(x) * g,
            extra=lambda: {"more": nn.Linear(HIDDEN, WIDTH)},
        ),
        "",
    ),
    "a token's weight": (
        gated(
            join=lambda n, g, u, x: torch.sigmoid(n.score(x)) * g * u,
            product=lambda n, g, u, x: g * u,
            extra=lambda: {"score": nn.Linear(HIDDEN, 1)},
        ),
        "",
    ),
    "a norm of the product": (
        gated(
            join=lambda n, g, u, x: n.norm(g * u),
            product=lambda n, g, u, x: g * u,
            extra=lambda: {"norm": norm(WIDTH)},
        ),
        "",
    ),
    "rms_norm of the product": (
        gated(
            join=lambda n, g, u, x: functional.rms_norm(g * u, (WIDTH,)),
            product=lambda n, g, u, x: g * u,
        ),
        "",
    ),
    "a norm written inline": (
        gated(
            join=lambda n, g, u, x: (g * u) / (g * u).square().mean(-1, keepdim=True).sqrt(),
            product=lambda n, g, u, x: g * u,
        ),
        "",
    ),
    "a sum behind the product": (gated(join=lambda n, g, u, x: g * u - g), NO_GATE),
    "addcmul": (gated(join=lambda n, g, u, x: torch.addcmul(u, g, u)), NO_GATE),
    "a function of the product": (gated(join=lambda n, g, u, x: torch.sinh(g * u)), "sinh"),
    "a skip": (
        gated(
            join=lambda n, g, u, x: g * u + n.more(x),
            extra=lambda: {"more": nn.Linear(HIDDEN, WIDTH)},
        ),
        NO_GATE,
    ),
    "two activation functions": (gated(join=lambda n, g, u, x: g * functional.gelu(u)), NO_GATE),
    "relu squared": (plain(act=lambda x: functional.relu(x) ** 2), ""),
    "plain with a mask": (plain(after=lambda state: state * (state.abs() > 0.2)), ""),
    "plain with a clamp": (plain(after=lambda state: state.clamp(max=1.0)), ""),
    "a learned slope": (
        lambda: decoder(Slope),
        "",
    ),
    "silenced neurons": (gated(act=Silencing()), ""),
    "in place": (lambda: decoder(InPlace), ""),
    "glu": (lambda: decoder(Linear2Unit), ""),
    "a scripted activation": (lambda: decoder(lambda: PlainNetwork(act=scripted_act)), ""),
    "a scripted activation of the gate": (gated(act=scripted_act), ""),
    "a scripted step without a formula": (lambda: decoder(ScriptedSum), "kernel"),
    "a scripted step in one layer": (lambda: one_unusual(GatedNetwork, ScriptedSum), "kernel"),
    "a scripted network": (
        lambda: one_unusual(GatedNetwork, lambda: torch.jit.script(ScriptedModule())),
        "torch.jit",
    ),
    "a Python number of the states": (lambda: decoder(Frozen), NO_GATE),
    "own down projections": (lambda: decoder(with_layers(down=(WIDTH, HIDDEN))), ""),
    "one down projection of its own": (
        lambda: one_unusual(GatedNetwork, with_layers(down=(WIDTH, HIDDEN))),
        "",
    ),
    "own gate and up projections": (
        lambda: decoder(with_layers(gate=(HIDDEN, WIDTH), up=(HIDDEN, WIDTH))),
        "",
    ),
    "a down projection in two steps": (lambda: one_unusual(GatedNetwork, Factored), ""),
    "a weight without a module": (lambda: one_unusual(GatedNetwork, BareWeight), "without calling"),
    "one top-k network": (
        lambda: one_unusual(
            GatedNetwork, lambda: GatedNetwork(join=lambda n, g, u, x: kept_large(g * u))
        ),
        "",
    ),
    "a network called router": (
        lambda: stirred(Decoder(lambda _: Block(GatedNetwork(), "router_norm"))),
        "",
    ),
    "one activation for two networks": (lambda: decoder(SharedActivation), ""),
    "blocks as attributes": (attributes, "no feed-forward network found"),
}
