"""The rival of a pair, against a loop over all cells; ties and NaN."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback.metrics.rivals import NOBODY, find_rivals


def by_definition(layers):
    """(pair, by pivot, layers) of every pair, from the definition in words."""
    found = []
    for i in range(len(layers[0])):
        wins = Counter()
        for c in layers:
            targets = [(c[i][j], 0, j) for j in range(len(c)) if j != i]
            pivots = [(c[j][i], 1, j) for j in range(len(c)) if j != i]
            highest = max(value for value, _, _ in targets + pivots)
            if highest >= c[i][i]:
                _, side, j = min(
                    (each for each in targets + pivots if each[0] == highest),
                    key=lambda each: each[1:],
                )
                wins[side, j] += 1
        best = min(wins, key=lambda each: (-wins[each], each), default=None)
        found.append((NOBODY, 0, 0) if best is None else (best[1], best[0], wins[best]))
    return found


def plain(rivals):
    return list(
        zip(
            *(each.int().tolist() for each in (rivals.pair, rivals.by_pivot, rivals.layers)),
            strict=True,
        )
    )


@given(st.integers(2, 5), st.integers(1, 4), st.data())
def test_rivals_equal_a_loop_over_all_cells(pairs, layers, data):
    cells = st.integers(0, 4)  # small integers, so that ties are common
    row = st.lists(cells, min_size=pairs, max_size=pairs)
    square = st.lists(row, min_size=pairs, max_size=pairs)
    found = data.draw(st.lists(square, min_size=layers, max_size=layers))
    similarity = torch.tensor(found, dtype=torch.float64)
    assert plain(find_rivals(similarity)) == by_definition(found)


def test_rounding_does_not_choose_between_equal_sentences():
    similarity = torch.tensor([[0.5, 0.9, 0.9], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    similarity[0, 2] += 1e-14
    assert find_rivals(similarity[None]).pair.tolist()[0] == 1


def test_layers_with_nan_are_left_out():
    layer = torch.tensor([[0.1, 0.9], [0.2, 0.3]], dtype=torch.float64)
    broken = torch.full_like(layer, torch.nan)
    assert plain(find_rivals(torch.stack([layer, broken, layer]))) == [(1, 0, 2), (0, 1, 2)]
    assert plain(find_rivals(broken[None])) == [(NOBODY, 0, 0)] * 2
