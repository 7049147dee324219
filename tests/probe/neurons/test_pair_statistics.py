"""Statistics of pairs through a whole probe: contrast, and the score beyond spelling."""

import math
from collections import Counter
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


@pytest.fixture(scope="module")
def case():
    """A report, and the cosines [layer][pivot][target] from states of our own hooks."""
    corpus = parallel(PAIRS, ("deu_Latn",))
    (model, hooked), tokenizer = dense(), marked_tokenizer(corpus)
    config = config_of(corpus, neurons=["contrast", "rivals"])
    report = Probe(config, tokenizer).run(model)
    pooled = [[[], []] for _ in hooked]
    for side, pair in product((0, 1), corpus.pairs["deu_Latn"]):
        fired = firing_of(model, hooked, tokenizer(pair[side])["input_ids"])
        for layer, on in enumerate(fired):
            weighted = [(t + 1) * row for t, row in enumerate(on.int())]
            pooled[layer][side].append(sum(weighted).tolist())
    cosines = [
        [[cosine(pivot, target) for target in targets] for pivot in pivots]
        for pivots, targets in pooled
    ]
    return report, cosines


def test_contrast_equals_a_double_loop_over_hooked_states(case):
    report, cosines = case
    for layer, c in enumerate(cosines):
        contrasts = []
        for i in range(PAIRS):
            others = [c[i][j] for j in range(PAIRS) if j != i]
            others += [c[j][i] for j in range(PAIRS) if j != i]
            contrasts.append(c[i][i] - sum(others) / len(others))
        found = report.diagnostics["contrast"]["nasca"]["deu_Latn"][layer]
        assert found == pytest.approx(sum(contrasts) / PAIRS, rel=1e-3)


def test_rivals_equal_a_double_loop_over_hooked_states(case):
    report, cosines = case
    found = report.diagnostics["rivals"]["nasca"]["deu_Latn"]
    fails = 0
    for i in range(PAIRS):
        wins = Counter()
        for c in cosines:
            cells = [(c[i][j], 0, j) for j in range(PAIRS) if j != i]
            cells += [(c[j][i], 1, j) for j in range(PAIRS) if j != i]
            highest = max(cells)[0]
            if highest >= c[i][i] - 1e-12:
                wins[min(cell[1:] for cell in cells if cell[0] >= highest - 1e-12)] += 1
        best = min(wins, key=lambda each: (-wins[each], each), default=(0, -1))
        fails += sum(wins.values())
        assert (found["by_pivot"][i], found["pair"][i], found["layers"][i]) == (*best, wins[best])
    hits = report.metrics["nasca"].hits["deu_Latn"]
    assert fails == PAIRS * len(cosines) - sum(mask.bit_count() for mask in hits) > 0


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
