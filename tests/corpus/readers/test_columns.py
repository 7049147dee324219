"""Which columns and files are languages: by their names and by what is in them."""

import json
import logging

import pytest

from neuronxa_callback import ParallelCorpus
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal, write_files, zipped

OTHERS = {
    "nr": ["1", "2", "3", "4"],
    "doc_id": ["news-1", "news-2", "news-3", "news-4"],
    "URL": ["http://a.org/1", "http://a.org/2", "https://b.org", "www.c.org/x"],
    "ID": ["a1", "a2", "b3", "b4"],
    "src": ["One.", "Two.", "Three.", "Four."],
    "label": ["true", "false", "true", "true"],
    "has_image": ["no", "no", "yes", "no"],
    "iso_15924": ["Latn", "Latn", "Latn", "Latn"],
    # siblings: codes of common languages with other content in their cells
    "so": ["0.91", "0.82", "1.0", "0.07"],
    "no": ["12", "13", "14", "15"],
    "ms": ["2019-01-01", "2019-01-02", "2020-03-04", "2021-05-06"],
    "id": ["doc_1", "doc_2", "doc_3", "doc_4"],
    "mi": ["a/b.wav", "a/c.wav", "b/d.wav", "e/f.wav"],
    "ie": ["anna@post.org", "otto@post.org", "bob@x.net", "eva@y.org"],
    "sha": ["9f86d081", "60303ae2", "fd61a03a", "a4e624d6"],
    "be": ["NOUN", "VERB", "NOUN", "ADJ"],
    "ca": ["news", "news", "news", "news"],
    "en_id": ["1", "2", "3", "4"],
    "am": ['{"a": 1}', '{"a": 2}', '["b"]', "{}"],
    "tok": GERMAN,
    "hyp_1": GERMAN,
    "Rank": GERMAN,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_column_that_is_no_language_is_left_out_and_named(tmp_path, name, caplog):
    path = tmp_path / "t.tsv"
    rows = zipped([name, *OTHERS[name]], ["en", *ENGLISH], ["de", *GERMAN], ["fra", *FRENCH])
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    with caplog.at_level(logging.INFO):
        corpus = ParallelCorpus.from_tsv(path)
    assert corpus.pairs == PAIRS
    assert corpus.notes[0] == (
        "took the columns 'en' as eng_Latn, 'de' as deu_Latn, 'fra' as fra_Latn"
    )
    assert corpus.notes[1].startswith(f"left out '{name}' (")
    assert len(corpus.notes) == len(caplog.records) + 1 == 2
    assert corpus.select(["de"]).notes == corpus.notes


def test_columns_always_win():
    rows = [{"en": text, "id": str(k)} for k, text in enumerate(ENGLISH)]
    assert refusal(ParallelCorpus.from_dataset, rows) == (
        "dataset must have a column for the pivot and one for another language, it has 'en', 'id';"
        " name them with columns={'deu_Latn': ...}; left out 'id': its cells are numbers; take them"
        " with columns="
    )
    columns = {"eng_Latn": "en", "ind_Latn": "id"}
    assert ParallelCorpus.from_dataset(rows, columns=columns).languages == ("ind_Latn",)


@pytest.mark.parametrize(
    ("name", "code"),
    [("tr", "tur_Latn"), ("Turkish", "tur_Latn"), ("tur", "tur_Latn"), ("tr-TR", "tur_Latn"),
     ("tur_Latn", "tur_Latn"), ("Türkçe", "tur_Latn"), ("sr-Latn", "srp_Latn"),
     ("cat_Latn_vale1252", "cat_Latn_vale1252"), ("my dialect", "my dialect"), ("src", "src"),
     ("xyz", "xyz")],
)  # fmt: skip
@pytest.mark.parametrize("pivot", ["en", "English", "eng_Latn"])
def test_the_languages_of_columns_are_resolved(name, code, pivot):
    rows = [{"a": a, "b": b} for a, b in zipped(ENGLISH, GERMAN)]
    corpus = ParallelCorpus.from_dataset(rows, columns={pivot: "a", name: "b"})
    assert (corpus.pivot, corpus.languages) == ("eng_Latn", (code,))
    assert corpus.notes[0] == f"took the columns 'a' as eng_Latn, 'b' as {code}"
    again = ParallelCorpus.from_dataset(
        rows, columns={pivot: "a", name: "b"}, pivot="en", languages=[name]
    )
    assert again.pairs == corpus.pairs


def test_two_columns_of_one_language_are_refused():
    rows = [{"a": a, "b": b, "c": c} for a, b, c in zipped(ENGLISH, GERMAN, FRENCH)]
    columns = {"en": "a", "de": "b", "German": "c"}
    assert refusal(ParallelCorpus.from_dataset, rows, columns=columns) == (
        "columns= must name a language once, but 'de' and 'German' are both deu_Latn in dataset;"
        " leave one out"
    )


def test_a_language_asked_for_whose_cells_are_numbers_is_refused_with_the_reason():
    rows = [{"en": a, "de": b, "nr": k} for k, (a, b) in enumerate(zipped(ENGLISH, GERMAN))]
    message = refusal(ParallelCorpus.from_dataset, rows, languages=["nr"])
    assert message.endswith("; left out 'nr': its cells are numbers; take them with columns=")


def test_labels_are_no_sentences_but_short_answers_and_holes_are():
    words = [f"Wort {k}." for k in range(12)]
    labels = ["noun", "verb", "noun"] * 4
    holes = ["__NULL__"] * 9 + ["Ja.", "Nein.", "Gut."]
    rows = [
        {"en": f"word {k}.", "de": words[k], "lt": labels[k], "nl": holes[k]} for k in range(12)
    ]
    corpus = ParallelCorpus.from_dataset(rows)
    assert corpus.languages == ("deu_Latn", "nld_Latn")
    assert corpus.notes[1] == "left out 'lt' (its cells are labels)"


def test_a_machine_translation_beside_its_source_is_no_maltese():
    rows = [{"src": a, "mt": b, "ref": c} for a, b, c in zipped(ENGLISH, GERMAN, FRENCH)]
    assert "'src', 'mt', 'ref'" in refusal(ParallelCorpus.from_dataset, rows)
    rows = [{"en": a, "mt": b} for a, b in zipped(ENGLISH, GERMAN)]
    assert ParallelCorpus.from_dataset(rows).languages == ("mlt_Latn",)


@pytest.mark.parametrize("form", ["sentence_{}", "{}_text", "text.{}", "translation-{}"])
def test_columns_with_a_code_and_a_word(form):
    rows = [
        {form.format("eng_Latn"): a, form.format("deu_Latn"): b, "text_id": str(k)}
        for k, (a, b) in enumerate(zipped(ENGLISH, GERMAN))
    ]
    assert ParallelCorpus.from_dataset(rows).pairs == {"deu_Latn": PAIRS["deu_Latn"]}


def test_columns_of_one_language_conflict_only_where_they_are_asked_for(tmp_path):
    path = tmp_path / "ted.tsv"
    rows = zipped(["en", *ENGLISH], ["pt", *GERMAN], ["pt-br", *FRENCH], ["de", *GERMAN])
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    assert refusal(ParallelCorpus.from_tsv, path) == (
        f"{path} has several columns for por_Latn: pt, pt-br; choose one with columns=, or leave"
        " the language out"
    )
    assert "several columns" in refusal(ParallelCorpus.from_tsv, path, languages=["pt"])
    corpus = ParallelCorpus.from_tsv(path, languages=["de"])
    assert corpus.pairs == {"deu_Latn": PAIRS["deu_Latn"]}
    assert corpus.notes[1] == "left out 'pt' (not asked for), 'pt-br' (not asked for)"


FILES = ["de.txt~", "dev.txt", "log.txt", "de.txt.bak", "README", "tok.txt", "de.html", "src.dev"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_language_is_left_out_and_named(tmp_path, name):
    write_files(tmp_path, en__txt=ENGLISH, de__txt=GERMAN)
    (tmp_path / name).write_text("one\ntwo\n")
    corpus = ParallelCorpus.from_folder(tmp_path)
    assert corpus.pairs == {"deu_Latn": PAIRS["deu_Latn"]}
    assert corpus.notes == (
        "took the files en.txt as eng_Latn, de.txt as deu_Latn",
        f"left out {name}",
    )


def test_files_of_one_language_conflict_in_folders_and_prefixes(tmp_path):
    write_files(tmp_path, t__eng=ENGLISH, t__deu=GERMAN, t__fra=FRENCH, t__fr=FRENCH)
    assert refusal(ParallelCorpus.from_tatoeba, tmp_path / "t") == (
        f"the prefix '{tmp_path / 't'}' has several files for fra_Latn: t.fr, t.fra; ask for one by"
        " its name, such as 'fr'"
    )
    assert ParallelCorpus.from_tatoeba(tmp_path / "t", languages=["de"]).languages == ("deu_Latn",)
    folder = tmp_path / "folder"
    folder.mkdir()
    write_files(folder, eng__txt=ENGLISH, deu__txt=GERMAN, fra__txt=FRENCH)
    write_files(folder, fra__dev=FRENCH)
    assert refusal(ParallelCorpus.from_folder, folder) == (
        f"folder {str(folder)!r} has several files for fra_Latn: fra.dev, fra.txt; choose one"
        " with extension=, or keep one"
    )
    assert ParallelCorpus.from_folder(folder, languages=["de"]).languages == ("deu_Latn",)


def test_json_objects_may_leave_a_language_out_at_first(tmp_path):
    rows = [{"en": "Hello."}, *({"en": a, "de": b} for a, b in zipped(ENGLISH, GERMAN))]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = ParallelCorpus.from_jsonl(tmp_path / "t.jsonl").in_file_order()
    assert found.pairs["deu_Latn"] == zipped(ENGLISH, GERMAN)


@pytest.mark.parametrize("hole", ["N/A", "nan", "NULL", "None", "-"])
def test_a_language_with_many_holes_is_still_one(hole):
    rows = [{"en": f"Line {k}.", "de": f"Zeile {k}." if k % 3 else hole} for k in range(30)]
    rows += [{"en": f"More {k}.", "de": hole} for k in range(30)]
    corpus = ParallelCorpus.from_dataset(rows)
    assert (corpus.languages, corpus.n_pairs) == (("deu_Latn",), 20)
