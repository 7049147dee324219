"""Several files of one language: regions, second translations, and the one that is asked for."""

import logging

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.languages import region
from neuronxa_callback.corpus.readers import detect
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal, write_files

NTREX = [
    "src.eng", "ref.eng-GB", "ref.eng-IN", "ref.eng-US", "ref.deu", "ref.fra", "ref.fra-CA",
    "ref.por", "ref.por-BR", "ref.spa", "ref.spa-MX", "ref-2.spa", "ref.srp-Cyrl", "ref.srp-Latn",
    "ref.swa", "ref.zho-CN", "ref.zho-TW",
]  # fmt: skip


def write_marked(folder, names):
    """Files whose lines end in their own name."""
    for name in names:
        lines = [f"{text} {name}" for text in ENGLISH]
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def files_of(corpus):
    """Language -> the file that it was read from."""
    sides = {corpus.pivot: next(iter(corpus.pairs.values()))[0][0]}
    sides |= {code: pairs[0][1] for code, pairs in corpus.pairs.items()}
    return {code: text.split()[-1] for code, text in sides.items()}


@pytest.fixture
def ntrex(tmp_path):
    return write_marked(tmp_path, [f"newstest2019-{name}.txt" for name in NTREX])


def test_ntrex_is_read_whole_and_names_what_it_left_out(ntrex, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = ParallelCorpus.read(ntrex)
    taken = "src.eng ref.deu ref.fra ref.por ref.spa ref.srp-Cyrl ref.srp-Latn ref.swa"
    taken = [f"newstest2019-{name}.txt" for name in f"{taken} ref.zho-CN ref.zho-TW".split()]
    assert list(files_of(corpus).values()) == taken
    assert corpus.notes[1] == (
        "left out newstest2019-ref.fra-CA.txt, newstest2019-ref.por-BR.txt,"
        " newstest2019-ref-2.spa.txt, newstest2019-ref.spa-MX.txt, since another file of the"
        " language was taken"
    )
    assert corpus.notes[1] in caplog.records[0].getMessage()


def test_ntrex_as_shipped(tmp_path):
    names = {
        "newstest2019-src.eng.txt": ENGLISH,
        "newstest2019-ref.deu.txt": GERMAN,
        "newstest2019-ref.zho-CN.txt": FRENCH,
        "newstest2019-ref.eng-GB.txt": [f"{text} (GB)" for text in ENGLISH],
        "newstest2019-ref.srp-Cyrl.txt": FRENCH,
        "LANGUAGES.tsv": ["code\tname"],
    }
    for name, texts in names.items():
        (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
    corpus = ParallelCorpus.read(tmp_path)
    assert corpus.languages == ("deu_Latn", "srp_Cyrl", "zho_Hans")
    assert corpus.pairs["deu_Latn"] == PAIRS["deu_Latn"]
    assert corpus.notes[1] == "left out LANGUAGES.tsv, newstest2019-ref.eng-GB.txt"
    write_files(tmp_path, newstest2019__dash__ref__zho__dash__SG__txt=FRENCH)
    assert "several files for zho_Hans" in refusal(ParallelCorpus.read, tmp_path)
    assert ParallelCorpus.read(tmp_path, languages=["de"]).languages == ("deu_Latn",)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("fra", "ref.fra"), ("fr", "ref.fra"), ("French", "ref.fra"), ("fra_Latn", "ref.fra"),
        ("fr-FR", "ref.fra"), ("fra-CA", "ref.fra-CA"), ("fr_CA", "ref.fra-CA"),
        ("French (Canada)", "ref.fra-CA"), ("Canadian French", "ref.fra-CA"),
        ("por", "ref.por"), ("pt-BR", "ref.por-BR"), ("pt_br", "ref.por-BR"),
        ("spa", "ref.spa"), ("es-MX", "ref.spa-MX"), ("es-419", "ref.spa"),
        ("zh-CN", "ref.zho-CN"), ("Chinese (Traditional)", "ref.zho-TW"),
    ],
)  # fmt: skip
def test_the_file_that_is_asked_for_is_read(ntrex, asked, name, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = ParallelCorpus.read(ntrex, languages=[asked])
    (language,) = corpus.languages
    assert files_of(corpus)[language] == f"newstest2019-{name}.txt"
    assert caplog.records == []
    found = detect.line_files(ntrex, "folder", languages=asked)
    assert [file.name for _, file in found][1:] == [f"newstest2019-{name}.txt"]


@pytest.mark.parametrize(
    ("pivot", "name"),
    [("en", "src.eng"), ("eng-GB", "ref.eng-GB"), ("English (India)", "ref.eng-IN"),
     ("fra-CA", "ref.fra-CA"), ("pt", "ref.por")],
)  # fmt: skip
def test_the_pivot_may_have_a_region_too(ntrex, pivot, name):
    corpus = ParallelCorpus.read(ntrex, pivot=pivot, languages={"deu", "swa"})
    assert files_of(corpus)[corpus.pivot] == f"newstest2019-{name}.txt"
    assert corpus.languages == ("deu_Latn", "swh_Latn")


def test_two_regions_of_one_language_are_not_read_at_once(ntrex):
    assert refusal(ParallelCorpus.read, ntrex, languages=["fra", "fra-CA"]) == (
        f"{ntrex}: newstest2019-ref.fra.txt and newstest2019-ref.fra-CA.txt are both fra_Latn; ask"
        " for one of them at a time"
    )
    assert ParallelCorpus.read(ntrex, languages=["fra", "fr", "French"]).languages == ("fra_Latn",)


def test_regions_without_a_plain_file_are_refused_with_the_name_to_ask_for(tmp_path):
    write_marked(tmp_path, ["en_US.txt", "de_DE.txt", "de_AT.txt", "fr.txt"])
    for languages in (None, ["de"], ["de_CH"]):
        assert refusal(ParallelCorpus.read, tmp_path, languages=languages) == (
            f"folder {str(tmp_path)!r} has several files for deu_Latn: de_AT.txt, de_DE.txt; ask"
            " for one by its name, such as 'de_AT'"
        )
    for name in ("de_AT", "de_DE"):
        assert (
            files_of(ParallelCorpus.read(tmp_path, languages=[name]))["deu_Latn"] == f"{name}.txt"
        )
    assert ParallelCorpus.read(tmp_path, languages=["fr"]).languages == ("fra_Latn",)


@pytest.mark.parametrize("ending", ["txt", "dev"])
def test_names_of_one_language_in_several_forms(tmp_path, ending):
    write_marked(tmp_path, [f"{name}.{ending}" for name in ("en", "de", "German", "fr")])
    message = refusal(ParallelCorpus.read, tmp_path)
    assert message.endswith(
        f"several files for deu_Latn: German.{ending}, de.{ending}; ask for one by its name, such"
        " as 'German'"
    )
    for name in ("German", "de"):
        corpus = ParallelCorpus.read(tmp_path, languages=[name])
        assert files_of(corpus)["deu_Latn"] == f"{name}.{ending}"


def test_a_second_file_of_the_pivot_is_named(tmp_path):
    write_marked(tmp_path, ["en.txt", "eng_Latn.txt", "de.txt"])
    for languages in (None, ["de"]):
        corpus = ParallelCorpus.read(tmp_path, languages=languages)
        assert files_of(corpus)["eng_Latn"] == "eng_Latn.txt"
        assert corpus.notes[1] == "left out en.txt, since another file of the language was taken"
    corpus = ParallelCorpus.read(tmp_path, pivot="en")
    assert files_of(corpus)["eng_Latn"] == "en.txt"
    assert corpus.notes[1] == "left out eng_Latn.txt"


def test_files_that_no_name_tells_apart_say_so(tmp_path):
    write_marked(tmp_path, ["en.txt", "a.de.txt", "b.de.txt"])
    assert refusal(ParallelCorpus.read, tmp_path).endswith("a.de.txt, b.de.txt; keep one")


def test_a_prefix_prefers_the_plain_file_and_the_one_that_is_asked_for(tmp_path):
    path = write_marked(tmp_path, ["t.en", "t.pt", "t.pt_br", "t.es_MX", "t.es_AR"]) / "t"
    for asked in ("pt", "pt_br"):
        corpus = ParallelCorpus.read(path, languages=[asked])
        assert files_of(corpus)["por_Latn"] == f"t.{asked}"
    assert refusal(ParallelCorpus.read, path) == (
        f"the prefix {str(path)!r} has several files for spa_Latn: t.es_AR, t.es_MX; ask for one by"
        " its name, such as 'es_AR'"
    )


@pytest.mark.parametrize(
    ("form", "code"),
    [("fra-CA", "CA"), ("pt_br", "BR"), ("es-419", "419"), ("sr_RS.UTF-8@latin", "RS"),
     ("zh-yue-HK", "HK"), ("German (Austria)", "AT"), ("Swiss German", None),
     ("Brazilian Portuguese", "BR"), ("French", None), ("fra_Latn", None), ("fa-AF", None),
     ("Serbian (Latin)", None), ("nob_Latn_radical", None), ("ca-valencia", None), ("zz-zz", None)],
)  # fmt: skip
def test_the_region_of_a_code_or_name(form, code):
    assert region(form) == code
