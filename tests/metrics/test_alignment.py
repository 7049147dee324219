"""The method, against the words of its papers as double loops in float64."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.blocking import count_blocks
from neuronxa_callback.metrics.registry import reads_of
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.pooling import Pooling


@st.composite
def similarities(draw):
    n = draw(st.integers(2, 7))
    # Small whole numbers, so that ties are common.
    numbers = draw(st.lists(st.integers(-3, 3), min_size=n * n, max_size=n * n))
    return torch.tensor(numbers, dtype=torch.float64).view(n, n)


def by_definition(s):
    n = len(s)
    return [
        all(s[i][i] > s[i][j] and s[i][i] > s[j][i] for j in range(n) if j != i) for i in range(n)
    ]


@given(similarities())
def test_weak_alignment_is_the_definition(s):
    assert alignment.weakly_aligned(s).tolist() == by_definition(s.tolist())


@given(similarities())
def test_swapping_the_languages_changes_nothing(s):
    assert torch.equal(alignment.weakly_aligned(s), alignment.weakly_aligned(s.T))
    forward, backward = alignment.retrieved(s)
    assert torch.equal(torch.stack(alignment.retrieved(s.T)), torch.stack((backward, forward)))


@given(similarities())
def test_retrieval_is_the_definition_and_both_ways_is_weak_alignment(s):
    rows, n = s.tolist(), len(s)
    forward, backward = alignment.retrieved(s)
    others = [[j for j in range(n) if j != i] for i in range(n)]
    assert forward.tolist() == [all(rows[i][i] > rows[i][j] for j in others[i]) for i in range(n)]
    assert backward.tolist() == [all(rows[i][i] > rows[j][i] for j in others[i]) for i in range(n)]
    assert torch.equal(forward & backward, alignment.weakly_aligned(s))


@given(similarities())
def test_mutual_maxima_are_counted_by_definition(s):
    rows, n = s.tolist(), len(s)
    m = sum(
        all(rows[i][j] > rows[i][k] for k in range(n) if k != j)
        and all(rows[i][j] > rows[k][j] for k in range(n) if k != i)
        for i in range(n)
        for j in range(n)
    )
    assert alignment.mutual_maxima(s).item() == m


def test_re_pairing_null_is_m_over_n_squared():
    generator = torch.Generator().manual_seed(0)
    s = torch.rand(30, 30, generator=generator, dtype=torch.float64)
    shuffled = [
        alignment.weakly_aligned(s[:, torch.randperm(30, generator=generator)]).double().mean()
        for _ in range(4000)
    ]
    expected = alignment.mutual_maxima(s).item() / 30**2
    assert torch.stack(shuffled).mean().item() == pytest.approx(expected, abs=0.002)


def test_exchangeable_cells_score_one_in_2n_minus_1():
    generator = torch.Generator().manual_seed(1)
    s = torch.rand(2000, 20, 20, generator=generator)
    assert alignment.weakly_aligned(s).float().mean().item() == pytest.approx(1 / 39, abs=0.003)


def test_ties_are_not_alignment():
    assert not alignment.weakly_aligned(torch.ones(5, 5)).any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4,)])
def test_a_matrix_that_is_none_is_refused(shape):
    expected = f"similarity must be square with at least 2 pairs, got shape {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        alignment.weakly_aligned(torch.ones(shape))


def test_layers_are_judged_one_by_one():
    s = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(2))
    together = alignment.weakly_aligned(s)
    assert torch.equal(together, torch.stack([alignment.weakly_aligned(each) for each in s]))


def test_a_layer_with_nan_is_known_by_it():
    s = torch.rand(3, 4, 4)
    s[1, 2, 3] = math.nan
    assert alignment.holds_nan(s).tolist() == [False, True, False]


masks = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 6)), min_size=1, max_size=5
)  # padding on the left, tokens


@given(masks)
def test_positions_do_not_see_the_side_of_padding(rows):
    width = max(pad + tokens for pad, tokens in rows)
    for _, tokens in rows:
        left = [False] * (width - tokens) + [True] * tokens
        right = [True] * tokens + [False] * (width - tokens)
        found = alignment.positions(torch.tensor([left, right]))
        counted = list(range(1, tokens + 1))
        assert found[0].tolist() == [0] * (width - tokens) + counted
        assert found[1].tolist() == counted + [0] * (width - tokens)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 5), st.integers(0, 2**31))
def test_pooling_is_the_weighted_sum(batch, tokens, width, seed):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, tokens, width, generator=generator)
    counts = torch.ones(batch, tokens, dtype=torch.bool)
    weights = alignment.positions(counts)[:, None]
    for transform, one in ((alignment.active, lambda x: float(x > 0)), (alignment.magnitude, abs)):
        pooled = alignment.pool(transform(states), weights)[:, 0]
        rows = states.double().tolist()
        expected = [
            [sum((t + 1) * one(rows[b][t][j]) for t in range(tokens)) for j in range(width)]
            for b in range(batch)
        ]
        assert pooled == pytest.approx(torch.tensor(expected).float(), rel=1e-6, abs=1e-6)


def test_pooled_activation_states_are_exact_whole_numbers():
    states = torch.randn(2, 512, 64, generator=torch.Generator().manual_seed(0))
    weights = alignment.positions(torch.ones(2, 512, dtype=torch.bool))[:, None]
    pooled = alignment.pool(alignment.active(states), weights)[:, 0]
    t = torch.arange(1, 513, dtype=torch.int64)
    exact = ((states > 0).long() * t[None, :, None]).sum(dim=1)
    assert torch.equal(pooled.long(), exact)
    assert alignment.dots(pooled, pooled).long().tolist() == (exact @ exact.T).tolist()


def test_pooling_is_full_precision_inside_autocast():
    values = torch.rand(1, 9, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(1, 1, 9, generator=torch.Generator().manual_seed(1))
    outside = alignment.pool(values, weights)
    with torch.autocast("cpu", torch.bfloat16):
        inside = alignment.pool(values, weights)
        assert torch.is_autocast_enabled("cpu")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


@given(arrays("float64", (4, 3), elements=st.integers(-4, 4)))
def test_cosines_are_cosines_and_a_zero_vector_is_similar_to_nothing(numbers):
    vectors = torch.from_numpy(numbers)
    squares = alignment.squares(vectors.float())
    found = alignment.cosines(alignment.dots(vectors, vectors), squares, squares)
    for i, x in enumerate(numbers.tolist()):
        for j, y in enumerate(numbers.tolist()):
            length = math.hypot(*x) * math.hypot(*y)
            expected = sum(a * b for a, b in zip(x, y, strict=True)) / length if length else 0.0
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_nan_in_a_vector_is_nan_in_its_cosines():
    vectors = torch.tensor([[1.0, math.nan], [1.0, 2.0]])
    squares = alignment.squares(vectors)
    found = alignment.cosines(alignment.dots(vectors, vectors), squares, squares)
    assert found.isnan().tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("setting", ["tf32", "ieee"])
def test_tf32_is_off_inside_and_as_it_was_afterwards(setting):
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("torch before 2.9 has one setting only")
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = setting
    try:
        with alignment._without_tf32():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == setting
    finally:
        torch.backends.fp32_precision = before
        matmul.fp32_precision = "none"


def test_infinite_states_are_active_or_not_and_no_nan():
    states = torch.tensor([[[math.inf, -math.inf, 1.0], [-1.0, 2.0, math.inf]]])
    batch = Batch(torch.zeros(1, 2).long(), torch.ones(1, 2).bool(), torch.zeros(1, 2).bool())
    (read,) = reads_of(("nasca",), ("activity",))
    found = Pooling(batch, [read]).dense(read, states, 0)
    assert found.pooled.tolist() == [[[1.0, 2.0, 3.0]]]
    assert found.active.tolist() == [4.0]
    states[0, 1, 0] = math.nan
    assert Pooling(batch, [read]).dense(read, states, 0).pooled.isnan().all()


@pytest.mark.parametrize("pairs", [7, 20, 33, 100])
def test_equal_vectors_tie_wherever_they_stand(pairs):
    """The rounding of a product differs by position, so ties must not hang on it."""
    generator = torch.Generator().manual_seed(pairs)
    pivot = torch.randn(pairs, 301, generator=generator)
    target = torch.randn(pairs, 301, generator=generator)
    target[1::2] = target[1] * 2.0 ** (torch.arange(pairs // 2)[:, None] % 5)
    pivot[1::2] = target[1] + 0.1 * pivot[1::2]
    similarity = alignment.cosines(
        alignment.dots(pivot, target), alignment.squares(pivot), alignment.squares(target)
    )
    assert not alignment.weakly_aligned(similarity)[1::2].any()
    assert count_blocks(similarity[None]).blockers[0, 1::2].min() >= pairs // 2 - 1
