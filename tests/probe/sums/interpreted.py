"""The kernels in Triton's interpreter on CPU: equal to the plain path, and no test is blind.

``test_kernels.py`` runs this file in a process of its own, since Triton reads TRITON_INTERPRET when
it is imported.
"""

import re
from dataclasses import replace

import pytest
import torch

from neuronxa_callback import Probe
from neuronxa_callback.probe.pooling import Pooling
from neuronxa_callback.probe.sums import fused
from tests.helpers.ffn.kernels import NAS, NAV, SOURCE, batch_of, loaded, same, wrong_sums
from tests.helpers.probes import config_of, half_translated, trained


def differences(kernels, dtype, width, nan=False):
    """Names of the sums in which kernels and plain path differ, for two reads of three layers."""
    generator = torch.Generator().manual_seed(0)
    batch, device, wrong = batch_of((5, 3, 7)), torch.device("cpu"), []
    for read in (NAS, NAV):
        pooling = Pooling(batch, (read,))
        weights, rows = pooling.weights[read.source], len(read.weights)
        one = fused.FusedReduction(read, 3, width, 1, device)
        one.kernels, one.blocks = kernels, -(-width // kernels.BLOCK)
        # Two layers wait at a time, so that the last buffer is not full.
        one.bytes = 2 * 4 * rows * 3 * width
        pivot = torch.randint(0, 131_329, (3, rows, 4, width), generator=generator).float()
        one.begin(weights, batch.mask, pivot, torch.arange(3), filling=False)
        states = [torch.randn(3, 7, width, generator=generator).to(dtype) for _ in range(3)]
        if nan:
            states[1][2, 6, width - 1] = torch.nan
        expected = [pooling.dense(read, each, 0) for each in states]
        for layer, each in enumerate(states):
            assert one.takes(each, 0)
            one.add(layer, each)
        wrong += wrong_sums(read, one, pivot, expected)
    return wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [64, 513, 1100])
def test_the_kernels_equal_the_plain_path(dtype, width, tmp_path):
    kernels = loaded(tmp_path, f"{width}_{dtype}".replace(".", "_"), SOURCE.read_text("utf-8"))
    assert differences(kernels, dtype, width) == []


def test_a_nan_in_one_state_reaches_every_sum_of_its_sentence(tmp_path):
    kernels = loaded(tmp_path, "nan", SOURCE.read_text("utf-8"))
    assert differences(kernels, torch.float32, 600, nan=True) == []


