"""Lines in another language than their file says."""

import builtins

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.findings import ERROR
from neuronxa_callback.corpus.identify import LanguageCheck, check_languages
from tests.helpers.corpus_files import write_files

CODES = ["deu_Latn", "fra_Latn", "rus_Cyrl", "swh_Latn", "hin_Deva", "jpn_Jpan", "ind_Latn"]


def columns():
    """Built-in sentences by language, the pivot included."""
    corpus = ParallelCorpus.builtin()
    known = [code for code in CODES if code in corpus.languages]
    english = [pair[0] for pair in corpus.pairs[known[0]]]
    return {"eng_Latn": english} | {code: [t for _, t in corpus.pairs[code]] for code in known}


def corpus_of(texts):
    english = texts["eng_Latn"]
    others = {code: lines for code, lines in texts.items() if code != "eng_Latn"}
    return ParallelCorpus(
        "eng_Latn", {c: tuple(zip(english, x, strict=True)) for c, x in others.items()}
    )


@pytest.fixture(scope="module")
def texts():
    pytest.importorskip("lingua")
    return columns()


def test_the_built_in_sentences_are_in_their_languages(texts):
    assert check_languages(corpus_of(texts)) == LanguageCheck()


@pytest.mark.slow  # the large model of the identifier
@pytest.mark.parametrize(
    ("side", "other", "name"),
    [
        ("eng_Latn", "fra_Latn", "French"),
        ("eng_Latn", "rus_Cyrl", "Russian"),
        ("swh_Latn", "deu_Latn", "German"),
        ("deu_Latn", "eng_Latn", "English"),
    ],
)
def test_a_planted_line_of_another_language_is_found(texts, side, other, name):
    row = max(range(len(texts[other])), key=lambda i: len(texts[other][i]))
    planted = {code: list(lines) for code, lines in texts.items()}
    # As if the line had been translated into the wrong language.
    planted[side][row] = texts[other][row]
    planted[other][row] = texts[other][row - 1] + " " + texts[other][row - 2]
    findings = check_languages(corpus_of(planted)).findings
    assert [(f.level, f.language, f.where.rsplit(" ", 1)[1]) for f in findings] == [
        (ERROR, side, str(row + 1))
    ]
    assert f"looks like {name}, not " in findings[0].message
    assert findings[0].message.endswith("; drop the line in all languages")


def test_close_languages_are_no_finding(texts):
    malay = [
        "Kami akan pergi ke pasar pada hari esok untuk membeli sayur.",
        "Anak itu sedang membaca buku di perpustakaan sekolah.",
    ]
    pairs = tuple(zip(texts["eng_Latn"][:2], malay, strict=True))
    assert check_languages(ParallelCorpus("eng_Latn", {"ind_Latn": pairs})).findings == ()
    assert check_languages(ParallelCorpus("eng_Latn", {"zsm_Latn": pairs})).findings == ()


@pytest.mark.parametrize("code", ["ceb_Latn", "xyz", "tam_Latn", "kaz_Latn", "arz_Arab"])
def test_a_language_that_is_not_known_in_its_script_is_named(texts, code):
    pairs = tuple(zip(texts["eng_Latn"], texts["deu_Latn"], strict=True))
    found = check_languages(ParallelCorpus("eng_Latn", {code: pairs}))
    assert found.findings == ()
    assert found.note == (
        f"the languages of lines are not checked for {code}: lingua does not know them"
    )


@pytest.mark.parametrize("code", ["arb_Arab", "zho_Hant", "lvs_Latn", "nob_Latn", "fil_Latn"])
def test_languages_are_known_by_their_usual_codes(texts, code):
    pairs = tuple(zip(texts["eng_Latn"][:9], texts["jpn_Jpan"][:9], strict=True))
    assert check_languages(ParallelCorpus("eng_Latn", {code: pairs})).note == ""


def test_without_the_identifier_a_sentence_says_how_to_get_it(monkeypatch, texts):
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "lingua":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    found = check_languages(corpus_of(texts))
    assert found == LanguageCheck(
        note="the languages of lines are not checked: pip install lingua-language-detector"
    )


@pytest.mark.slow
def test_places_name_the_file_of_the_pivot(tmp_path, texts):
    english = list(texts["eng_Latn"])
    english[16] = "Ceci est une phrase française que personne n'a traduite en anglais."
    write_files(tmp_path, eng_Latn__txt=english, deu_Latn__txt=texts["deu_Latn"])
    (finding,) = check_languages(ParallelCorpus.from_folder(tmp_path)).findings
    assert (finding.language, finding.where) == ("eng_Latn", "eng_Latn.txt:17")
