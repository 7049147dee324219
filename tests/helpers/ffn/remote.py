"""Imitations of feed-forward networks of remote code: other names, other orders of layers.

Each class has ``by_hand``, which computes gate and product from the weights.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

HIDDEN, WIDTH, VOCAB = 32, 88, 64


class ChatGLM(nn.Module):
    """One projection for gate and up, SwiGLU as a closure, states [tokens, batch, width]."""

    time_first = True

    def __init__(self) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(HIDDEN, 2 * WIDTH, bias=False)
        self.dense_4h_to_h = nn.Linear(WIDTH, HIDDEN, bias=False)

        def swiglu(x: Tensor) -> Tensor:
            x = torch.chunk(x, 2, dim=-1)
            return nn.functional.silu(x[0]) * x[1]

        self.activation_func = swiglu

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(self.activation_func(self.dense_h_to_4h(x)))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = x @ self.dense_h_to_4h.weight.T
        g, u = both[..., :WIDTH], both[..., WIDTH:]
        gate = g * torch.sigmoid(g)
        return gate, gate * u


class Qwen1(nn.Module):
    """``w2`` is the gate, ``c_proj`` the down projection."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.w2 = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.c_proj = nn.Linear(WIDTH, HIDDEN, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a1 = self.w1(x)
        a2 = self.w2(x)
        return self.c_proj(a1 * nn.functional.silu(a2))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = x @ self.w2.weight.T
        gate = g * torch.sigmoid(g)
        return gate, gate * (x @ self.w1.weight.T)


class Baichuan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.down_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up_proj = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = x @ self.gate_proj.weight.T
        gate = g * torch.sigmoid(g)
        return gate, gate * (x @ self.up_proj.weight.T)


class InternLM2(nn.Module):
    """``w2`` is the down projection."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.w3 = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.w2 = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(self.act_fn(self.w1(x)) * self.w3(x))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = x @ self.w1.weight.T
        gate = g * torch.sigmoid(g)
        return gate, gate * (x @ self.w3.weight.T)


class Olmo1(nn.Module):
    """The second half of the projection is the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.ff_proj = nn.Linear(HIDDEN, 2 * WIDTH, bias=False)
        self.ff_out = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.act = _SwiGLUOfSecond()

    def forward(self, x: Tensor) -> Tensor:
        return self.ff_out(self.act(self.ff_proj(x)))

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = x @ self.ff_proj.weight.T
        g, u = both[..., WIDTH:], both[..., :WIDTH]
        gate = g * torch.sigmoid(g)
        return gate, gate * u


class _SwiGLUOfSecond(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x, gate = x.chunk(2, dim=-1)
        return nn.functional.silu(gate) * x


class Phi3Small(nn.Module):
    """Gate and up interleaved, the gate clamped, a quick GELU, up plus one."""

    def __init__(self) -> None:
        super().__init__()
        self.up_proj = nn.Linear(HIDDEN, 2 * WIDTH)
        self.down_proj = nn.Linear(WIDTH, HIDDEN)
        self.limit = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gegelu(self.up_proj(x)))

    def gegelu(self, x: Tensor) -> Tensor:
        a_gelu, a_linear = x[..., ::2], x[..., 1::2]
        a_gelu = torch.where(torch.isinf(a_gelu), a_gelu, a_gelu.clamp(min=None, max=self.limit))
        a_linear = torch.where(
            torch.isinf(a_linear), a_linear, a_linear.clamp(min=-self.limit, max=self.limit)
        )
        return (a_gelu * torch.sigmoid(1.702 * a_gelu)) * (a_linear + 1)

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = (x @ self.up_proj.weight.T + self.up_proj.bias).unflatten(-1, (WIDTH, 2))
        g, u = both[..., 0].clamp(max=1.0), both[..., 1].clamp(-1.0, 1.0)
        gate = g / (1 + torch.exp(-1.702 * g))
        return gate, gate * (u + 1)


class NanoGPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc = nn.Linear(HIDDEN, WIDTH)
        self.c_proj = nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(nn.functional.relu(self.c_fc(x)).square())

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x @ self.c_fc.weight.T + self.c_fc.bias
        gate = torch.maximum(h, torch.zeros(())) ** 2
        return gate, gate


class InPlace(nn.Module):
    """Overwrites the gate's tensor with the product."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.ModuleDict({"lin": nn.Linear(HIDDEN, WIDTH), "act": nn.GELU()})
        self.value = nn.Linear(HIDDEN, WIDTH)
        self.back = nn.Linear(WIDTH, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        out = self.gate["act"](self.gate["lin"](x))
        out.mul_(self.value(x))
        return self.back(out)

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = x @ self.gate["lin"].weight.T + self.gate["lin"].bias
        gate = g * 0.5 * (1 + torch.erf(g / 2**0.5))
        return gate, gate * (x @ self.value.weight.T + self.value.bias)


class Narrow(nn.Module):
    """Fewer neurons than the hidden size, and a scale on the product."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(HIDDEN, 24, bias=False)
        self.b = nn.Linear(HIDDEN, 24, bias=False)
        self.c = nn.Linear(24, HIDDEN, bias=False)
        self.scale = nn.Parameter(torch.full((24,), 1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(nn.functional.relu(self.a(x)) * self.b(x) * self.scale)

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.clamp(x @ self.a.weight.T, min=0)
        return gate, gate * (x @ self.b.weight.T) * 1.5


_ACT = nn.GELU()


class SharedActivation(nn.Module):
    """One activation module for all layers, which also runs on another width in each."""

    def __init__(self) -> None:
        super().__init__()
        self.act = _ACT
        self.a = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.b = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.c = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.score = nn.Linear(HIDDEN, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.act(self.a(x))
        scale = self.act(self.score(x)).sum(-1, keepdim=True)
        return self.c(gate * self.b(x)) * scale

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = x @ self.a.weight.T
        gate = g * 0.5 * (1 + torch.erf(g / 2**0.5))
        return gate, gate * (x @ self.b.weight.T)


class ModuleListMoE(nn.Module):
    """Mixtral with one module per expert, as before its experts became one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(HIDDEN, 4, bias=False)
        self.experts = nn.ModuleList(InternLM2() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(-1, HIDDEN)
        weight, chosen = nn.functional.softmax(self.gate(flat), dim=-1).topk(2, dim=-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            place, row = torch.where((chosen == number).T)
            if len(row):
                out.index_add_(0, row, expert(flat[row]) * weight[row, place, None])
        return out.view_as(x)

    def by_hand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.reshape(-1, HIDDEN)
        chosen = (flat @ self.gate.weight.T).topk(2, dim=-1).indices
        gates, products = torch.zeros(2, len(flat), 4, WIDTH).unbind(0)
        for row, experts in enumerate(chosen.tolist()):
            for number in experts:
                both = self.experts[number].by_hand(flat[row])
                gates[row, number], products[row, number] = both
        return gates.flatten(1), products.flatten(1)


REMOTE: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        ChatGLM,
        Qwen1,
        Baichuan,
        InternLM2,
        Olmo1,
        Phi3Small,
        NanoGPT,
        InPlace,
        Narrow,
        SharedActivation,
        ModuleListMoE,
    )
}


class _Block(nn.Module):
    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(HIDDEN), mlp

    def forward(self, x: Tensor) -> Tensor:
        out = self.mlp(self.norm(x))
        return x + (out[0] if isinstance(out, tuple) else out)


class RemoteModel(nn.Module):
    """Two blocks with one kind of feed-forward network."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(is_encoder_decoder=False)
        self.embed = nn.Embedding(VOCAB, HIDDEN)
        self.layers = nn.ModuleList(_Block(REMOTE[kind]()) for _ in range(2))
        self.head = nn.Linear(HIDDEN, VOCAB)
        self.time_first = getattr(REMOTE[kind], "time_first", False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = x.transpose(0, 1) if self.time_first else x
        for layer in self.layers:
            x = layer(x)
        return self.head(x.transpose(0, 1) if self.time_first else x)
