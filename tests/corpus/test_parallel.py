import copy
import pickle
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback import CorpusError, ParallelCorpus
from neuronxa_callback.corpus import surface
from neuronxa_callback.corpus.readers.builtin import read_builtin
from neuronxa_callback.corpus.text import comparison_key, find_fault, normalize_sentence

GOOD = (("Good morning.", "Guten Morgen."), ("Good night.", "Gute Nacht."), ("Thanks.", "Danke."))
BAD_CHARACTERS = ["", " ", "\u200b", "\u3000\ufeff"]

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def corpus(**languages):
    return ParallelCorpus("eng_Latn", languages or {"deu_Latn": GOOD})


def refusal(*args, **options):
    with pytest.raises(CorpusError) as error:
        ParallelCorpus(*args, **options)
    return str(error.value)


def test_pairs_are_kept():
    found = corpus()
    assert found.pairs == {"deu_Latn": GOOD}
    assert (found.languages, found.n_pairs, found.shared_pivot) == (("deu_Latn",), 3, True)
    assert repr(found) == "ParallelCorpus('custom': 3 pairs, eng_Latn with 1 language: deu_Latn)"


def test_sentences_are_kept_in_nfc_and_without_space_around_them():
    decomposed = unicodedata.normalize("NFD", "Grüße")
    found = corpus(deu_Latn=[("\ufeffGreetings \n", f" {decomposed}"), ("Yes.", "Ja,  ja.")])
    assert found.pairs["deu_Latn"] == (("Greetings", "Grüße"), ("Yes.", "Ja,  ja."))


@pytest.mark.parametrize("blank", BAD_CHARACTERS)
@pytest.mark.parametrize("column", [0, 1])
def test_blank_sentences_are_refused(blank, column):
    pair = ["left", "right"]
    pair[column] = blank
    side = ["eng_Latn side of deu_Latn pair 2", "deu_Latn pair 2"][column]
    assert refusal("eng_Latn", {"deu_Latn": [GOOD[0], pair]}) == (
        f"every sentence must contain text, but {side} is blank"
    )


def test_half_a_surrogate_pair_is_refused():
    assert refusal("eng_Latn", {"deu_Latn": [GOOD[0], ("a", "b\ud800")]}) == (
        "every sentence must contain text, but deu_Latn pair 2 contains half a surrogate pair,"
        " which is not valid Unicode"
    )


@pytest.mark.parametrize("column", [0, 1])
def test_duplicates_are_refused_with_both_places(column):
    rows = [["one", "eins"], ["two", "zwei"], ["three", "drei"]]
    rows[2][column] = f"  {rows[0][column]}"
    places = {"deu_Latn": ("d:1", "d:2", "d:3"), "deu_Latn/eng_Latn": ("e:1", "e:2", "e:3")}
    side = "ed"[column]
    assert refusal("eng_Latn", {"deu_Latn": rows}, origins=places) == (
        f"the sentences of a language must differ, but {side}:1 and {side}:3 are both"
        f" {rows[0][column]!r}; remove one of them"
    )


def test_duplicates_are_compared_as_normalized_text():
    words = "e\u0301t\u00e9  \u00e9te\u0301", "\u00e9t\u00e9 \u00e9t\u00e9"
    message = refusal("eng_Latn", {"fra_Latn": [("a", words[0]), ("b", words[1])]})
    assert message.startswith("the sentences of a language must differ, but fra_Latn pair 1 and")


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ({}, "a corpus needs at least one language besides the pivot, got none"),
        ({"x": GOOD[:1]}, "every language needs at least 2 pairs, x has 1"),
        (
            {"eng_Latn": GOOD},
            "the pivot 'eng_Latn' cannot be compared with itself; leave it out",
        ),
        ({"a/b": GOOD}, "a language needs a name without '/', got 'a/b'"),
        (
            {"mean": GOOD},
            "the language name 'mean' is reserved for a key of the report (reserved: mean,"
            " chance, early, middle, late, peak, seconds, low, high, worst, group); rename the"
            " language",
        ),
        (
            {"x": ["ab", "cd"]},
            "a pair must be two strings, (pivot sentence, translation), but x pair 1 is 'ab'",
        ),
        (
            {"x": [("a", None)]},
            "a pair must be two strings, (pivot sentence, translation), but x pair 1 is"
            " ('a', None)",
        ),
    ],
)
def test_invalid_pairs_are_refused(languages, message):
    assert refusal("eng_Latn", languages) == message


