"""Experts that are a list of modules, as in transformers 4 and in remote code."""

import pytest
import torch
import transformers
from torch import Tensor, nn

from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import stir, tiny
from tests.helpers.ffn.formulas import close
from tests.helpers.ffn.reading import read
from tests.helpers.ffn.remote import HIDDEN, REMOTE, ModuleListMoE, RemoteModel


class TupleMoE(ModuleListMoE):
    """Mixtral of transformers 4: adds to fresh zeros, and returns the router's logits, too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        flat = x.view(-1, HIDDEN)
        logits = self.gate(flat)
        weight, chosen = nn.functional.softmax(logits, dim=-1).topk(2, dim=-1)
        out = torch.zeros(flat.shape, dtype=x.dtype, device=x.device)
        mask = nn.functional.one_hot(chosen, len(self.experts)).permute(2, 1, 0)
        for number in mask.sum(dim=(-1, -2)).nonzero():
            place, row = torch.where(mask[number].squeeze(0))
            rows = self.experts[number](flat[None, row].reshape(-1, HIDDEN))
            out.index_add_(0, row, rows * weight[row, place, None])
        return out.view_as(x), logits


@pytest.mark.parametrize("kind", [ModuleListMoE, TupleMoE])
def test_their_states_equal_two_loops(kind, monkeypatch):
    monkeypatch.setitem(REMOTE, kind.__name__, kind)
    model, inputs = RemoteModel(kind.__name__).eval(), []
    stir(model)
    for layer in model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    plan, states = read(model, lambda tokens: model(input_ids=tokens))
    assert [part.kind for part in plan.parts] == ["routed"] * 2
    for layer, x, found in zip(model.layers, inputs[2:], states, strict=True):
        with torch.no_grad():
            expected = layer.mlp.by_hand(x)
        assert all(close(found[site], one) for site, one in zip(SITES, expected, strict=True))


def loops(block, x):
    """Gate and product [tokens, experts * d_ff] of a block of transformers 4, by two loops."""
    names = ("w1", "w3") if hasattr(block.experts[0], "w1") else ("gate_proj", "up_proj")
    weights = [[getattr(expert, name).weight for name in names] for expert in block.experts]
    flat = x.reshape(-1, x.shape[-1])
    chosen = (flat @ block.gate.weight.T).topk(block.top_k, dim=-1).indices
    gates, products = torch.zeros(2, len(flat), len(weights), len(weights[0][0])).unbind(0)
    for row, experts in enumerate(chosen.tolist()):
        for number in experts:
            a, b = (weight @ flat[row] for weight in weights[number])
            gates[row, number] = a / (1 + torch.exp(-a))
            products[row, number] = gates[row, number] * b
    return gates.flatten(1), products.flatten(1)


@pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) >= 5,
    reason="experts are one tensor since transformers 5",
)
@pytest.mark.parametrize("experts", [4, 40])
@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe"])
def test_states_of_transformers_4_equal_two_loops(family, experts):
    name = "num_local_experts" if family == "mixtral" else "num_experts"
    model, inputs = tiny(family, **{name: experts}), []
    blocks = [m for m in model.modules() if type(m).__name__.endswith("SparseMoeBlock")]
    for block in blocks:
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    plan, states = read(model)
    routed = [found for found, part in zip(states, plan.parts, strict=True) if part.experts]
    assert [part.experts for part in plan.parts if part.experts] == [experts] * 2
    for block, x, found in zip(blocks, inputs[2:], routed, strict=True):
        with torch.no_grad():
            expected = loops(block, x)
        assert all(close(found[site], one) for site, one in zip(SITES, expected, strict=True))
