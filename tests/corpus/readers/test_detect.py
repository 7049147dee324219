"""Readers by name and by the files: one table, the same options as the constructors."""

import gzip
import inspect

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from tests.helpers.corpus_files import (
    ENGLISH,
    FRENCH,
    GERMAN,
    PAIRS,
    refusal,
    write_files,
    write_flores,
)


class SubCorpus(ParallelCorpus):
    """A subclass, as a user may write it."""


@pytest.mark.parametrize("reader", detect.READERS)
def test_a_constructor_has_the_options_of_its_reader(reader):
    constructor = inspect.signature(getattr(ParallelCorpus, f"from_{reader}")).parameters
    options = inspect.signature(detect.READERS[reader].read).parameters
    assert list(constructor.items()) == list(options.items())


def test_a_subclass_reads_itself(tmp_path):
    assert type(SubCorpus.builtin(languages=["de"])) is SubCorpus
    assert type(SubCorpus.read(write_flores(tmp_path))) is SubCorpus
    assert type(SubCorpus.from_folder(tmp_path)) is SubCorpus
    assert type(SubCorpus.from_folder(tmp_path).select(["de"])) is SubCorpus


def test_read_passes_the_options_of_its_reader_on(tmp_path):
    corpus = ParallelCorpus.read(write_flores(tmp_path), languages=["fr", "de"], n_pairs=3)
    assert corpus.pairs == {code: PAIRS[code][:3] for code in ("fra_Latn", "deu_Latn")}
    write_files(tmp_path, eng_Latn__devtest=ENGLISH, deu_Latn__devtest=GERMAN)
    assert ParallelCorpus.read(tmp_path, extension="devtest").languages == ("deu_Latn",)
    rows = [{"en": "a", "de": "b"}, {"en": "c", "de": "d"}]
    assert ParallelCorpus.read(rows, "dataset").pairs["deu_Latn"] == (("a", "b"), ("c", "d"))


OTHER_FILES = {
    "README.txt": "Übersetzungen: häufige Fragen\n".encode("cp1252"),
    "README.txt.gz": b"not a gzip file",
    "a.txt": b"41001001\tnot of this corpus\n",
    "deu_Latn.txt.gz": gzip.compress(b"Ja.\n" * 1000)[:30],
    "deu.txt.zst": b"\x28\xb5\x2f\xfd\xff\xfe\x00",
    "de.txt": b"\xff\xfeJ\x00a\x00",
    "NOTES.txt": b"",
    "LICENSE.txt.old": b"\x80\x81",
}
TAKEN = ["README.txt", "README.txt.gz", "a.txt", "NOTES.txt", "LICENSE.txt.old", "deu.txt.zst"]


@pytest.mark.parametrize("name", OTHER_FILES)
def test_another_file_does_not_change_the_guess(tmp_path, name):
    (tmp_path / name).write_bytes(OTHER_FILES[name])
    assert detect.guess(write_flores(tmp_path)) == "folder"
    if name in TAKEN:
        assert ParallelCorpus.read(tmp_path).pairs == PAIRS


HEADERS = {
    "comments": ["# language_name: x", "# year: 1900"],
    "a blank line": ["# language_name: x", "", "# year: 1900", " "],
    "blank lines only": ["", ""],
    "nothing": [],
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("other", [None, *OTHER_FILES])
def test_a_bible_is_recognized_behind_its_header(tmp_path, header, other):
    for code, texts in (("eng", ENGLISH), ("fra", FRENCH)):
        verses = [f"4100100{k}\t{text}" for k, text in enumerate(texts)]
        lines = [*HEADERS[header], *verses]
        (tmp_path / f"{code}-x-bible.txt").write_text("".join(f"{line}\n" for line in lines))
    if other is not None:
        (tmp_path / other).write_bytes(OTHER_FILES[other])
    assert detect.guess(tmp_path) == "bible"
    corpus = ParallelCorpus.read(tmp_path, languages=["fr"])
    assert corpus.pairs == {"fra_Latn": PAIRS["fra_Latn"]}


def test_unknown_readers_and_options_are_refused(tmp_path):
    assert refusal(ParallelCorpus.read, tmp_path, "tatoba") == (
        "unknown reader: 'tatoba'; did you mean 'tatoeba'? (known: folder, tatoeba, bible, tsv,"
        " jsonl, parquet, dataset)"
    )
    assert refusal(ParallelCorpus.read, write_flores(tmp_path), extention="dev") == (
        "unknown option of the reader 'folder': 'extention'; did you mean 'extension'? (known:"
        " pivot, languages, n_pairs, extension, order)"
    )
