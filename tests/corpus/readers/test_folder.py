import gzip
import logging

import pytest

from neuronxa_callback import ParallelCorpus
from tests.helpers.corpus_files import (
    ENGLISH,
    FRENCH,
    GERMAN,
    PAIRS,
    refusal,
    write_files,
    write_flores,
    zipped,
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_folder_of_files_by_language(tmp_path, end, last):
    found = ParallelCorpus.from_folder(write_flores(tmp_path, end=end, last=last))
    assert found.pairs == PAIRS
    assert found.shared_pivot
    assert found.dropped == ()
    assert found.where("deu_Latn", 2) == "deu_Latn.dev:3"
    assert found.where("deu_Latn", 2, pivot=True) == "eng_Latn.dev:3"


def test_names_of_files_in_other_forms(tmp_path):
    write_files(
        tmp_path, dev__eng_Latn=ENGLISH, dev__fr=FRENCH, README=["notes"], data__json=["{}"]
    )
    (tmp_path / "dev.de.gz").write_bytes(gzip.compress("\n".join(GERMAN).encode()))
    assert ParallelCorpus.from_folder(tmp_path).pairs == PAIRS
    assert ParallelCorpus.from_tatoeba(tmp_path / "dev").pairs == PAIRS


def test_another_pivot_and_some_languages(tmp_path):
    found = ParallelCorpus.from_folder(write_flores(tmp_path), pivot="French", languages=["de"])
    assert (found.pivot, found.languages) == ("fra_Latn", ("deu_Latn",))
    assert found.in_file_order().pairs["deu_Latn"] == zipped(FRENCH, GERMAN)


def test_bad_lines_are_dropped_in_every_language_and_named(tmp_path, caplog):
    write_files(tmp_path, eng__txt=[*ENGLISH, "x", "y", "Thank  you."])
    write_files(tmp_path, deu__txt=[*GERMAN, " \u200b", "eins", "zwei"])
    write_files(tmp_path, fra__txt=[*FRENCH, "un", "Merci.", "trois"])
    with caplog.at_level(logging.WARNING):
        # In file order, since of two equal sentences the one that is taken first is kept.
        found = ParallelCorpus.from_folder(tmp_path, order="file")
    assert found.pairs == {"deu_Latn": zipped(ENGLISH, GERMAN), "fra_Latn": zipped(ENGLISH, FRENCH)}
    assert found.dropped == (
        "deu.txt:5 is blank",
        "fra.txt:6 repeats fra.txt:3: 'Merci.'",
        "eng.txt:7 repeats eng.txt:3: 'Thank  you.'",
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path.name}: dropped 3 of the 7 pairs read (deu_Latn 1, fra_Latn 1,"
        " eng_Latn 1); first: deu.txt:5 is blank"
    ]


def test_a_line_that_repeats_only_a_dropped_line_stays(tmp_path):
    write_files(
        tmp_path, eng__txt=["a", "b", "c", "d"], deu__txt=["x", "", "y", "z"], fra__txt=list("uvvw")
    )
    found = ParallelCorpus.from_folder(tmp_path).in_file_order()
    assert [text for _, text in found.pairs["fra_Latn"]] == ["u", "v", "w"]


def test_unequal_lines_are_refused_with_both_files(tmp_path):
    write_files(tmp_path, eng__txt=ENGLISH, deu__txt=GERMAN[:3], fra__txt=FRENCH)
    assert refusal(ParallelCorpus.from_folder, tmp_path) == (
        "files of one corpus must have the same number of lines, but"
        f" {tmp_path / 'eng.txt'} has 4 and {tmp_path / 'deu.txt'} has 3"
    )
    # A small file is counted to its end, also where only its beginning is read.
    many = [f"line {k}" for k in range(500)]
    write_files(tmp_path, eng__txt=many, deu__txt=many[::-1], fra__txt=many[:-1])
    assert refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=2) == (
        "files of one corpus must have the same number of lines, but"
        f" {tmp_path / 'eng.txt'} has 500 and {tmp_path / 'fra.txt'} has 499"
    )


