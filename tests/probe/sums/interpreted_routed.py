"""The kernel of routed experts in Triton's interpreter on CPU: equal to the plain path.

``test_kernels.py`` runs this file in a process of its own, as ``interpreted.py``.
"""

import re
from dataclasses import replace

import pytest
import torch

from neuronxa_callback import Probe
from neuronxa_callback.probe.pooling import Pooling
from neuronxa_callback.probe.sums import fused
from tests.helpers.families import tiny
from tests.helpers.ffn.kernels import NAS, NAV, SOURCE, batch_of, loaded, same, wrong_sums
from tests.helpers.probes import config_of, half_translated

EXPERTS, TOP_K, LAYERS = 5, 2, 3


def routed_rows(batch, generator):
    """Token and expert of every pair, sorted by expert; expert 3 gets none, padding has its own."""
    tokens = batch.mask.numel()
    used = torch.tensor([0, 1, 2, 4])
    index = torch.stack(
        [used[torch.randperm(4, generator=generator)[:TOP_K]] for _ in range(tokens)]
    )
    expert, order = torch.sort(index.reshape(-1), stable=True)
    return order // TOP_K, expert


def differences(kernels, dtype, d_ff, nan=False):
    """Names of the sums in which kernel and plain path differ, for two reads of three layers."""
    generator = torch.Generator().manual_seed(0)
    batch, device, wrong = batch_of((5, 3, 7)), torch.device("cpu"), []
    for read in (NAS, NAV):
        pooling, rows = Pooling(batch, (read,)), len(read.weights)
        weights, width = pooling.weights[read.source], EXPERTS * d_ff
        one = fused.FusedReduction(read, LAYERS, width, 1, device, EXPERTS)
        one.kernels, one.blocks = kernels, EXPERTS * -(-d_ff // kernels.BLOCK)
        one.bytes = 2 * 4 * rows * 3 * width
        pivot = torch.randint(0, 131_329, (LAYERS, rows, 4, width), generator=generator).float()
        one.begin(weights, batch.mask, pivot, torch.arange(3), filling=False)
        one.space.fill_(77.0)
        expected = []
        for layer in range(LAYERS):
            token, expert = routed_rows(batch, generator)
            states = torch.randn(len(token), d_ff, generator=generator).to(dtype)
            if nan and layer == 1:
                states[-1, d_ff - 1] = torch.nan
            expected.append(pooling.routed(read, states, token, expert, EXPERTS))
            assert one.takes_routed(states, True)
            one.add_routed(layer, states, pooling.bags_of(token, expert, EXPERTS))
        wrong += wrong_sums(read, one, pivot, expected, not nan)
    return wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("d_ff", [24, 513])
def test_the_kernel_equals_the_plain_path(dtype, d_ff, tmp_path):
    name = f"routed_{d_ff}_{dtype}".replace(".", "_")
    kernels = loaded(tmp_path, name, SOURCE.read_text("utf-8"))
    assert differences(kernels, dtype, d_ff) == []


def test_a_nan_in_one_state_reaches_every_product_of_its_sentence(tmp_path):
    kernels = loaded(tmp_path, "routed_nan", SOURCE.read_text("utf-8"))
    assert differences(kernels, torch.float32, 30, nan=True) == []


MUTANTS = {
    "the first pair": ("for number in range(first", "for number in range(first + 1"),
    "the last pair": ("range(first, last)", "range(first, last - 1)"),
    "the order of pairs": ("tl.load(order + number)", "(tl.load(order + number) * 0 + number)"),
    "the token": ("tl.load(token + index) % tokens", "index % tokens"),
    "the expert": (
        "tl.program_id(0) // experts, tl.program_id(0) % experts",
        "tl.program_id(0) // experts, tl.program_id(0) % experts * 0",
    ),
    "the NaN": ("state != state", "state < state"),
    "the last block of neurons": ("[(bags, blocks)](", "[(bags, max(1, blocks - 1))]("),
    "the last sentence": ("[(bags, blocks)](", "[(bags - 1, blocks)]("),
    "the size of a token": ("tl.sum(value, axis=0) *", "tl.max(value, axis=0) *"),
    "padding in the activity": ("value * tl.load(mask", "value + 0 * tl.load(mask"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_kernel_that_drops_a_part_is_noticed(name, tmp_path):
    before, after = MUTANTS[name]
    text = SOURCE.read_text("utf-8")
    assert before in text
    name = "routed_" + re.sub(r"\W", "_", name)
    kernels = loaded(tmp_path, name, text.replace(before, after))
    found = differences(kernels, torch.float32, 513)
    found += differences(kernels, torch.float32, 30, nan=True)
    assert found


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "olmoe"])
@pytest.mark.parametrize("bytes_of_buffers", [1, fused.BUFFER_BYTES])
def test_a_probe_of_experts_has_the_scores_of_the_plain_path(
    tokenizer, monkeypatch, family, bytes_of_buffers
):
    monkeypatch.setattr(fused, "BUFFER_BYTES", bytes_of_buffers)
    counted = ("overlap", "sharing")
    config = config_of(half_translated(6), batch_tokens=64, neurons=counted)
    model = tiny(family, vocab_size=len(tokenizer))
    taken, add = [], fused.FusedReduction.add_routed
    monkeypatch.setattr(
        fused.FusedReduction, "add_routed", lambda *args: (taken.append(1), add(*args))
    )
    report = Probe(config, tokenizer).run(model)
    all_pairs = Probe(config, tokenizer).run(model, pivot="all")
    assert taken
    monkeypatch.delenv("TRITON_INTERPRET")
    plain = Probe(config, tokenizer).run(model)
    assert same(report).metrics == same(plain).metrics
    for name in ("activity", *counted):
        assert report.diagnostics[name] == plain.diagnostics[name]
    assert report.diagnostics["margins"]["nasca"] == plain.diagnostics["margins"]["nasca"]
    assert replace(all_pairs, language_pairs={}) == report
    expected = Probe(config, tokenizer).run(model, pivot="all")
    assert all_pairs.language_pairs == expected.language_pairs
    assert any(map(any, plain.metrics["nasca"].mutual.values()))
