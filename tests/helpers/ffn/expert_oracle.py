"""The states that taps should read of routed experts: a loop over tokens, in plain Python."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers.ffn.formulas import ACTS, close, linear


def expert_kind(module: nn.Module) -> str:
    """How the module holds its experts; empty if it holds none."""
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
    """Gate and product [tokens, experts * d_ff], 0 for experts that a token is not routed to.

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
    kind = expert_kind(module)
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
    kind = expert_kind(module)
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
