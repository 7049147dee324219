"""Warnings about hubs: which sentence blocks how many pairs."""

import torch

from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.probe import diagnostics
from neuronxa_callback.probe.results import ResultCollector, metric_scores

PAIRS = tuple((f"p{k}", f"t{k}") for k in range(40))


def scores_with(hub, corpus):
    """Scores of three layers in which every pair is aligned, but for a hub in layer 1."""
    results = ResultCollector(margins=False)
    for language in corpus.languages:
        cosines = (
            torch.eye(40).repeat(3, 1, 1)
            + torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.5
        )
        if language == "deu_Latn":
            cosines[1, :hub, 7] = 3.0
        results.add_similarity("nasca", language, cosines)
    return metric_scores(results, "nasca", (0, 1, 2), corpus)


def test_a_hub_is_named_by_side_and_pair_and_never_by_text():
    corpus = ParallelCorpus("eng_Latn", {"deu_Latn": PAIRS, "fra_Latn": PAIRS[::-1][:40]})
    assert diagnostics.hub_doubts("nasca", scores_with(3, corpus)) == []
    (words,) = diagnostics.describe(diagnostics.hub_doubts("nasca", scores_with(6, corpus)))
    assert words == (
        "deu_Latn: the target sentence of pair 8 blocks 6 other pairs in layer 1 of nasca, 6 of"
        " them alone (1 of 3 layers have such a hub)"
    )
    assert "t7" not in words


def test_a_hub_that_decides_a_mean_leaves_it_no_interval():
    corpus = ParallelCorpus("eng_Latn", {"deu_Latn": PAIRS})
    scores = scores_with(40, corpus)
    assert scores.hub_limited == ("deu_Latn", "mean")
    (words,) = diagnostics.describe(diagnostics.hub_doubts("nasca", scores))
    assert words.endswith("; it leaves the mean no interval")
