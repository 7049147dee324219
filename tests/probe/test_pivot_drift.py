"""Pivot drift: the angle between the pivot's vectors now and at the first probe."""

import pytest
import torch

from neuronxa_callback import Probe
from tests.helpers import oracle
from tests.helpers.probes import config_of, trained
from tests.helpers.tiny import parallel


def test_pivot_drift_is_the_angle_between_the_pivots_vectors_now_and_at_first(tokenizer):
    corpus, model = parallel(12), trained()
    texts = [pivot for pivot, _ in corpus.pairs["deu_Latn"]][:8]
    probe = Probe(config_of(corpus), tokenizer)
    before = oracle.vectors_of(model, probe.tokenizer, texts)
    assert "pivot_drift" not in probe.run(model, 3).run
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            layer.mlp.gate_proj.weight += 0.1 * torch.randn_like(layer.mlp.gate_proj.weight)
    after = oracle.vectors_of(model, probe.tokenizer, texts)
    found = probe.run(model, 9).run["pivot_drift"]
    assert found["since"] == 3
    assert found["nasca"][0] == pytest.approx(0, abs=1e-3)
    for metric in ("nasca", "navca"):
        for layer in range(3):
            both = zip(before[metric][layer], after[metric][layer], strict=True)
            wanted = 1 - sum(oracle.cosine(*pair) for pair in both) / len(texts)
            assert found[metric][layer] == pytest.approx(wanted, abs=2e-3)
    assert max(found["nasca"]) > 0.005, "the states must have turned"


def test_pivot_drift_takes_no_part_in_equality(model, tokenizer):
    probe = Probe(config_of(parallel()), tokenizer)
    first, second = probe.run(model, 1), probe.run(model, 1)
    assert first == second
    assert "pivot_drift" in second.run
