"""Stand-ins with the interface of Transformer Engine's modules, which need CUDA to install.

Names, shapes and defaults are those of ``transformer_engine.pytorch.LayerNormMLP``. Like its
kernels, the forward shows nothing of its inside to a trace.
"""

import math

import torch
from torch import nn

GATED = ("geglu", "qgeglu", "reglu", "sreglu", "swiglu", "glu", "clamped_swiglu")


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FUNCTIONS = {
    "gelu": gelu,
    "geglu": gelu,
    "qgelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "qgeglu": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "relu": lambda x: x * (x > 0),
    "reglu": lambda x: x * (x > 0),
    "srelu": lambda x: (x * (x > 0)) ** 2,
    "sreglu": lambda x: (x * (x > 0)) ** 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "swiglu": lambda x: x / (1 + torch.exp(-x)),
    "glu": lambda x: 1 / (1 + torch.exp(-x)),
    "clamped_swiglu": lambda x: x.clamp(max=7) / (1 + torch.exp(-1.702 * x.clamp(max=7))),
}


class Linear(nn.Module):
    """The same for ``transformer_engine.pytorch.Linear``."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, torch.empty(0)

    def forward(self, inp):
        with torch._C.DisableTorchFunction():
            return inp @ self.weight.T


class LayerNormMLP(nn.Module):
    def __init__(
        self,
        hidden_size,
        ffn_hidden_size,
        eps=1e-5,
        bias=True,
        normalization="LayerNorm",
        activation="gelu",
        zero_centered_gamma=False,
        return_bias=False,
        return_layernorm_output=False,
    ):
        super().__init__()
        self.eps, self.use_bias, self.normalization = eps, bias, normalization
        self.activation, self.zero_centered_gamma = activation, zero_centered_gamma
        self.return_bias, self.apply_bias = return_bias, bias and not return_bias
        self.return_layernorm_output = return_layernorm_output
        self.tp_size, self.fp8, self.primary_weights_in_fp8 = 1, False, False
        size = ffn_hidden_size * (2 if activation in GATED else 1)
        self.layer_norm_weight = nn.Parameter(torch.ones(hidden_size))
        plain = normalization == "RMSNorm"
        self.layer_norm_bias = None if plain else nn.Parameter(torch.zeros(hidden_size))
        self.fc1_weight = nn.Parameter(torch.empty(size, hidden_size).normal_(std=0.2))
        self.fc2_weight = nn.Parameter(torch.empty(hidden_size, ffn_hidden_size).normal_(std=0.2))
        self.fc1_bias = nn.Parameter(torch.zeros(size)) if bias else torch.empty(0)
        self.fc2_bias = nn.Parameter(torch.zeros(hidden_size)) if bias else torch.empty(0)

    def forward(self, inp):
        kind = inp.device.type
        cast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if cast else inp.dtype
        with torch._C.DisableTorchFunction(), torch.autocast(kind, enabled=False):
            return self._compute(inp.to(dtype))

    def _compute(self, inp):
        def weight(name):
            return getattr(self, name).to(inp.dtype)

        x = inp.float()
        if self.normalization == "LayerNorm":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        x = x * (self.layer_norm_weight.float() + float(self.zero_centered_gamma))
        if self.normalization == "LayerNorm":
            x = x + self.layer_norm_bias.float()
        norm = x.to(inp.dtype)
        inner = norm @ weight("fc1_weight").T
        if self.use_bias:
            inner = inner + weight("fc1_bias")
        self.seen = self.states(inner.float())
        out = self.seen[1].to(inp.dtype) @ weight("fc2_weight").T
        if self.apply_bias:
            out = out + weight("fc2_bias")
        outs = [out]
        if self.return_bias:
            outs.append(self.fc2_bias)
        if self.return_layernorm_output:
            outs.append(norm)
        return tuple(outs) if len(outs) > 1 else out

    def states(self, inner):
        """Gate and product."""
        if self.activation not in GATED:
            gate = FUNCTIONS[self.activation](inner)
            return gate, gate
        half = inner.shape[-1] // 2
        gate, other = FUNCTIONS[self.activation](inner[..., :half]), inner[..., half:]
        if self.activation == "clamped_swiglu":
            other = other.clamp(-7, 7) + 1
        return gate, gate * other


def fused(model, **options):
    """A llama whose norms and networks are replaced by one module each, with the same weights."""
    for layer in model.model.layers:
        norm, mlp = layer.post_attention_layernorm, layer.mlp
        width, hidden = mlp.gate_proj.weight.shape
        one = LayerNormMLP(
            hidden, width, norm.variance_epsilon, False, "RMSNorm", "swiglu", **options
        )
        with torch.no_grad():
            one.layer_norm_weight.copy_(norm.weight - float(one.zero_centered_gamma))
            one.fc1_weight.copy_(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
            one.fc2_weight.copy_(mlp.down_proj.weight)
        layer.post_attention_layernorm, layer.mlp = nn.Identity(), one
    return model.eval()
