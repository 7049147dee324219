"""The states that taps should read, computed from the weights.

The oracle does not use discovery. It finds feed-forward networks by the names of their layers, and
raises unless their equation reproduces the input of the down projection that the model itself
computed (for experts, see ``expert_oracle``, the output of their module).
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers.ffn.expert_oracle import expert_kind
from tests.helpers.ffn.formulas import ACTS, close, linear

# (Gate and) up layers, then the down layer, as paths from one common module.
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


class Oracle:
    """Records one forward pass of an unwrapped model; ``states`` gives the expected states."""

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
            elif expert_kind(module):
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
                # PEGASUS-X: every second call is for global states, which are not tokens.
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
        """Paths of modules that ran and hold experts of one neuron each, as embeddings.

        The oracle has no equation for these: reading only the down projections of such a model
        leaves neurons out.
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
    """Gate and product by the first equation that gives ``p``."""
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
