"""Microbatches: fixed composition, bounded padding, no sentence lost; groups of languages."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback import CorpusError, ParallelCorpus
from neuronxa_callback.probe.batching import (
    FORWARD_COST,
    PivotGroup,
    Sentence,
    Side,
    collate,
    cut,
    microbatches,
)
from neuronxa_callback.probe.tokenization import tokenize

lengths_of = st.lists(st.integers(1, 60), min_size=1, max_size=120)


@given(lengths_of, st.integers(1, 400))
def test_every_sentence_runs_once_within_the_budget(lengths, budget):
    pieces = cut(lengths, budget)
    assert sorted(row for rows in pieces for row in rows) == list(range(len(lengths)))
    for rows in pieces:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget


@given(lengths_of)
def test_cuts_cost_no_more_than_any_single_forward(lengths):
    pieces = cut(lengths, 1 << 30)
    cost = sum(len(rows) * max(lengths[row] for row in rows) + FORWARD_COST for rows in pieces)
    assert cost <= len(lengths) * max(lengths) + FORWARD_COST


def side_of(lengths, name="l"):
    return Side(name, tuple(Sentence(tuple(range(n)), (False,) * n) for n in lengths))


def group_of(pivot, targets):
    """A group of languages with these lengths of sentences."""
    rows = tuple(range(len(pivot)))
    return PivotGroup(side_of(pivot), tuple(map(side_of, targets)), (rows,) * len(targets))


def drawn(languages, mean=3.1, n=100):
    draw = random.Random(languages)
    base = [draw.lognormvariate(mean, 0.25) for _ in range(n)]
    factors = [draw.uniform(0.9, 1.5) for _ in range(languages)]
    return [[max(4, round(x * factor)) for x in base] for factor in (0.7, *factors)]


def test_languages_share_full_microbatches():
    pivot, *targets = drawn(25, mean=2.85)
    work = microbatches((group_of(pivot, targets),), 4096)
    real = sum(pivot) + sum(map(sum, targets))
    assert 50_000 < real < 60_000
    assert len(work) <= 20
    assert 1 - real / sum(m.tokens for m in work) <= 0.03
    assert max(m.tokens for m in work) <= 4096


def test_a_window_holds_32_languages_and_no_microbatch_crosses_it():
    pivot, *targets = drawn(70, n=10)
    group = group_of(pivot, targets)
    assert [len(window.rows) for window in group.windows] == [32, 32, 6]
    work = microbatches((group,), 512)
    for number, window in enumerate(group.windows):
        ran = [row for m in work if m.window == number for row in m.rows]
        assert sorted(ran) == list(range(len(window.sentences)))
        for target, rows in window.rows.items():
            assert window.sentences[rows] == group.targets[target].sentences
    first = microbatches((group_of(pivot, targets[:32]),), 1 << 30)
    assert [m for m in microbatches((group,), 1 << 30) if m.window in (None, 0)] == list(first)


@pytest.mark.parametrize("languages", [5, 17, 29, 53])
def test_any_number_of_ranks_with_four_microbatches_is_balanced(languages):
    pivot, *targets = drawn(languages)
    work = microbatches((group_of(pivot, targets),), 512)
    assert len(work) >= 30
    for ranks in range(2, len(work) // 4 + 1):
        loads = [0] * ranks
        for m in sorted(work, key=lambda m: -m.tokens):
            loads[loads.index(min(loads))] += m.tokens
        assert max(loads) * ranks <= 1.15 * sum(loads)


def encode(text, language=None):
    ids = tuple(ord(c) for c in text)
    return Sentence(ids, (False,) * len(ids))


def corpus_of(**languages):
    return ParallelCorpus("eng_Latn", {k: tuple(v) for k, v in languages.items()})


SHARED = {
    "deu_Latn": [("one", "eins"), ("two", "zwei"), ("three", "dreidreidrei"), ("four", "vier")],
    "fra_Latn": [("one", "un"), ("two", "deux"), ("three", "trois"), ("four", "quatre")],
}


def test_a_pair_that_is_too_long_is_dropped_in_every_language_and_named():
    found = tokenize(corpus_of(**SHARED), 3, encode, limit=8)
    assert [pair[0] for pair in found.pairs["fra_Latn"]] == ["one", "two", "four"]
    assert [pair[0] for pair in found.pairs["deu_Latn"]] == ["one", "two", "four"]
    assert found.dropped == ("deu_Latn pair 3: 12 tokens of deu_Latn, allowed 1 to 8",)


def test_too_few_usable_pairs_name_the_language_and_the_number_to_use():
    with pytest.raises(CorpusError) as error:
        tokenize(corpus_of(**SHARED), 4, encode, limit=8)
    assert str(error.value) == (
        "every language needs 4 usable pairs, deu_Latn has 3 of 4 (1 dropped, first: deu_Latn pair"
        " 3: 12 tokens of deu_Latn, allowed 1 to 8); set n_pairs=3 or leave the language out"
    )


def test_languages_with_one_pivot_form_one_group_and_others_stay_apart():
    corpus = corpus_of(**SHARED, spa_Latn=[(f"x{k}", f"y{k}") for k in range(4)])
    groups = tokenize(corpus, 4, encode, limit=99).groups("eng_Latn")
    assert [[side.language for side in group.targets] for group in groups] == [
        ["deu_Latn", "fra_Latn"],
        ["spa_Latn"],
    ]


def test_pivots_that_overlap_run_their_common_sentences_once():
    corpus = corpus_of(
        deu_Latn=[("one", "eins"), ("two", "zwei"), ("three", "drei")],
        fra_Latn=[("three", "trois"), ("two", "deux"), ("four", "quatre")],
    )
    (group,) = tokenize(corpus, 3, encode, limit=99).groups("eng_Latn")
    assert len(group.pivot.sentences) == 4
    assert group.rows == ((0, 1, 2), (2, 1, 3))


def test_batches_are_padded_on_the_right():
    batch = collate([Sentence((5, 6), (True, False)), Sentence((7,), (True,))], pad=9)
    assert batch.ids.tolist() == [[5, 6], [7, 9]]
    assert batch.mask.tolist() == [[True, True], [True, False]]
    assert batch.special.tolist() == [[True, False], [True, False]]
    assert batch.ids.dtype == torch.long
