from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.corpus.text import comparison_key, find_fault, normalize_sentence
from tests.helpers.corpus_files import (
    ENGLISH,
    FRENCH,
    PAIRS,
    refusal,
    to_folder,
    to_jsonl,
    to_tsv,
    zipped,
)

# What one reader writes, another reads. Tabs would make a table of lines.

sentences = (
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t\0"),
        min_size=1,
        max_size=10,
    )
    .map(lambda text: f"{text} so")
    .filter(lambda text: not find_fault(normalize_sentence(text)))
)


@st.composite
def corpora(draw):
    n = draw(st.integers(2, 4))
    column = st.lists(
        sentences,
        min_size=n,
        max_size=n,
        unique_by=lambda text: comparison_key(normalize_sentence(text)),
    )
    pivots = draw(column)
    codes = ["deu_Latn", "zho_Hans", "xyz"][: draw(st.integers(1, 3))]
    return ParallelCorpus("eng_Latn", {code: zipped(pivots, draw(column)) for code in codes})


@given(corpus=corpora(), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans(), bom=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_corpus_is_read_from_files_as_it_was_written(tmp_path_factory, corpus, end, last, bom):
    folder = tmp_path_factory.mktemp("corpus")
    to_folder(corpus, folder / "lines")
    for path in (folder / "lines").iterdir():
        text = path.read_bytes().decode().replace("\n", end)
        text = text if last else text.removesuffix(end)
        path.write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    to_tsv(corpus, folder / "table.tsv")
    to_jsonl(corpus, folder / "table.jsonl")
    for reader, name in (("folder", "lines"), ("tsv", "table.tsv"), ("jsonl", "table.jsonl")):
        found = ParallelCorpus.read(folder / name, order="file")
        assert (found.pairs, found.pivot) == (corpus.pairs, corpus.pivot)
        assert found.digest == corpus.digest
        spread = ParallelCorpus.read(folder / name)
        assert spread.in_file_order().pairs == corpus.pairs
        assert spread.shared_pivot == corpus.shared_pivot
        assert detect.guess(folder / name) == reader


def test_a_corpus_of_several_pivot_sides_is_read_as_it_was_written(tmp_path):
    other = [f"{each} Really." for each in ENGLISH]
    corpus = ParallelCorpus(
        "eng_Latn", {"deu_Latn": PAIRS["deu_Latn"], "fra_Latn": zipped(other, FRENCH)}
    )
    to_folder(corpus, tmp_path)
    found = ParallelCorpus.from_tatoeba(tmp_path)
    assert found.in_file_order().pairs == corpus.pairs
    assert not found.shared_pivot
    assert refusal(to_tsv, corpus, tmp_path / "t.tsv") == (
        "a table needs the same pivot sentences for all languages, custom has several; use a folder"
    )


def test_a_sentence_of_two_lines_is_not_written(tmp_path):
    corpus = ParallelCorpus("eng_Latn", {"deu_Latn": [("a\nb", "c"), ("d", "e")]})
    assert refusal(to_folder, corpus, tmp_path) == (
        f"a sentence must be one line, but {tmp_path / 'eng_Latn.txt'}:1 has several"
    )
