"""Statistics of pairs through a whole probe: contrast, and the score beyond spelling."""

import math
from itertools import product

import pytest

from neuronxa_callback import Probe
from neuronxa_callback.corpus.surface import surface_hits
from tests.helpers.ffn.firing import dense, firing_of, marked_tokenizer
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.tiny import parallel

PAIRS = 8


def cosine(one, other):
    length = math.sqrt(sum(x * x for x in one) * sum(x * x for x in other))
    return sum(x * y for x, y in zip(one, other, strict=True)) / length


def test_contrast_equals_a_double_loop_over_hooked_states():
    corpus = parallel(PAIRS, ("deu_Latn",))
    (model, hooked), tokenizer = dense(), marked_tokenizer(corpus)
    report = Probe(config_of(corpus, neurons=["contrast"]), tokenizer).run(model)
    pooled = [[[], []] for _ in hooked]
    for side, pair in product((0, 1), corpus.pairs["deu_Latn"]):
        fired = firing_of(model, hooked, tokenizer(pair[side])["input_ids"])
        for layer, on in enumerate(fired):
            weighted = [(t + 1) * row for t, row in enumerate(on.int())]
            pooled[layer][side].append(sum(weighted).tolist())
    for layer, (pivots, targets) in enumerate(pooled):
        c = [[cosine(pivot, target) for target in targets] for pivot in pivots]
        contrasts = []
        for i in range(PAIRS):
            others = [c[i][j] for j in range(PAIRS) if j != i]
            others += [c[j][i] for j in range(PAIRS) if j != i]
            contrasts.append(c[i][i] - sum(others) / len(others))
        found = report.diagnostics["contrast"]["nasca"]["deu_Latn"][layer]
        assert found == pytest.approx(sum(contrasts) / PAIRS, rel=1e-3)


def test_beyond_surface_is_the_score_of_the_pairs_that_spelling_does_not_find():
    corpus = half_translated(150)
    probe = Probe(config_of(corpus, neurons=["beyond_surface"]), marked_tokenizer(corpus))
    report = probe.run(trained())
    for language, pairs in corpus.pairs.items():
        kept = [i for i, hit in enumerate(surface_hits(pairs)) if not hit]
        assert len(kept) >= 20
        masks = report.metrics["nasca"].hits[language]
        hits = sum(mask >> i & 1 for mask in masks for i in kept)
        found = report.diagnostics["beyond_surface"]["nasca"][language]
        assert found["pairs"] == len(kept)
        assert found["score"] == pytest.approx(hits / (len(masks) * len(kept)))
        assert 0 < found["low"] < found["score"] < found["high"] < 1
