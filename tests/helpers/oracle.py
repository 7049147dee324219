"""The method by its definition: one sentence at a time, unpadded, double loops in float64."""

import math

import torch

from neuronxa_callback.probe.batching import Batch, collate
from tests.helpers.ffn.oracle import Oracle


def states_by_hand(model, ids):
    """Gate and product of every layer, from the FFN's input and weights; and the hidden states."""
    with torch.no_grad(), Oracle(model) as watched:
        out = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        # One call per layer, in the order of the layers.
        calls = [call for (call,) in watched.states().values()]
    gate, product = ([states[0].double() for states in each] for each in zip(*calls, strict=True))
    return gate, product, [each[0].double() for each in out.hidden_states]


def vector(states, kind):
    """sum_t w_t s_tj with w_t = t / (1 + 2 + .. + T)."""
    total, T = [0.0] * states.shape[1], states.shape[0]
    for t, row in enumerate(states.tolist(), start=1):
        weight = t / (T * (T + 1) / 2)
        if kind == "last":
            weight = 1.0 if t == T else 0.0
        for j, value in enumerate(row):
            made = {"nas": float(value > 0), "nav": abs(value)}.get(kind, value)
            total[j] += weight * made
    return total


def cosine(x, y):
    dot = math.fsum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))


def verdicts(pivot, target):
    n = len(pivot)
    c = [[cosine(pivot[i], target[j]) for j in range(n)] for i in range(n)]
    return [
        all(c[i][i] > c[i][j] and c[i][i] > c[j][i] for j in range(n) if j != i) for i in range(n)
    ]


def vectors_of(model, tokenize, texts):
    """metric -> per layer the vectors of all texts."""
    found = {"nasca": [], "navca": [], "mexa": [], "mexa_last": []}
    for text in texts:
        gate, product, hidden = states_by_hand(model, tokenize(text).ids)
        found["nasca"].append([vector(each, "nas") for each in gate])
        found["navca"].append([vector(each, "nav") for each in product])
        found["mexa"].append([vector(each, "hidden") for each in hidden])
        found["mexa_last"].append([vector(each, "last") for each in hidden])
    return {name: list(zip(*each, strict=True)) for name, each in found.items()}


def hits(model, tokenize, pairs):
    """metric -> per layer the verdicts on all pairs."""
    pivot = vectors_of(model, tokenize, [p for p, _ in pairs])
    target = vectors_of(model, tokenize, [t for _, t in pairs])
    return {
        name: [verdicts(a, b) for a, b in zip(pivot[name], target[name], strict=True)]
        for name in pivot
    }


def mask(row):
    return sum(1 << i for i, hit in enumerate(row) if hit)


def padded(sentences, side):
    """One batch of sentences, padded on a side."""
    batch = collate(sentences, pad=0)
    if side == "right":
        return batch
    shift = (batch.ids.shape[1] - batch.mask.sum(dim=1)).tolist()

    def moved(rows):
        return torch.stack([row.roll(k) for row, k in zip(rows, shift, strict=True)])

    return Batch(moved(batch.ids), moved(batch.mask), moved(batch.special))
