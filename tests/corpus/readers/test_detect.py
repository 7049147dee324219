"""Readers by name and by the files: one table, the same options as the constructors."""

import inspect

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from tests.helpers.corpus_files import ENGLISH, GERMAN, PAIRS, refusal, write_files, write_flores


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


def test_unknown_readers_and_options_are_refused(tmp_path):
    assert refusal(ParallelCorpus.read, tmp_path, "tatoba") == (
        "unknown reader: 'tatoba'; did you mean 'tatoeba'? (known: folder, tatoeba, bible, tsv,"
        " jsonl, parquet, dataset)"
    )
    assert refusal(ParallelCorpus.read, write_flores(tmp_path), extention="dev") == (
        "unknown option of the reader 'folder': 'extention'; did you mean 'extension'? (known:"
        " pivot, languages, n_pairs, extension, order)"
    )
