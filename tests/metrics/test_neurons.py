"""Neuron statistics against double loops over tokens, and against their nulls."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from neuronxa_callback.metrics.neurons import counts, language_neurons, overlap, sharing
from neuronxa_callback.metrics.neurons.companion import contrast

K, N, D = 4, 9, 30


def firing(seed, languages=K, pairs=N, neurons=D):
    """on[k][i] [tokens, neurons], booleans: whether a neuron fires at a token."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(0.4, 0.8, size=(languages, neurons))
    return [
        [rng.random((int(rng.integers(2, 8)), neurons)) < rates[k] for _ in range(pairs)]
        for k in range(languages)
    ]


def counted(on, batch=5, seed=0):
    """FiringCounts of all sentences, in microbatches of mixed languages in random order."""
    languages, pairs, neurons = len(on), len(on[0]), on[0][0].shape[1]
    found = counts.FiringCounts(languages, pairs, neurons, torch.device("cpu"))
    order = list(product(range(languages), range(pairs)))
    np.random.default_rng(seed).shuffle(order)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        fired = np.stack([on[k][i].sum(axis=0) for k, i in part])
        last = np.stack([on[k][i][-1] for k, i in part])
        k, i = (torch.tensor([key[side] for key in part]) for side in (0, 1))
        tokens = torch.tensor([len(on[a][b]) for a, b in part])
        found.add(
            torch.tensor(fired, dtype=torch.float32),
            torch.tensor(last, dtype=torch.float32),
            counts.SentenceTokens(k, i, tokens),
        )
    return found


def rate(on, k, j, sentences=None):
    tokens = [bool(t[j]) for i in (sentences or range(len(on[k]))) for t in on[k][i]]
    return sum(tokens) / len(tokens)


def test_rates_equal_a_loop_over_tokens_in_any_order():
    on = firing(1)
    found, shuffled = counted(on), counted(on, batch=3, seed=5)
    for one, other in zip(found.tensors(), shuffled.tensors(), strict=True):
        assert torch.equal(one, other)
    for k, j in product(range(K), range(D)):
        assert found.rates()[k, j] == rate(on, k, j)
        for half in (0, 1):
            assert found.half_rates()[half, k, j] == rate(on, k, j, range(half, N, 2))


def test_the_design_effect_equals_a_loop_over_sentences():
    on = firing(2)
    deff = counted(on).design_effect()
    for k, j in product(range(K), range(D)):
        p, total = rate(on, k, j), sum(map(len, on[k]))
        if p in (0, 1):
            assert math.isnan(deff[k, j])
            continue
        residuals = [sum(map(bool, s[:, j])) - p * len(s) for s in on[k]]
        variance = sum(x * x for x in residuals) * N / (N - 1) / total**2
        assert float(deff[k, j]) == pytest.approx(variance / (p * (1 - p) / total))


def test_overlap_equals_sorted_lists():
    on = firing(3)
    found = counted(on)
    result = overlap.overlap(found.rates(), found.half_rates(), share=0.2)

    def top(k, sentences=None):
        order = sorted(range(D), key=lambda j: (-rate(on, k, j, sentences), j))
        return set(order[:6])

    assert result.selected == 6
    assert result.chance == 6 / D
    assert result.with_pivot == tuple(len(top(0) & top(k)) / 6 for k in range(K))
    halves = range(0, N, 2), range(1, N, 2)
    assert result.ceiling == tuple(len(top(k, halves[0]) & top(k, halves[1])) / 6 for k in range(K))
    cut = [sorted((rate(on, k, j) for j in range(D)), reverse=True)[5] for k in range(K)]
    tied = [sum(rate(on, k, j) == cut[k] for j in range(D) if j not in top(k)) for k in range(K)]
    assert list(result.tied) == tied