def test_blank_lines_at_the_end_are_ignored(tmp_path):
    write_files(tmp_path, eng__txt=[*ENGLISH, ""], deu__txt=GERMAN, fra__txt=[*FRENCH, "", " "])
    found = ParallelCorpus.from_folder(tmp_path)
    assert (found.pairs, found.dropped) == (PAIRS, ())


def test_n_pairs_counts_usable_pairs(tmp_path):
    many = [f"line {k}" for k in range(1000)]
    write_files(tmp_path, eng__txt=many, deu__txt=[""] * 300 + [f"{line} x" for line in many[300:]])
    found = ParallelCorpus.from_folder(tmp_path, n_pairs=100)
    order = [633 * k % 1000 for k in range(1000)]
    usable = [k for k in order if k >= 300][:100]
    assert found.pairs["deu_Latn"] == tuple((many[k], f"{many[k]} x") for k in usable)
    assert len(found.dropped) == order.index(usable[-1]) + 1 - 100
    found = ParallelCorpus.from_folder(tmp_path, n_pairs=100, order="file")
    assert found.pairs["deu_Latn"] == tuple((line, f"{line} x") for line in many[300:400])
    assert len(found.dropped) == 300
    assert refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=800) == (
        f"every language needs 800 usable pairs, {tmp_path.name} has 700 of 1000 for deu_Latn; set"
        " n_pairs=700 or leave the language out; first dropped: deu.txt:1 is blank"
    )
    assert refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=1) == (
        "n_pairs must be at least 2, got 1"
    )


def test_missing_folders_and_files_are_refused(tmp_path):
    read, folder = ParallelCorpus.from_folder, str(tmp_path)
    nowhere = str(tmp_path / "nowhere")
    assert refusal(read, nowhere) == f"a corpus must be a folder, but {nowhere!r} does not exist"
    (tmp_path / "dev").mkdir()
    (tmp_path / "README.md").write_text("hello")
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has no file named by a language, such as deu_Latn.dev or de.txt; it"
        " contains README.md, dev/"
    )
    write_files(tmp_path / "dev", deu_Latn__jsonl="{}")
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has no file named by a language, such as deu_Latn.dev or de.txt; it"
        f" contains README.md, dev/; name one of its folders, such as '{tmp_path / 'dev'}'"
    )
    assert refusal(read, tmp_path / "README.md") == (
        f"a corpus must be a folder, but '{tmp_path / 'README.md'}' is a file"
    )
    write_files(tmp_path, deu_Latn__dev=GERMAN)
    assert refusal(read, tmp_path) == (
        f"{tmp_path}: unknown language: 'eng_Latn' (known: deu_Latn)"
    )
    write_files(tmp_path, eng_Latn__dev=ENGLISH, eng_Latn__devtest=ENGLISH)
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has several files for eng_Latn: eng_Latn.dev, eng_Latn.devtest; choose"
        " one with extension=, or keep one"
    )
    assert read(tmp_path, extension="dev").n_pairs == 4
    assert refusal(read, tmp_path, extension="dev", languages=["eng"]) == (
        "the pivot 'eng_Latn' cannot be compared with itself; leave it out"
    )


def test_a_thousand_languages(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    codes = [f"q{a}{b}_Latn" for a in letters for b in letters] + [
        f"k{a}{b}_Cyrl" for a in letters[:13] for b in letters[:25]
    ]
    write_files(tmp_path, **{f"{code}__txt": [f"{code} one", f"{code} two"] for code in codes})
    found = ParallelCorpus.from_folder(write_files(tmp_path, eng_Latn__txt=["One.", "Two."]))
    assert len(found.languages) == len(codes) == 1001
    assert found.languages == tuple(sorted(codes))
    assert found.select(["qzz"]).languages == ("qzz_Latn",)


@pytest.mark.parametrize("blank", ["", "\u200b", "\u2060 \u200d", "\ufeff"])
def test_lines_that_are_shifted_by_an_invisible_line_are_refused(tmp_path, blank):
    write_files(tmp_path, eng__txt=[*ENGLISH, ""], deu__txt=[*GERMAN[:2], blank, *GERMAN[2:]])
    assert "deu.txt:3 is blank" in refusal(ParallelCorpus.from_folder, tmp_path)
