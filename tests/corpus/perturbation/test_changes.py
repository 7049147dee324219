"""Perturbed sentences: against plain loops over their definitions, and where they do not apply."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.perturbation.changes import (
    CHANGES,
    perturb,
    upper_case,
    with_typos,
    without_punctuation,
)

BUILTIN = ParallelCorpus.builtin()
SENTENCES = {name: [target for _, target in pairs] for name, pairs in BUILTIN.pairs.items()}
SENTENCES["eng_Latn"] = [pivot for pivot, _ in BUILTIN.pairs["deu_Latn"]]
texts = st.text(st.sampled_from("abcÄéß ıi.,-–¿«1中नि\u0301"), max_size=40)


@given(texts)
def test_capitals_have_no_small_letter_with_a_capital(text):
    changed = upper_case(text)
    assert all(letter.upper() == letter for letter in changed)
    assert changed.casefold() == text.upper().casefold()


def test_turkic_languages_have_a_dotted_capital():
    assert upper_case("ilk ışık", "tur_Latn") == "İLK IŞIK"
    assert upper_case("ilk", "azj_Latn") == "İLK"
    assert (
        upper_case("ilk", "tr") == upper_case("ilk", "tur") == upper_case("ilk", "tr-TR") == "İLK"
    )
    assert upper_case("ilk", "deu_Latn") == upper_case("ilk", "x") == "ILK"


@given(texts)
def test_punctuation_is_exactly_the_unicode_category(text):
    changed = without_punctuation(text)
    kept = [c for c in text if not unicodedata.category(c).startswith("P") and not c.isspace()]
    if not kept:
        assert changed == text
        return
    assert [c for c in changed if not c.isspace()] == kept
    assert "  " not in changed
    assert changed == changed.strip()


def letters_of(word):
    """The letters of a word, each with the marks that follow it."""
    found = []
    for c in word:
        if unicodedata.category(c).startswith("M") and found:
            found[-1] += c
        else:
            found.append(c)
    return found


@pytest.mark.parametrize("language", ["deu_Latn", "hin_Deva", "arb_Arab", "eng_Latn", "tur_Latn"])
def test_a_typo_is_one_swap_of_two_neighbouring_letters_in_a_tenth_of_the_words(language):
    moved = 0
    for text in SENTENCES[language]:
        before, after = text.split(" "), with_typos(text).split(" ")
        assert len(before) == len(after)
        changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
        assert len(changed) == max(1, round(len(before) / 10))
        for one, other in changed:
            assert Counter(one) == Counter(other)
            a, b = letters_of(one), letters_of(other)
            places = [k for k in range(len(a)) if a[k] != b[k]]
            first, second = places
            assert second == first + 1
            assert (a[first], a[second]) == (b[second], b[first])
            assert all(unicodedata.category(a[k][0]).startswith("L") for k in places)
            moved += first
    assert moved > 0, "not always the first letters"


def test_a_typo_depends_on_the_sentence_alone_and_not_every_sentence_has_it_in_one_place():
    text = "The river runs along the old wall."
    assert with_typos(text) == with_typos(text)
    places = Counter()
    for each in SENTENCES["eng_Latn"]:
        words = zip(each.split(" "), with_typos(each).split(" "), strict=True)
        places[next(k for k, (one, other) in enumerate(words) if one != other)] += 1
    assert len(places) > 4


def test_a_sentence_without_two_letters_side_by_side_stays():
    assert with_typos("a 1 b - aa") == "a 1 b - aa"


@given(texts)
def test_no_change_fails(text):
    for change in CHANGES.values():
        assert isinstance(change(text, "deu_Latn"), str)


def test_it_does_not_apply_where_a_language_has_no_case_or_no_spaces():
    found = {
        kind: {name: perturb(kind, each, name) for name, each in SENTENCES.items()}
        for kind in CHANGES
    }
    no_case = {name for name, each in found["case"].items() if each == "it has no case"}
    assert no_case == {
        name for name in SENTENCES if name[-4:] not in ("Latn", "Cyrl", "Grek", "Armn")
    }
    no_spaces = {
        name for name, each in found["typos"].items() if each == "it puts no space between words"
    }
    assert {"zho_Hans", "jpn_Jpan", "tha_Thai"} <= no_spaces
    assert "kor_Hang" not in no_spaces
    assert all(len(name) == 8 for name in no_spaces)
    for kind, by_language in found.items():
        changed = [each for each in by_language.values() if not isinstance(each, str)]
        assert len(changed) > 10, kind
        assert all(len(each) == 100 for each in changed)


def test_names_in_latin_letters_give_a_language_no_case():
    assert (
        perturb(
            "case",
            ["我每天都用 iPhone 给家人打电话。", "他们一家人住在 Berlin 的旧城。"],
            "zho_Hans",
        )
        == "it has no case"
    )


def test_a_language_whose_sentences_do_not_change_is_named():
    assert perturb("punctuation", ["ab", "cd"], "deu_Latn") == "no sentence changes"
    assert perturb("case", ["AB", "CD"], "deu_Latn") == "no sentence changes"