@pytest.mark.parametrize("rule", ["any", "last"])
def test_sharing_equals_a_loop_over_sentences(rule):
    on = firing(4)
    found = counted(on)

    def fires(k, i, j):
        return bool(on[k][i][:, j].any() if rule == "any" else on[k][i][-1, j])

    kinds = Counter()
    for i, j in product(range(N), range(D)):
        n = sum(fires(k, i, j) for k in range(K))
        kinds["all" if n == K else "silent" if n == 0 else "specific" if n == 1 else "partial"] += 1
    null = Counter()
    for j in range(D):
        q = [sum(fires(k, i, j) for i in range(N)) / N for k in range(K)]
        for pattern in product((0, 1), repeat=K):
            p = math.prod(a if bit else 1 - a for a, bit in zip(q, pattern, strict=True))
            n = sum(pattern)
            kind = "all" if n == K else "silent" if n == 0 else "specific" if n == 1 else "partial"
            null[kind] += p / D
    result = sharing.sharing(
        getattr(found, f"languages_{rule}"), getattr(found, f"sentences_{rule}")
    )
    assert result.shares == pytest.approx([kinds[kind] / (N * D) for kind in sharing.KINDS])
    assert result.null == pytest.approx([null[kind] for kind in sharing.KINDS])
    assert sum(result.shares) == pytest.approx(1)
    assert sum(result.excess) == pytest.approx(0)


def test_re_paired_sentences_sit_at_the_null_of_sharing():
    on = firing(5, pairs=40)
    rng = np.random.default_rng(0)
    observed = []
    for _ in range(200):
        mixed = [[side[i] for i in rng.permutation(len(side))] for side in on]
        last = np.stack([[sentence[-1] for sentence in side] for side in mixed])
        result = sharing.sharing(torch.tensor(last.sum(axis=0)), torch.tensor(last.sum(axis=1)))
        observed.append(result.shares)
    mean, error = np.mean(observed, axis=0), np.std(observed, axis=0) / math.sqrt(200)
    assert np.all(np.abs(mean - result.null) <= 4 * error + 1e-12)


def test_unrelated_languages_sit_at_the_chance_of_overlap():
    rng = np.random.default_rng(6)
    rates = torch.tensor(rng.random((300, 200)))
    result = overlap.overlap(rates, torch.stack([rates, rates]))
    found = np.array(result.with_pivot[1:])
    assert abs(found.mean() - result.chance) <= 4 * found.std() / math.sqrt(len(found))


def test_language_neurons_equal_a_loop():
    layers = [counted(firing(seed)).rates() for seed in (7, 8)]
    flat = sorted(float(p) for layer in layers for p in layer.flatten())
    bar = language_neurons.firing_bar(layers)
    assert bar == flat[int(0.95 * len(flat))]
    assert sum(p > bar for p in flat) <= 0.05 * len(flat)
    for layer in layers:
        above = [[k for k in range(K) if layer[k, j] > bar] for j in range(D)]
        sizes = Counter(map(len, above))
        specific, related, agnostic, silent = language_neurons.count_kinds(layer, bar)
        assert (specific, agnostic, silent) == (sizes[1], sizes[K], sizes[0])
        assert specific + related + agnostic + silent == D
        alone = [sum(each == [k] for each in above) for k in range(K)]
        assert list(language_neurons.count_specific(layer, bar)) == alone
    wanted = []
    for number, layer in enumerate(layers):
        for j in range(D):
            p = [float(x) for x in layer[:, j]]
            if max(p) > bar:
                q = [x / sum(p) for x in p]
                entropy = -sum(x * math.log(x) for x in q if x)
                wanted.append((entropy, number, j, tuple(k for k in range(K) if p[k] > bar)))
    wanted = sorted(wanted)[: round(0.05 * 2 * D)]
    found = language_neurons.select(layers, bar, share=0.05)
    assert [(x.layer, x.index, x.languages) for x in found] == [each[1:] for each in wanted]
    assert [x.entropy for x in found] == pytest.approx([each[0] for each in wanted])
    assert language_neurons.jaccard(found, found) == 1
    assert language_neurons.jaccard(found[:1], found[1:2]) == 0


def test_contrast_equals_a_double_loop():
    similarity = torch.tensor(np.random.default_rng(9).random((3, 6, 6)))
    found = contrast(similarity)
    for layer, i in product(range(3), range(6)):
        others = [float(similarity[layer, i, j]) for j in range(6) if j != i]
        others += [float(similarity[layer, j, i]) for j in range(6) if j != i]
        wanted = float(similarity[layer, i, i]) - sum(others) / 10
        assert float(found[layer, i]) == pytest.approx(wanted)
