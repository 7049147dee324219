"""Small language models with feed-forward networks that are easily misread."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, silu

HIDDEN, WIDTH, VOCAB, LAYERS = 32, 48, 400, 3


class Network(nn.Module):
    """``down(join(act(gate(x)), up(x)))``; without ``up``, ``down(join(act(gate(x))))``."""

    def __init__(self, join=None, act=None, gated=True):
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.up_proj = nn.Linear(HIDDEN, WIDTH, bias=False) if gated else None
        self.down_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.act_fn, self.join = act or nn.SiLU(), join

    def forward(self, x):
        gate = self.act_fn(self.gate_proj(x))
        factors = (gate,) if self.up_proj is None else (gate, self.up_proj(x))
        join = self.join or (lambda gate, up=None: gate if up is None else gate * up)
        return self.down_proj(join(*factors))


class Mix(nn.Module):
    """Causal mean over tokens, in place of attention."""

    def __init__(self):
        super().__init__()
        self.v_proj, self.o_proj = (nn.Linear(HIDDEN, HIDDEN, bias=False) for _ in range(2))

    def forward(self, x):
        counts = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
        return self.o_proj(self.v_proj(x).cumsum(1) / counts)


class Block(nn.Module):
    """Mix, then the network; ``around(x, run)`` decides how and when the network runs."""

    def __init__(self, network, around=None, mix=None):
        super().__init__()
        self.ln_1, self.mix = nn.LayerNorm(HIDDEN), mix or Mix()
        self.ln_2, self.mlp, self.around = nn.LayerNorm(HIDDEN), network, around

    def forward(self, x):
        x = x + self.mix(self.ln_1(x))
        normed = self.ln_2(x)
        return x + (self.mlp(normed) if self.around is None else self.around(normed, self.mlp))


class Model(nn.Module):
    """``block(i)`` makes block i."""

    def __init__(self, block):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, HIDDEN)
        self.layers = nn.ModuleList(block(i) for i in range(LAYERS))
        self.head = nn.Linear(HIDDEN, VOCAB, bias=False)

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, attention_mask=None, **options):
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def model_of(block, seed=0) -> nn.Module:
    """A model with large weights, so that sentences differ."""
    model = Model(block)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def uniform(**options) -> nn.Module:
    """The same network in each block."""
    return model_of(lambda i: Block(Network(**options)))


def only_in(layer: int, **options) -> nn.Module:
    """An ordinary network in each block but one."""
    return model_of(lambda i: Block(Network(**(options if i == layer else {}))))


# Networks that run on some inputs only.


class Second(Block):
    """A second network that runs only if ``when(x)``."""

    def __init__(self, network, when):
        super().__init__(network)
        self.second, self.when = Network(), when

    def forward(self, x):
        x = super().forward(x)
        return x + self.second(self.ln_2(x)) if self.when(x) else x


def second_when(when) -> nn.Module:
    return model_of(lambda i: Second(Network(), when))


def padded_in_front(x, run):
    """The network runs on a multiple of 4 positions, the first of which are padding."""
    added = -x.shape[1] % 4
    return run(pad(x, (0, 0, added, 0)))[:, added:]


# Values that change behind the back of a trace.


def signed_scale(gate: Tensor) -> Tensor:
    """A scale of either sign, written through an alias of the activation's output."""
    gate.data.mul_(torch.linspace(-1, 1, gate.shape[-1]))
    return gate


def hidden_norm(gate: Tensor, up: Tensor) -> Tensor:
    """A norm of the product, written through an alias."""
    product = gate * up
    product.data.div_(product.norm(dim=-1, keepdim=True))
    return product


class Overwritten(nn.Module):
    """An activation that writes into its input, which is computed inline."""

    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(HIDDEN, WIDTH, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(WIDTH, HIDDEN, bias=False)

    def forward(self, x):
        projected = self.gate_proj(x)
        product = silu(projected) * self.up_proj(x)
        projected.data.neg_()
        return self.down_proj(product)


def overwritten() -> nn.Module:
    return model_of(lambda i: Block(Overwritten()))


# Mixing that knows nothing of the mask or sees other sentences.


class Fourier(nn.Module):
    """A Fourier transform over tokens and channels."""

    def forward(self, x):
        return torch.fft.fft2(x).real * 0.05


class Window(nn.Module):
    """A convolution over tokens on both sides."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Conv1d(HIDDEN, HIDDEN, 5, padding=2, groups=HIDDEN)

    def forward(self, x):
        return self.kernel(x.transpose(1, 2)).transpose(1, 2)


class BatchScale(Mix):
    """A scale by the largest value of the whole batch."""

    def forward(self, x):
        return super().forward(x) / x.abs().max()


def mixed_by(mix) -> nn.Module:
    return model_of(lambda i: Block(Network(), mix=mix()))


# Networks that no trace sees.


def hidden_from_trace(gate: Tensor, up: Tensor) -> Tensor:
    """The product, through memory that is shared with another library."""
    return torch.from_numpy(gate.numpy() * up.numpy())


def best_half(gate: Tensor, up: Tensor) -> Tensor:
    """The largest half of the neurons of each token."""
    product = gate * up
    bound = product.abs().topk(product.shape[-1] // 2, dim=-1).values[..., -1:]
    return product * (product.abs() >= bound)


class Bare(nn.Module):
    """A linear layer that is no ``nn.Linear``."""

    def __init__(self, source):
        super().__init__()
        self.weight = nn.Parameter(source.weight.detach().clone())

    def forward(self, x):
        return linear(x, self.weight)


def with_bare(layer: int, name: str) -> nn.Module:
    """A model in which one linear layer of one block is ``Bare``."""
    model = model_of(lambda i: Block(Network()))
    network = model.layers[layer].mlp
    setattr(network, name, Bare(getattr(network, name)))
    return model


class Factored(Network):
    """A down projection in two linear layers."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Linear(WIDTH, 8, bias=False)
        self.down_proj = nn.Linear(8, HIDDEN, bias=False)

    def forward(self, x):
        product = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(self.narrow(product))