def test_select_keeps_the_order_asked_for_and_takes_any_form_of_a_code():
    both = corpus(deu_Latn=GOOD, fra_Latn=[(a, f"{b} fr") for a, b in GOOD])
    found = both.select(["French", "de", "deu"], n_pairs=2)
    assert found.languages == ("fra_Latn", "deu_Latn")
    assert found.pairs["deu_Latn"] == GOOD[:2]
    assert both.select() == both


def test_select_refuses_missing_languages_and_pairs():
    with pytest.raises(CorpusError) as error:
        corpus().select(["Germen"])
    assert str(error.value) == (
        "unknown language: 'Germen'; did you mean 'deu_Latn'? (known: deu_Latn)"
    )
    with pytest.raises(CorpusError) as error:
        corpus(deu_Latn=GOOD, fra_Latn=GOOD[:2]).select(n_pairs=3)
    assert str(error.value) == (
        "every language needs 3 pairs, fra_Latn has 2; use n_pairs=2 or leave it out"
    )


def test_select_keeps_the_places():
    places = {"deu_Latn": ("d:1", "d:2", "d:5"), "deu_Latn/eng_Latn": ("e:1", "e:2", "e:5")}
    found = ParallelCorpus("eng_Latn", {"deu_Latn": GOOD}, origins=places).select(["de"], 2)
    assert found.origins == {"deu_Latn": ("d:1", "d:2"), "deu_Latn/eng_Latn": ("e:1", "e:2")}
    assert found.where("deu_Latn", 1) == "d:2"
    assert found.where("deu_Latn", 1, pivot=True) == "e:2"
    assert corpus().where("deu_Latn", 2, pivot=True) == "eng_Latn side of deu_Latn pair 3"


def test_the_pivot_is_shared_only_where_all_its_sentences_are():
    assert corpus(deu_Latn=GOOD, fra_Latn=GOOD).shared_pivot
    assert not corpus(deu_Latn=GOOD, fra_Latn=GOOD[::-1]).shared_pivot
    assert not corpus(deu_Latn=GOOD, fra_Latn=GOOD[:2]).shared_pivot


def test_the_digest_is_of_the_content_alone():
    french = tuple((a, f"{b} fr") for a, b in GOOD)
    first, second = corpus(deu_Latn=GOOD, fra_Latn=french), corpus(fra_Latn=french, deu_Latn=GOOD)
    assert first.digest == second.digest
    assert hash(first) == hash(second)
    assert first.digest != corpus(deu_Latn=french, fra_Latn=GOOD).digest
    assert first.digest != ParallelCorpus("nld_Latn", first.pairs).digest
    assert first.digest != first.select(n_pairs=2).digest
    # The same in every process, though hashes of text differ.
    assert corpus().digest == ("79b59fce328cd4572824ba48891f10cdb84ca71e687d413d2467219339ef1a9d")


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("dev", "68b31bbde8fbbab9739c2e9d26162b5fad7c727f4b372f890e487e2e4497ec57"),
        ("test", "dd63a4a1d88991c8b47c56a619b69792595984418944ded121c1d62ea9cd5923"),
    ],
)
def test_the_digests_of_the_built_in_sentences_are_known(split, digest):
    assert ParallelCorpus.builtin(split).digest == digest


def test_the_digests_of_selections_are_known():
    assert ParallelCorpus.builtin().select(["de", "zh"], 50).digest == (
        "9d6f37a65395be1f842158f33ecbb2749ac0a6c6923fe49c01b8a2633e66331d"
    )
    assert ParallelCorpus.builtin("test", ["de", "fr"], pivot="zh").digest == (
        "a1d0392ff3698a65e5d25196624f7e493874313140131c3dcb5d69ecd9b4fe36"
    )


def test_it_can_be_copied_and_sent():
    assert copy.deepcopy(corpus()) == corpus() == pickle.loads(pickle.dumps(corpus()))