def test_a_layer_that_the_kernels_do_not_take_is_zero_or_that_of_the_plain_path(tmp_path):
    kernels = loaded(tmp_path, "left", SOURCE.read_text("utf-8"))
    batch, width = batch_of((5, 3, 7)), 600
    for read in (NAS, NAV):
        pooling = Pooling(batch, (read,))
        one = fused.FusedReduction(read, 3, width, 1, torch.device("cpu"))
        one.kernels, one.blocks = kernels, -(-width // kernels.BLOCK)
        rows = len(read.weights)
        pivot = torch.ones(3, rows, 4, width)
        one.begin(pooling.weights[read.source], batch.mask, pivot, torch.arange(3), filling=False)
        one.add(0, torch.randn(3, 7, width))
        one.leave(2)
        one.dot[2] += 2
        one.squares[2, :, :, 0] += 2
        sums = one.end()
        for each in (one.dot, sums.squares):
            assert each[0].all()
            assert [each[layer].unique().tolist() for layer in (1, 2)] == [[0], [2]]
        for each in (sums.token_sizes, sums.active):
            assert each is None or (each[0].any() and not each[1:].any())


MUTANTS = {
    "the first token": ("range(first, last)", "range(first + 1, last)"),
    "the last token": ("range(first, last)", "range(first, last - 1)"),
    "the last weighting": ("row < ROWS, other", "row < max(1, ROWS - 1), other"),
    "the NaN": ("state != state", "state < state"),
    "the last block of neurons": ("(batch, blocks)](", "(batch, max(1, blocks - 1))]("),
    "the last neurons": ("range(0, width, DEPTH)", "range(0, width - DEPTH, DEPTH)"),
    "a digit": ("total += 512.0 * middle +", "total += 256.0 * middle +"),
    "the magnitude": ("tl.abs(state.to(tl.float32))", "state.to(tl.float32)"),
    "the size of a token": ("tl.sum(value, axis=0) *", "tl.max(value, axis=0) *"),
    "padding in the activity": ("value * tl.load(mask", "value + 0 * tl.load(mask"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_kernel_that_drops_a_part_is_noticed(name, tmp_path):
    before, after = MUTANTS[name]
    text = SOURCE.read_text("utf-8")
    assert before in text
    kernels = loaded(tmp_path, re.sub(r"\W", "_", name), text.replace(before, after))
    found = differences(kernels, torch.float32, 600)
    found += differences(kernels, torch.float32, 600, nan=True)
    assert found


@pytest.mark.parametrize("bytes_of_buffers", [1, fused.BUFFER_BYTES])
def test_a_probe_by_kernels_has_the_scores_of_the_plain_path(
    tokenizer, monkeypatch, bytes_of_buffers
):
    monkeypatch.setattr(fused, "BUFFER_BYTES", bytes_of_buffers)
    config = config_of(half_translated(6), batch_tokens=64)
    model = trained()
    report = Probe(config, tokenizer).run(model)
    monkeypatch.delenv("TRITON_INTERPRET")
    plain = Probe(config, tokenizer).run(model)
    assert report.fingerprint["environment"]["reduction"] == "fused"
    assert plain.fingerprint["environment"]["reduction"] == "plain"
    assert same(report).metrics == same(plain).metrics
    assert report.diagnostics["activity"] == plain.diagnostics["activity"]
    assert report.diagnostics["margins"]["nasca"] == plain.diagnostics["margins"]["nasca"]
    assert any(map(any, plain.metrics["nasca"].mutual.values()))


@pytest.mark.parametrize("bytes_of_buffers", [1, fused.BUFFER_BYTES])
def test_all_pairs_of_languages_take_the_vectors_of_the_kernels_and_move_no_bit(
    tokenizer, monkeypatch, bytes_of_buffers
):
    monkeypatch.setattr(fused, "BUFFER_BYTES", bytes_of_buffers)
    config = config_of(half_translated(6), batch_tokens=64)
    model = trained()
    bare = Probe(config, tokenizer).run(model)
    report = Probe(config, tokenizer).run(model, pivot="all")
    assert report.fingerprint["environment"]["reduction"] == "fused"
    assert replace(report, language_pairs={}) == bare
    monkeypatch.delenv("TRITON_INTERPRET")
    plain = Probe(config, tokenizer).run(model, pivot="all")
    assert report.language_pairs == plain.language_pairs
    assert any(count for row in plain.language_pairs["nasca"].counts for count in row[2:])


@pytest.mark.parametrize("metrics", [("nasca", "navca"), ("navca",)])
@pytest.mark.parametrize("bytes_of_buffers", [1, fused.BUFFER_BYTES])
def test_the_kernels_count_firings_as_the_plain_path_does(
    tokenizer, monkeypatch, bytes_of_buffers, metrics
):
    monkeypatch.setattr(fused, "BUFFER_BYTES", bytes_of_buffers)
    counted = ("overlap", "sharing", "language_neurons")
    config = config_of(half_translated(6), batch_tokens=64, neurons=counted, metrics=metrics)
    model = trained()
    report = Probe(config, tokenizer).run(model)
    monkeypatch.delenv("TRITON_INTERPRET")
    plain = Probe(config, tokenizer).run(model)
    assert report.fingerprint["environment"]["reduction"] == "fused"
    assert plain.fingerprint["environment"]["reduction"] == "plain"
    assert same(report).metrics == same(plain).metrics
    for name in counted:
        assert report.diagnostics[name] == plain.diagnostics[name]
    assert report.diagnostics["language_neurons"]["neurons"]["specific"] != [0, 0, 0]
