"""The score of some pairs with all pairs as rivals, against pairs that are really left out."""

import math

import numpy as np
import pytest
import torch

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.blocking import count_sole_blocks
from neuronxa_callback.metrics.subset import score_subset

N = 26


def planted(seed=0, signal=0.6):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.random((2, N, N)) + signal * np.eye(N))


def hits_without(similarity, j):
    """Which of the other pairs are aligned once pair j is gone [layers, pairs - 1]."""
    rest = [i for i in range(N) if i != j]
    return alignment.weakly_aligned(similarity[:, rest][:, :, rest]).double(), rest


@pytest.mark.parametrize("seed", range(3))
def test_sole_blocks_are_the_hits_that_a_left_out_pair_gives(seed):
    similarity = planted(seed)
    chosen = np.arange(N) % 3 > 0
    whole = alignment.weakly_aligned(similarity)
    found = count_sole_blocks(similarity, torch.tensor(chosen))
    for j in range(N):
        left, rest = hits_without(similarity, j)
        others = [i for i in rest if chosen[i]]
        gained = left[:, [rest.index(i) for i in others]].sum(1) - whole[:, others].sum(1)
        assert found[:, j].tolist() == gained.tolist()


def test_the_interval_holds_the_score_and_widens_with_a_hub():
    similarity = planted(4, signal=1.2)
    chosen = np.arange(N) >= 4
    hub = similarity.clone()
    hub[:, 0, 4:10] = 9  # Pair 0 is not among the chosen ones, but blocks six of them.
    widths = []
    for each in (similarity, hub):
        hits = alignment.weakly_aligned(each).double().numpy()
        blocks = count_sole_blocks(each, torch.tensor(chosen)).numpy()
        found = score_subset(hits, blocks, chosen)
        assert found.score == hits[:, chosen].mean()
        assert found.low <= found.score <= found.high
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize(("pairs", "nan"), [(19, False), (26, True)])
def test_few_pairs_or_nan_give_no_score(pairs, nan):
    hits = np.ones((2, 40))
    hits[1] = math.nan if nan else 1
    found = score_subset(hits, np.zeros((2, 40)), np.arange(40) < pairs)
    assert found.pairs == pairs
    assert all(map(math.isnan, (found.score, found.low, found.high)))
