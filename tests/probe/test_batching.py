"""Microbatches: fixed composition, bounded padding, no sentence lost; groups of languages."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback import CorpusError, ParallelCorpus
from neuronxa_callback.probe.batching import (
    FORWARD_COST,
    Sentence,
    collate,
    cut,
    tokenize,
)

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


def test_padding_of_realistic_lengths_is_below_15_percent():
    draw = random.Random(0)
    run = real = 0
    for _ in range(12):
        lengths = [max(4, round(draw.lognormvariate(3.2, 0.35))) for _ in range(100)]
        run += sum(len(rows) * max(lengths[r] for r in rows) for rows in cut(lengths, 4096))
        real += sum(lengths)
    assert 1 - real / run < 0.15


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