def test_importing_pairs_loads_no_library():
    code = "import sys, neuronxa_callback.corpus.parallel; print(*sys.modules)"
    for extra, seen in (("", False), ("; import numpy; print(*sys.modules)", True)):
        found = subprocess.run(
            [sys.executable, "-c", code + extra], capture_output=True, text=True, check=True
        )
        assert ("numpy" in found.stdout.split()) == seen


@given(st.lists(st.tuples(texts, texts), min_size=2, max_size=6))
def test_any_text_is_kept_whole_or_refused(rows):
    try:
        found = corpus(x=rows)
    except CorpusError:
        distinct = [
            len({comparison_key(normalize_sentence(each)) for each in side})
            for side in zip(*rows, strict=True)
        ]
        blank = any(find_fault(normalize_sentence(each)) for row in rows for each in row)
        assert blank or min(distinct) < len(rows)
        return
    assert corpus(x=found.pairs["x"]) == found
    for (_, given_text), (_, kept) in zip(rows, found.pairs["x"], strict=True):
        assert unicodedata.normalize("NFC", given_text).strip().strip("\ufeff").strip() == kept


def test_builtin_refuses_an_unknown_split():
    with pytest.raises(CorpusError) as error:
        ParallelCorpus.builtin("tset")
    assert str(error.value) == (
        "unknown split of the built-in corpus: 'tset'; did you mean 'test'? (known: dev, test)"
    )


def test_builtin_refuses_files_of_unequal_length(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "eng_Latn.txt").write_text("a\nb\n")
    (tmp_path / "dev" / "deu_Latn.txt").write_text("c\n")
    with pytest.raises(CorpusError) as error:
        read_builtin(root=tmp_path)
    assert str(error.value) == (
        "built-in files must have the same number of lines, got {'eng_Latn': 2, 'deu_Latn': 1}"
    )


# What spelling and length alone would score.


def aligned(similar, n):
    """Weak alignment in the words of the paper."""
    return [
        all(
            similar(i, i) > similar(i, j) and similar(i, i) > similar(j, i)
            for j in range(n)
            if j != i
        )
        for i in range(n)
    ]


rows_of_ab = st.lists(
    st.tuples(st.text("ab ", min_size=1, max_size=8), st.text("ab ", min_size=1, max_size=8)),
    min_size=2,
    max_size=8,
)


@given(rows_of_ab)
def test_spelling_is_scored_as_defined(rows):
    from fractions import Fraction

    first, second = ([surface.grams(each) for each in side] for side in zip(*rows, strict=True))

    def square(i, j):
        dot = sum(count * second[j][gram] for gram, count in first[i].items())
        norms = [sum(count**2 for count in each.values()) for each in (first[i], second[j])]
        return Fraction(dot**2, norms[0] * norms[1]) if norms[0] * norms[1] else Fraction(0)

    assert surface.surface_hits(rows) == aligned(square, len(rows))


@given(rows_of_ab)
def test_length_is_scored_as_defined(rows):
    totals = [sum(map(len, side)) for side in zip(*rows, strict=True)]

    def near(i, j):
        return -abs(len(rows[i][0]) * totals[1] - len(rows[j][1]) * totals[0])

    assert surface.length_hits(rows) == aligned(near, len(rows))


def test_copies_are_aligned_by_spelling_and_equal_lengths_by_nothing():
    rows = [(f"sentence number {k}", f"sentence number {k}") for k in range(10, 20)]
    assert all(surface.surface_hits(rows))
    assert not any(surface.length_hits(rows))


HOSTILE_NAMES = [
    "deu\x1b[2J",
    "deu\nLatn",
    "deu\u202eLatn",
    "d" * 300,
    "deu\x00",
    "deu\x9b",
    "a\u2028",
    5,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_code_that_would_spoil_a_screen_is_refused(name):
    pairs = (("one", "eins"), ("two", "zwei"))
    for options in ({"pairs": {name: pairs}}, {"pivot": name, "pairs": {"deu_Latn": pairs}}):
        with pytest.raises(CorpusError, match="a language needs a name without control") as error:
            ParallelCorpus(**options)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 250
