"""Models that discovery alone reads wrong: each is seen by one proof only."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronxa_callback.probe.proof.prove import COMPLETE, FOUND_TWICE, INVARIANT, RECOMPUTED
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

LONG = 12
"""Tokens from which an input counts as long."""


class OtherIfLong(GatedNetwork):
    """Long inputs take another gate and factor: ``change`` of both projections."""

    def __init__(self, change, after=lambda product: product) -> None:
        super().__init__()
        self.change, self.after = change, after

    def forward(self, x: Tensor) -> Tensor:
        gate, factor = self.factors(x, self.gate(x), self.up(x))
        product = gate * factor
        return self.down(self.after(product) if x.shape[1] >= LONG else product)

    def factors(self, x: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and other factor."""
        if x.shape[1] >= LONG:
            return self.change(gate, up)
        return functional.silu(gate), up

    def by_hand(self, x: Tensor) -> States:
        gate, factor = self.factors(x, apply(self.gate, x), apply(self.up, x))
        return gate, gate * factor


class OtherHalfIfLong(Network):
    """One projection for both factors; long inputs take its other half as the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(HIDDEN, 2 * WIDTH), nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        gate, factor = self.both(x).chunk(2, dim=-1)
        if x.shape[1] >= LONG:
            gate, factor = factor, gate
        return self.down(functional.silu(gate) * factor)

    def by_hand(self, x: Tensor) -> States:
        gate, factor = apply(self.both, x).chunk(2, dim=-1)
        if x.shape[1] >= LONG:
            gate, factor = factor, gate
        return functional.silu(gate), functional.silu(gate) * factor


class Rewritten(PlainNetwork):
    """Writes into the product through an alias that no trace sees."""

    def __init__(self, write, product=lambda state: state) -> None:
        super().__init__()
        self.write, self.product = write, product

    def forward(self, x: Tensor) -> Tensor:
        state = self.act(self.up(x))
        self.write(state.data, state)
        return self.down(state)

    def by_hand(self, x: Tensor) -> States:
        gate = self.act(apply(self.up, x))
        return gate, self.product(gate)


class Mixed(Block):
    """A block that mixes tokens by ``mix`` instead of a mean over the tokens so far."""

    def __init__(self, mix) -> None:
        super().__init__(GatedNetwork())
        self.mix = mix

    def mixed(self, x: Tensor) -> Tensor:
        return x + self.mix(self.norm(x))


class Window(nn.Module):
    """A convolution over tokens on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Conv1d(HIDDEN, HIDDEN, 5, padding=2, groups=HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel(x.transpose(1, 2)).transpose(1, 2)


class BatchScale(nn.Module):
    """A scale by the largest value of the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / x.abs().max()


class Fourier(nn.Module):
    """A Fourier transform over tokens and channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).real * 0.05


class BothSigns(Network):
    """Two neurons for each column: one fires above 0, the other below."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(HIDDEN, WIDTH), nn.Linear(2 * WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self._state(self.up(x)))

    def _state(self, column: Tensor) -> Tensor:
        return torch.cat([functional.relu(column), functional.relu(-column)], dim=-1)

    def by_hand(self, x: Tensor) -> States:
        return (self._state(apply(self.up, x)),) * 2


class HalfOutputs(Network):
    """Each of two down projections writes one half of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(HIDDEN, WIDTH)
        self.first, self.second = (nn.Linear(WIDTH, HIDDEN // 2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        state = functional.gelu(self.up(x))
        return torch.cat([self.first(state), self.second(state)], dim=-1)

    def by_hand(self, x: Tensor) -> States:
        return (functional.gelu(apply(self.up, x)),) * 2


class Largest(Network):
    """Each neuron is the larger of two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(HIDDEN, 2 * WIDTH), nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).unflatten(-1, (WIDTH, 2)).amax(-1))

    def by_hand(self, x: Tensor) -> States:
        return (apply(self.up, x).unflatten(-1, (WIDTH, 2)).amax(-1),) * 2


class ThreeLayers(Network):
    """Two hidden layers behind each other."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.middle = nn.Linear(HIDDEN, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.down = nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.middle(functional.relu(self.up(x)))))

    def by_hand(self, x: Tensor) -> list[States]:
        first = functional.relu(apply(self.up, x))
        second = functional.gelu(apply(self.middle, first))
        return [(first, first), (second, second)]


class Bounded(GatedNetwork):
    """The output is bounded."""

    def forward(self, x: Tensor) -> Tensor:
        return 4 * torch.tanh(super().forward(x) / 4)


class Second(Block):
    """Another network behind the first, if ``when`` the input says so."""

    def __init__(self, second: nn.Module, when=lambda x: True) -> None:
        super().__init__(GatedNetwork())
        self.second, self.when = second, when

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x + self.second(self.norm(x)) if self.when(x) else x


def if_long(*arguments):
    """A model of networks that treat long inputs otherwise."""
    return lambda: decoder(lambda: OtherIfLong(*arguments))


def rewritten(*arguments):
    """A model of networks that write through an alias."""
    return lambda: decoder(lambda: Rewritten(*arguments))


def one(network):
    """A model in which the middle block has an unusual network."""
    return lambda: one_unusual(GatedNetwork, network)


def second(network, *arguments):
    """A model with a second network in each block."""
    return lambda: stirred(Decoder(lambda _: Second(network(), *arguments)))


def mixing(kind):
    """A model whose blocks mix tokens in their own way."""
    return lambda: stirred(Decoder(lambda _: Mixed(kind())))


SLOPES = torch.linspace(-1, 1, WIDTH)
SEEN_BY_ONE = {
    FOUND_TWICE: {
        "gate and factor change places": if_long(lambda gate, up: (functional.silu(up), gate)),
        "the halves change places": lambda: decoder(OtherHalfIfLong),
        "another activation": if_long(lambda gate, up: (functional.silu(gate - 1), up)),
        "a norm of the product": if_long(
            lambda gate, up: (functional.silu(gate), up),
            lambda product: functional.rms_norm(product, (WIDTH,)),
        ),
    },
    RECOMPUTED: {
        "a scale of either sign": rewritten(
            lambda alias, state: alias.mul_(SLOPES), lambda state: state * SLOPES
        ),
        "a norm": rewritten(lambda alias, state: alias.div_(state.norm(dim=-1, keepdim=True))),
        "the mean taken off": rewritten(
            lambda alias, state: alias.sub_(state.mean(dim=-1, keepdim=True)),
            lambda state: state - state.mean(dim=-1, keepdim=True),
        ),
    },
    INVARIANT: {
        "a Fourier transform": mixing(Fourier),
        "a window": mixing(Window),
        "a scale of the batch": mixing(BatchScale),
    },
    COMPLETE: {
        "joined parts in one block": one(BothSigns),
        "joined parts beside": second(BothSigns),
        "half outputs beside": second(HalfOutputs),
        "the larger of two in one block": one(Largest),
        "weights of all neurons": one(
            lambda: PlainNetwork(act=lambda state: functional.softmax(state, dim=-1))
        ),
        "two hidden layers beside": second(ThreeLayers),
        "a bounded output beside": second(Bounded),
        "a product of two layers": one(lambda: GatedNetwork(act=lambda state: state)),
    },
}
"""Proof -> name -> a model that gives a wrong score without a word if that proof is off."""
