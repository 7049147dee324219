"""Small language models whose neurons are easily misread, with formulas worked out by hand.

Every ``Network`` knows its gate and product for an input [batch, tokens, hidden]; nothing in these
formulas comes from the code under test.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, WIDTH, VOCABULARY, LAYERS = 24, 40, 400, 3
States = tuple[Tensor, Tensor]
Join = Callable[["GatedNetwork", Tensor, Tensor, Tensor], Tensor]


class Network(nn.Module):
    """A feed-forward network with a formula of its own."""

    def by_hand(self, x: Tensor) -> States | list[States]:
        """Gate and product [batch, tokens, width]; a list for several networks."""
        raise NotImplementedError


def apply(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer by matrix multiplication."""
    out = x @ layer.weight.T
    return out if getattr(layer, "bias", None) is None else out + layer.bias


class GatedNetwork(Network):
    """``down(join(act(gate(x)), up(x)))``; the product is ``product`` of the same arguments."""

    def __init__(
        self,
        width: int = WIDTH,
        act: Callable[[Tensor], Tensor] = functional.silu,
        join: Join | None = None,
        product: Join | None = None,
        **extra: nn.Module | nn.Parameter,
    ) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(HIDDEN, width), nn.Linear(HIDDEN, width)
        self.down, self.act = nn.Linear(width, HIDDEN), act
        self.join = join or (lambda net, gate, up, x: gate * up)
        self.product = product or self.join
        for name, value in extra.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.join(self, self.act(self.gate(x)), self.up(x), x))

    def by_hand(self, x: Tensor) -> States | list[States]:
        gate, up = self.act(apply(self.gate, x)), apply(self.up, x)
        return gate, self.product(self, gate.clone(), up.clone(), x)


class PlainNetwork(Network):
    """``down(after(act(up(x))))``."""

    def __init__(
        self,
        width: int = WIDTH,
        act: Callable[[Tensor], Tensor] = functional.gelu,
        after: Callable[[Tensor], Tensor] = lambda state: state,
    ) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(HIDDEN, width), nn.Linear(width, HIDDEN)
        self.act, self.after = act, after

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.after(self.act(self.up(x))))

    def by_hand(self, x: Tensor) -> States | list[States]:
        gate = self.act(apply(self.up, x))
        return gate, self.after(gate)


class Block(nn.Module):
    """A mean over the tokens so far, then a network; both are added to the stream."""

    time = 1

    def __init__(self, network: nn.Module, name: str = "ffn") -> None:
        super().__init__()
        self.norm, self.value = nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.name = name
        self.add_module(name, network)

    def mixed(self, x: Tensor) -> Tensor:
        """The stream after the tokens have seen each other."""
        counts = torch.arange(1, x.shape[self.time] + 1, dtype=x.dtype)
        shape = [1, 1, 1]
        shape[self.time] = -1
        return x + self.value(x).cumsum(self.time) / counts.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixed(x)
        return x + getattr(self, self.name)(self.norm(x))


class Decoder(nn.Module):
    """Embedding, blocks, head."""

    def __init__(self, blocks: Callable[[int], nn.Module], layers: int = LAYERS) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(blocks(number) for number in range(layers))
        self.head = nn.Linear(HIDDEN, VOCABULARY)

    def around(self, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Runs the blocks; hostile models add something before or behind."""
        return run(x)

    def blocks(self, x: Tensor) -> Tensor:
        """Runs every block once."""
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        return self.head(self.around(self.embedding(input_ids), self.blocks))

    def kept(self, states: Tensor, tokens: int) -> Tensor:
        """The states of the sentence's tokens."""
        return states


def decoder(
    network: Callable[[], nn.Module], kind: type[Decoder] = Decoder, block: type[Block] = Block
) -> Decoder:
    """A random model with equal networks in all blocks."""
    return stirred(kind(lambda _: block(network())))


def one_unusual(usual: Callable[[], nn.Module], unusual: Callable[[], nn.Module]) -> Decoder:
    """A model in which only the middle block has an unusual network."""
    return stirred(Decoder(lambda number: Block(unusual() if number == 1 else usual())))


def stirred(model: Any, seed: int = 0) -> Any:
    """The model in eval mode with large random weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.5)
    return model.eval()


def expected_states(model: Decoder, tokens: Tensor) -> list[list[States]]:
    """Per layer the gate and product [batch, tokens, width] of each network, by hand."""
    seen: list[tuple[Network, Tensor] | None] = []
    networks = {p: m for p, m in model.layers.named_modules() if isinstance(m, Network)}
    outer = [m for p, m in networks.items() if not any(p.startswith(f"{o}.") for o in networks)]
    hooks = [
        module.register_forward_pre_hook(lambda net, args: seen.append((net, args[0].clone())))
        for module in outer
    ]
    hooks += [
        layer.register_forward_pre_hook(lambda *_: seen.append(None)) for layer in model.layers
    ]
    layers: list[list[States]] = []
    with torch.no_grad():
        model(input_ids=tokens)
        for hook in hooks:
            hook.remove()
        for one in seen:
            if one is None:
                layers.append([])
                continue
            found = one[0].by_hand(one[1])
            layers[-1] += [
                tuple(model.kept(state, tokens.shape[1]) for state in pair)
                for pair in (found if isinstance(found, list) else [found])
            ]
    return [layer for layer in layers if layer]
