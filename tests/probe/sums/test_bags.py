"""Sums of routed rows, against double loops in float64."""

import pytest
import torch

from neuronxa_callback.metrics.registry import reads_of
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.pooling import Pooling
from neuronxa_callback.probe.sums import bags

BATCH, TOKENS, TOP_K, EXPERTS, WIDTH = 5, 7, 2, 6, 3


def routed(seed=0, unused=()):
    """Token and expert of every pair, sorted by expert; some experts get no token."""
    generator = torch.Generator().manual_seed(seed)
    used = torch.tensor([expert for expert in range(EXPERTS) if expert not in unused])
    index = torch.stack(
        [
            used[torch.randperm(len(used), generator=generator)[:TOP_K]]
            for _ in range(BATCH * TOKENS)
        ]
    )
    expert, order = torch.sort(index.reshape(-1), stable=True)
    return order // TOP_K, expert


@pytest.fixture(params=[("cpu",), ()], ids=["bags", "by index"])
def sums(request, monkeypatch):
    """Bags of routed pairs; once by the operator for bags, once by that of other devices."""
    monkeypatch.setattr(bags, "BAGS_RUN_ON", request.param)
    token, expert = routed(unused=(0, 4))
    return bags.Bags(token, expert, (BATCH, TOKENS), EXPERTS)


def test_sums_equal_double_loops(sums):
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(len(sums.token), WIDTH, generator=generator)
    weights = torch.rand(len(sums.token), 2, generator=generator)
    by_expert = torch.zeros(2, BATCH, EXPERTS, WIDTH, dtype=torch.float64)
    by_sentence = torch.zeros(BATCH, dtype=torch.float64)
    by_token = torch.zeros(BATCH * TOKENS, dtype=torch.float64)
    for pair, (token, expert) in enumerate(
        zip(sums.token.tolist(), sums.expert.tolist(), strict=True)
    ):
        by_sentence[token // TOKENS] += values[pair, 0].double()
        by_token[token] += values[pair, 0].double()
        for row in range(2):
            for neuron in range(WIDTH):
                by_expert[row, token // TOKENS, expert, neuron] += (
                    weights[pair, row].double() * values[pair, neuron].double()
                )
    found = sums.sum_by_expert(values, weights).view(2, BATCH, EXPERTS, WIDTH)
    torch.testing.assert_close(found.double(), by_expert, rtol=1e-6, atol=0)
    assert (found[:, :, [0, 4]] == 0).all()
    for one, expected in (
        (sums.sum_by_sentence(values[:, 0]), by_sentence),
        (sums.sum_by_token(values[:, 0]), by_token),
    ):
        torch.testing.assert_close(one.double(), expected, rtol=1e-6, atol=0)


def test_whole_numbers_are_exact(sums):
    values = torch.arange(len(sums.token))[:, None].remainder(2).float()
    weights = sums.token[:, None].remainder(TOKENS).float() + 1
    expected = torch.zeros(BATCH * EXPERTS, 1)
    for pair, (token, expert) in enumerate(
        zip(sums.token.tolist(), sums.expert.tolist(), strict=True)
    ):
        expected[token // TOKENS * EXPERTS + expert] += weights[pair] * values[pair]
    assert torch.equal(sums.sum_by_expert(values, weights), expected)


def pooled(states, token, expert, special=None):
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    mask[1, 4:] = False
    special = torch.zeros_like(mask) if special is None else special
    reads = reads_of(("nasca", "navca"), ("sinks", "activity"))
    pooling = Pooling(Batch(mask.long(), mask, special), reads)
    found = {read.source: pooling.routed(read, states, token, expert, EXPERTS) for read in reads}
    return mask, found


def test_gate_and_product_share_their_bags(monkeypatch):
    sorts, original = [], bags.Bags.__init__
    monkeypatch.setattr(
        bags.Bags, "__init__", lambda *args: (sorts.append(args), original(*args))[1]
    )
    token, expert = routed()
    pooled(torch.randn(len(token), WIDTH), token, expert)
    assert len(sorts) == 1


def test_pooling_of_routed_rows_equals_that_of_all_states():
    token, expert = routed(seed=2)
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(len(token), WIDTH, generator=generator)
    special = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    special[:, 0] = True
    whole = torch.zeros(BATCH * TOKENS, EXPERTS, WIDTH)
    whole[token, expert] = states
    whole = whole.view(BATCH, TOKENS, EXPERTS * WIDTH)
    mask, found = pooled(states, token, expert, special)
    for read in reads_of(("nasca", "navca"), ("sinks", "activity")):
        pooling = Pooling(Batch(mask.long(), mask, special), [read])
        expected, one = pooling.dense(read, whole, 0), found[read.source]
        torch.testing.assert_close(one.pooled, expected.pooled, rtol=1e-6, atol=1e-6)
        if read.source == "nas":
            assert torch.equal(one.pooled, expected.pooled)
            assert torch.equal(one.active, expected.active)
        else:
            torch.testing.assert_close(one.token_sizes, expected.token_sizes)


def test_nan_stays_in_its_sentence_and_expert():
    token, expert = routed(seed=4)
    states = torch.ones(len(token), WIDTH)
    states[5, 1] = torch.nan
    _, found = pooled(states, token, expert)
    for source, neurons in (("nas", [0, 1, 2]), ("nav", [1])):
        nan = found[source].pooled[:, 0].isnan().view(BATCH, EXPERTS, WIDTH)
        expected = torch.zeros_like(nan)
        expected[token[5] // TOKENS, expert[5], neurons] = True
        assert torch.equal(nan, expected)
    active = found["nas"].active.isnan()
    assert active.nonzero().tolist() == [[int(token[5]) // TOKENS]]


def test_no_rows_at_all():
    none = torch.zeros(0, dtype=torch.long)
    _, found = pooled(torch.zeros(0, WIDTH), none, none)
    for vectors in found.values():
        assert vectors.pooled.shape[0] == BATCH
        assert (vectors.pooled == 0).all()
