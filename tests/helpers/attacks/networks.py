"""Networks with an unusual step, layer or activation function."""

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
    States,
    apply,
    stirred,
)


def weights(size=WIDTH):
    """A learned scale."""
    return nn.Parameter(torch.zeros(size))


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
