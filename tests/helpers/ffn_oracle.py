"""What the taps should read, computed from the weights by hand.

Nothing here knows how discovery works. Feed-forward networks are found by the names of their
layers, and their equation must give what the model itself feeds to the down projection (or, for
experts, the module's own output), else the oracle raises: it never guesses.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Up (and gate) layers, down layer, as paths from one common module.
GATED = (
    ("gate_proj", "up_proj", "down_proj"),
    ("w1", "w3", "w2"),
    ("wi_0", "wi_1", "wo"),
    ("proj_up_gate", "proj_up", "proj_down"),
    ("w_in.w_0", "w_in.w_1", "w_out"),
    ("w2", "w1", "c_proj"),
)
SINGLE = (
    ("gate_up_proj", "down_proj"),
    ("up_proj", "down_proj"),
    ("Wi", "Wo"),
    ("input_linear", "output_linear"),
    ("fc1", "fc2"),
    ("fc_in", "fc_out"),
    ("c_fc", "c_proj"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("intermediate.dense", "output.dense"),
    ("intermediate.conv1d", "output.conv1d"),
    ("dense.dense", "output.dense"),
    ("lin1", "lin2"),
    ("linear_1", "linear_2"),
    ("wi", "wo"),
    ("layer_1", "layer_2"),
    ("key", "value"),
    ("0", "2"),
    ("dense1", "dense2"),
    ("intermediate", "output"),
    ("ffn", "ffn_output"),
    ("ff_proj", "ff_out"),
)
_SKIPPED = re.compile(r"router|adapter|per_layer_|hyper|attention\.|attn|mixer\.(key|in)|norm")

ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "relu": lambda x: x * (x > 0),
    "relu2": lambda x: (x * (x > 0)) ** 2,
    "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
}


def linear(module: Any, x: Tensor) -> Tensor:
    """One linear layer by its weights alone, channels last."""
    if hasattr(module, "nf"):
        return x @ module.weight + module.bias
    weight = module.weight
    if isinstance(module, nn.Conv1d):
        groups = x.chunk(module.groups, dim=-1)
        parts = weight[:, :, 0].chunk(module.groups)
        out = torch.cat([g @ p.T for g, p in zip(groups, parts, strict=True)], dim=-1)
        return out + module.bias
    return x @ weight.T + (0 if module.bias is None else module.bias)


class Oracle:
    """Watches one forward pass of a plain, unwrapped model; ``states`` is what it computed."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.inputs: dict[str, list[Tensor]] = {}
        self.experts: dict[str, list[tuple[tuple[Any, ...], Tensor]]] = {}
        self.order: list[str] = []
        self.ran: dict[str, None] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> "Oracle":
        for path, module in self.modules.items():
            if hasattr(module, "weight") and (hasattr(module, "in_features") or _conv(module)):
                hook = module.register_forward_pre_hook(self._seen(path))
                self._handles.append(hook)
            elif _expert_kind(module):
                hook = module.register_forward_hook(self._ran(path), with_kwargs=True)
                self._handles.append(hook)
            hook = module.register_forward_pre_hook(self._runs(path))
            self._handles.append(hook)
        return self

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _runs(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self.ran[path] = None

        return hook

    def _seen(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            x = args[0].detach().clone()
            self.inputs.setdefault(path, []).append(x.movedim(1, -1) if _channels(module) else x)
            self.order.append(path)

        return hook

    def _ran(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            out = output[0] if isinstance(output, tuple) else output
            given = tuple(
                each.detach().clone() if isinstance(each, Tensor) else each
                for each in (*args, *kwargs.values())
            )
            self.experts.setdefault(path, []).append((given, out.detach().clone()))

        return hook

    def states(self) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Path of the down projection -> per call (gate, product), in the model's own shape."""
        found = {}
        for path, module in self.modules.items():
            for up, gate, down in _layers(self.modules, path):
                if down not in self.down_projections():
                    continue
                # Every other call of PEGASUS-X is for global states, which are no tokens.
                step = 2 if type(module).__name__ == "PegasusXEncoderLayer" else 1
                calls = [
                    self._equation(module, up, gate, down, k)
                    for k in range(0, len(self.inputs[down]), step)
                ]
                found[down] = calls
        return found

    def down_projections(self) -> list[str]:
        """Paths of all down projections that ran."""
        found = [down for path in self.modules for *_, down in _layers(self.modules, path)]
        found = [path for path in found if path in self.inputs and not _skipped(path)]
        return [path for path in found if not _inside(path, self.experts)]

    def retrieved(self) -> list[str]:
        """Paths of modules that ran and also hold experts of one neuron each, as embeddings.

        No equation here: the model's output is not that of its down projections alone, and
        whoever reads only those leaves neurons out.
        """
        return [
            path
            for path in self.ran
            if getattr(self.modules[path], "num_experts", 0)
            and any(isinstance(each, nn.Embedding) for each in self.modules[path].children())
        ]

    def _equation(
        self, module: nn.Module, up: str, gate: str, down: str, k: int
    ) -> tuple[Tensor, Tensor]:
        x = self.inputs[up][k]
        p = _unnormed(self.modules, down, self.inputs[down][k])
        u = linear(self.modules[up], x)
        g = u if gate == up else linear(self.modules[gate], x)
        if hasattr(module, "gate_up_proj_adapter_list"):
            listed = f"{up.rpartition('.')[0]}.gate_up_proj_adapter_list"
            number = next(n for n in range(9) if f"{listed}.{n}.0" in self.inputs)
            first, second = module.gate_up_proj_adapter_list[number]
            u = u + linear(second, linear(first, x))
        width = self.modules[down].weight.shape[0 if hasattr(self.modules[down], "nf") else 1]
        width *= getattr(self.modules[down], "groups", 1)
        if gate == up and u.shape[-1] == 2 * width:
            g, u = u[..., :width], u[..., width:]
            return _matching(module, g, u, p, down)
        return _matching(module, g, None if gate == up else u, p, down)


def _inside(path: str, experts: dict[str, Any]) -> bool:
    return any(path.startswith(f"{each}.") for each in experts)


def _conv(module: nn.Module) -> bool:
    return hasattr(module, "nf") or (isinstance(module, nn.Conv1d) and module.kernel_size == (1,))


def _channels(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d)


def _skipped(path: str) -> bool:
    inside = re.sub(r"^.*?\.\d+\.", "", path)
    return _SKIPPED.search(inside) is not None


def _layers(modules: dict[str, Any], path: str) -> list[tuple[str, str, str]]:
    def at(name: str) -> str:
        return f"{path}.{name}" if path else name

    def linear_at(name: str) -> bool:
        found = modules.get(at(name))
        return found is not None and (hasattr(found, "in_features") or _conv(found))

    for gate, up, down in GATED:
        if all(linear_at(name) for name in (gate, up, down)):
            return [(at(up), at(gate), at(down))]
    for up, down in SINGLE:
        if up == "0" and "ffn" not in path:
            continue
        if linear_at(up) and linear_at(down):
            return [(at(up), at(up), at(down))]
    return []


def _unnormed(modules: dict[str, Any], down: str, p: Tensor) -> Tensor | None:
    norm = modules.get(f"{down.rpartition('.')[0]}.ffn_sub_norm")
    return None if norm is not None else p


def _matching(
    module: nn.Module, g: Tensor, u: Tensor | None, p: Tensor | None, down: str
) -> tuple[Tensor, Tensor]:
    """Gate and product by whichever equation gives ``p``."""
    for gate, product in _equations(module, g, u):
        if p is None or close(product, p):
            return gate, product
    raise AssertionError(f"no equation gives the input of {down}")


def _equations(module: nn.Module, g: Tensor, u: Tensor | None) -> Any:
    one = torch.ones(()) if u is None else u
    name = type(module).__name__
    if name == "FalconH1MLP":
        gate = ACTS["silu"](g * module.gate_multiplier)
        yield gate, gate * one
    elif name == "Gemma3nTextMLP" and module.activation_sparsity > 0:
        spread = torch.distributions.Normal(0, 1).icdf(torch.tensor(module.activation_sparsity))
        cut = g.mean(-1, keepdim=True) + g.std(-1, keepdim=True, unbiased=False) * spread
        gate = ACTS["gelu_tanh"]((g - cut) * (g > cut))
        yield gate, gate * one
    elif name == "BitNetMLP":
        gate = ACTS["relu2"](g)
        yield gate, gate * one
    elif "swiglu_alpha" in vars(module):
        low = g.clamp(max=module.swiglu_limit)
        gate = low * torch.sigmoid(low * module.swiglu_alpha)
        yield gate, gate * (one.clamp(-module.swiglu_limit, module.swiglu_limit) + 1)
    elif "limit" in vars(module):
        gate = ACTS["silu"](g.clamp(max=module.limit))
        yield gate, gate * one.clamp(-module.limit, module.limit)
    else:
        for act in ACTS.values():
            gate = act(g)
            yield gate, gate * one
        if name == "ApertusMLP":
            gate = module.act_fn(g)
            yield gate, gate


def close(one: Tensor, other: Tensor, tolerance: float = 2e-5) -> bool:
    """Whether two states are equal up to rounding, NaN never."""
    if one.shape != other.shape:
        return False
    scale = other.abs().max().item() if other.numel() else 0.0
    return bool(((one - other).abs() <= tolerance * max(scale, 1e-6)).all())


# Experts: a loop over tokens, in plain Python.


def _expert_kind(module: nn.Module) -> str:
    if isinstance(getattr(module, "down_proj", None), nn.Parameter) and module.down_proj.ndim == 3:
        return "stacked"
    if type(module).__name__ == "DbrxExperts":
        return "dbrx"
    if type(module).__name__ == "JetMoeMoE":
        return "jetmoe"
    if type(module).__name__ in ("SwitchTransformersExperts", "NllbMoeExperts"):
        return "modules"
    return ""


def routed(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> tuple[Tensor, Tensor, int]:
    """Gate and product [tokens, experts * d_ff], zero where a token is not routed.

    Raises:
        AssertionError: If the states do not give the module's own output.
    """
    pairs, weight_of, token_states = _routing(module, given)
    tokens, hidden = token_states.shape[-2:]
    experts, width = _expert_size(module)
    gates, products = torch.zeros(2, tokens, experts, width).unbind(0)
    total = torch.zeros(tokens, hidden)
    stacked_total = torch.zeros(experts, tokens, hidden)
    for token, expert in pairs:
        x = token_states[expert, token] if token_states.ndim == 3 else token_states[token]
        if expert >= experts:
            total[token] += x * weight_of(token, expert)
            continue
        gate, product, out = _one_expert(module, expert, x)
        gates[token, expert], products[token, expert] = gate, product
        total[token] += out * weight_of(token, expert)
        stacked_total[expert, token] = out
    if type(module).__name__ == "Llama4TextExperts":
        total = stacked_total.reshape(-1, hidden)
    elif type(module).__name__ == "JetMoeMoE":
        total = total + module.bias
    elif type(module).__name__ == "NllbMoeExperts":
        total = total * (1 - module.moe_token_dropout)
    wanted = output.reshape(-1, hidden)
    assert close(total, wanted, 1e-4), f"no equation gives the output of {type(module).__name__}"
    return gates.reshape(tokens, -1), products.reshape(tokens, -1), experts


def _routing(module: nn.Module, given: tuple[Any, ...]) -> Any:
    name = type(module).__name__
    hidden = given[0].reshape(-1, given[0].shape[-1])
    if name == "Llama4TextExperts":
        experts = module.num_experts
        tokens = hidden.shape[0] // experts
        stacked = hidden.view(experts, tokens, -1)
        routes = [(t, e) for t in range(tokens) for e in range(experts) if stacked[e, t].any()]
        return routes, lambda t, e: 1.0, stacked
    if name == "InklingSharedExperts":
        gammas = given[1].reshape(-1, module.n_shared_experts)
        routes = [(t, e) for t in range(len(hidden)) for e in range(gammas.shape[1])]
        return routes, lambda t, e: gammas[t, e], hidden
    if name == "JetMoeMoE":
        logits = module.router.layer(hidden).float()
        top, index = logits.topk(module.router.top_k, dim=1)
        weight = torch.softmax(top, dim=1)
    elif name in ("SwitchTransformersExperts", "NllbMoeExperts"):
        return _masked_routing(name, given, hidden)
    else:
        index, weight = given[1], given[2]
    routes = [(t, e) for t in range(len(hidden)) for e in sorted(set(index[t].tolist()))]
    return (
        routes,
        lambda t, e: weight[t][index[t] == e].sum(),
        hidden,
    )


def _masked_routing(name: str, given: tuple[Any, ...], hidden: Tensor) -> Any:
    mask, weight = given[1], given[2]
    if name == "SwitchTransformersExperts":
        mask = mask.reshape(len(hidden), -1)
        weight = weight.reshape(len(hidden), 1).expand_as(mask)
        routes = [(t, e) for t in range(len(hidden)) for e in range(mask.shape[1]) if mask[t, e]]
    else:
        # Positions of a boolean [tokens, experts] mask are read as expert numbers 0 and 1.
        chosen = mask.long()
        routes = sorted({(t, int(e)) for t in range(len(hidden)) for e in chosen[t]})

        def nllb(t: int, e: int) -> Any:
            return weight[t][chosen[t] == e].sum()

        return routes, nllb, hidden
    return routes, lambda t, e: weight[t, e], hidden


def _expert_size(module: nn.Module) -> tuple[int, int]:
    kind = _expert_kind(module)
    if kind == "dbrx":
        return module.num_experts, module.ffn_hidden_size
    if kind == "jetmoe":
        return module.output_linear.num_experts, module.output_linear.input_size
    if kind == "modules":
        first = next(iter(module.values()))
        return sum("expert_" in name for name in module), (
            getattr(first, "wo", None) or first.fc2
        ).in_features
    return len(module.down_proj), _down(module, 0).shape[1]


def _down(module: nn.Module, expert: int) -> Tensor:
    """[hidden, d_ff]"""
    flipped = getattr(module, "is_transposed", type(module).__name__ == "Llama4TextExperts")
    weight = module.down_proj[expert]
    return weight.T if flipped else weight


def _one_expert(module: nn.Module, expert: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kind = _expert_kind(module)
    if kind == "dbrx":
        shape = (module.num_experts, module.ffn_hidden_size, module.hidden_size)
        w1, v1, w2 = (getattr(module.mlp, n).view(shape)[expert] for n in ("w1", "v1", "w2"))
        gate = ACTS["silu"](w1 @ x)
        product = gate * (v1 @ x)
        return gate, product, product @ w2
    if kind == "jetmoe":
        both = module.input_linear.weight[expert] @ x
        gate = ACTS["silu"](both[: len(both) // 2])
        product = gate * both[len(both) // 2 :]
        return gate, product, module.output_linear.weight[expert] @ product
    if kind == "modules":
        one = module[f"expert_{expert}"]
        up, down = (one.wi, one.wo) if hasattr(one, "wi") else (one.fc1, one.fc2)
        gate = ACTS["relu"](linear(up, x))
        return gate, gate, linear(down, gate)
    return _stacked(module, expert, x)


def _stacked(module: nn.Module, expert: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flipped = getattr(module, "is_transposed", type(module).__name__ == "Llama4TextExperts")
    if not hasattr(module, "gate_up_proj"):
        up = module.up_proj[expert] @ x
        if hasattr(module, "gate_proj"):
            gate = ACTS["silu"](module.gate_proj[expert] @ x)
            product = gate * up
        else:
            gate = product = ACTS["relu2"](up)
        return gate, product, module.down_proj[expert] @ product
    weight = module.gate_up_proj[expert]
    both = x @ weight if flipped else weight @ x
    if hasattr(module, "gate_up_proj_bias"):
        both = both + module.gate_up_proj_bias[expert]
    half = len(both) // 2
    g, u = (
        (both[::2], both[1::2])
        if type(module).__name__ == "GptOssExperts"
        else (
            both[:half],
            both[half:],
        )
    )
    gate, product = _expert_gate(module, g, u)
    out = _down(module, expert) @ product
    if hasattr(module, "down_proj_bias"):
        out = out + module.down_proj_bias[expert]
    return gate, product, out


def _expert_gate(module: nn.Module, g: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    name = type(module).__name__
    limit = getattr(module, "limit", getattr(module, "swiglu_limit", None))
    if name == "Inkling2Experts":
        act = module.act_fn
        first, second = act.gate_softcap.softcap, act.up_softcap.softcap
        gate = torch.tanh(g / first) * first * torch.sigmoid(g)
        return gate, gate * torch.tanh(u / second) * second
    if limit is not None:
        g, u = g.clamp(max=limit), u.clamp(-limit, limit)
    alpha = getattr(module, "alpha", getattr(module, "swiglu_alpha", None))
    if alpha is not None:
        gate = g * torch.sigmoid(alpha * g)
        return gate, gate * (u + 1)
    act = getattr(module, "act_fn", None)
    gelu = "gelu" in type(act).__name__.lower()
    gate = ACTS["gelu_tanh" if gelu else "silu"](g)
    return gate, gate * u
