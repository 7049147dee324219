"""Which lines come first: spread over the file, the same ones in every language."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronxa_callback import CorpusError, ParallelCorpus
from neuronxa_callback.corpus.readers.order import Candidates, Documents
from tests.helpers.corpus_files import refusal, write_files

WORDS = ("eng", "deu", "fra")


def lines(code, n):
    return [f"{code} line {k}" for k in range(n)]


def numbers(corpus, language="deu_Latn"):
    """The line of each pair, from 0, which must be that of its pivot sentence."""
    pairs = corpus.pairs[language]
    first, second = ([int(text.split()[-1]) for text in side] for side in zip(*pairs, strict=True))
    assert first == second
    return first


def write(folder, reader, n):
    """A corpus of n lines for a reader."""
    texts = {code: lines(code, n) for code in WORDS}
    if reader == "folder":
        return write_files(folder, **{f"{code}__txt": texts[code] for code in WORDS})
    if reader == "tatoeba":
        for code in WORDS[1:]:
            names = {f"t__{code}__dash__eng__{side}": texts[side] for side in (code, "eng")}
            write_files(folder, **names)
        return folder
    if reader == "bible":
        verses = {c: [f"{k:08d}\t{text}" for k, text in enumerate(texts[c])] for c in WORDS}
        return write_files(folder, **{f"{code}__txt": verses[code] for code in WORDS})
    rows = [dict(zip(WORDS, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    path = folder / f"table.{reader}"
    if reader == "tsv":
        path.write_text("\n".join(["\t".join(WORDS), *("\t".join(r.values()) for r in rows)]))
    elif reader == "parquet":
        pytest.importorskip("pyarrow").parquet.write_table(_arrow(rows), path)
    elif reader == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    return rows if reader == "dataset" else path


def _arrow(rows):
    import pyarrow.parquet  # noqa: F401

    return sys.modules["pyarrow"].Table.from_pylist(rows)


READERS = ("folder", "tatoeba", "bible", "tsv", "jsonl", "parquet", "dataset")


@pytest.mark.parametrize("reader", READERS)
def test_the_first_pairs_of_every_reader_are_spread_over_the_file(tmp_path, reader):
    if reader == "parquet":
        pytest.importorskip("pyarrow.parquet")
    source = write(tmp_path, reader, 400)
    corpus = ParallelCorpus.read(source, reader, n_pairs=50)
    taken = numbers(corpus)
    assert taken == numbers(corpus, "fra_Latn")
    # Each of ten parts of the file has five of the 50 lines, give or take one.
    assert all(4 <= sum(k // 40 == part for k in taken) <= 6 for part in range(10))
    assert corpus.order.startswith("spread over 400 ")
    # More pairs are the same ones and further ones, in any choice of languages.
    more = ParallelCorpus.read(source, reader, n_pairs=60, languages=["fr"])
    assert numbers(more, "fra_Latn")[:50] == taken
    whole = ParallelCorpus.read(source, reader)
    assert numbers(whole)[:50] == taken
    assert sorted(numbers(whole)) == list(range(400))
    assert numbers(whole.in_file_order()) == list(range(400))
    in_file = ParallelCorpus.read(source, reader, n_pairs=50, order="file")
    assert (numbers(in_file), in_file.order) == (list(range(50)), "file order")
    assert refusal(ParallelCorpus.read, source, reader, order="zigzag") == (
        "unknown order: 'zigzag' (known: spread, file)"
    )


@given(st.integers(0, 3000), st.integers(0, 200))
def test_the_order_is_a_permutation_that_begins_the_same(count, n):
    candidates = Candidates(count)
    whole = candidates.first(None)
    assert sorted(whole) == list(range(count))
    assert candidates.first(n) == whole[:n]


@pytest.mark.parametrize("count", [997, 1012, 1997, 31102, 4_500_000])
@pytest.mark.parametrize("n", [50, 100, 400])
def test_no_part_of_a_file_is_left_out(count, n):
    chosen = sorted(Candidates(count).first(n))
    gaps = [later - line for line, later in pairwise([*chosen, chosen[0] + count])]
    assert max(gaps) <= 3 * count / n


def test_a_dropped_line_is_replaced_by_the_next_of_the_order(tmp_path):
    source = write(tmp_path, "folder", 200)
    taken = numbers(ParallelCorpus.read(source, n_pairs=20))
    texts = lines("deu", 200)
    texts[taken[3]] = "<range>"
    write_files(tmp_path, deu__txt=texts)
    corpus = ParallelCorpus.read(source, n_pairs=20)
    rest = numbers(corpus)
    assert rest[:19] == taken[:3] + taken[4:]
    assert len(corpus.dropped) == 1
    # The pivot's line is dropped in all languages.
    assert numbers(corpus, "fra_Latn") == rest


def test_a_blank_line_at_the_end_does_not_change_the_order(tmp_path):
    source = write(tmp_path, "folder", 100)
    taken = numbers(ParallelCorpus.read(source))
    for code in WORDS:
        write_files(tmp_path, **{f"{code}__txt": [*lines(code, 100), "", ""]})
    assert numbers(ParallelCorpus.read(source)) == taken


# Documents.


def documents(n, sizes=(40, 7, 1, 25, 11)):
    """Ids of n lines: documents of these sizes, over and over."""
    ids = []
    while len(ids) < n:
        ids += [f"news.{len(ids)}"] * sizes[len(ids) % len(sizes)]
    return ids[:n]


def assert_one_of_each_first(taken, ids):
    distinct = list(dict.fromkeys(ids))
    first = [ids[k] for k in taken[: len(distinct)]]
    assert sorted(first) == sorted(distinct)
    second = [ids[k] for k in taken[len(distinct) :]]
    twice = [one for one in distinct if ids.count(one) > 1]
    assert sorted(second[: len(twice)]) == sorted(twice)


@pytest.mark.parametrize("above", [True, False])
def test_ntrex_begins_with_one_line_of_each_document(tmp_path, above):
    folder = tmp_path / "NTREX-128"
    folder.mkdir()
    ids = documents(300)
    for name, code in (("src__eng", "eng"), ("ref__deu", "deu"), ("ref__fra", "fra")):
        write_files(folder, **{f"newstest2019__dash__{name}__txt": lines(code, 300)})
    write_files(tmp_path if above else folder, DOCUMENT_IDS__tsv=ids)
    corpus = ParallelCorpus.read(folder)
    assert_one_of_each_first(numbers(corpus), ids)
    number = len(set(ids))
    assert corpus.order.endswith(f", one of each of {number} documents (DOCUMENT_IDS.tsv) first")
    write_files(tmp_path if above else folder, DOCUMENT_IDS__tsv=ids[1:])
    assert "documents" not in ParallelCorpus.read(folder).order


def test_flores_200_has_its_documents_in_its_metadata(tmp_path):
    (tmp_path / "dev").mkdir()
    ids = documents(150)
    write(tmp_path / "dev", "folder", 150)
    rows = ["URL\tdomain\ttopic", *(f'https://a.org/{one}\tnews\t"x' for one in ids)]
    write_files(tmp_path, metadata_dev__tsv=rows, metadata_devtest__tsv=rows[:90])
    assert_one_of_each_first(numbers(ParallelCorpus.read(tmp_path / "dev")), ids)


@pytest.mark.parametrize("shape", ["files", "long", "wide"])
@pytest.mark.parametrize("column", ["url", "URL", "doc_id"])
def test_flores_plus_has_its_documents_in_a_column(tmp_path, shape, column):
    ids = documents(150)
    texts = {code: lines(code, 150) for code in WORDS}
    rows = {
        code: [
            {"id": k, "iso_639_3": code, "iso_15924": "Latn", "text": text, column: ids[k]}
            for k, text in enumerate(texts[code])
        ]
        for code in WORDS
    }
    if shape == "files":
        for code in WORDS:
            write_files(tmp_path, **{f"{code}__jsonl": map(json.dumps, rows[code])})
        corpus = ParallelCorpus.read(tmp_path)
    elif shape == "long":
        corpus = ParallelCorpus.from_dataset([row for code in WORDS for row in rows[code]])
    else:
        wide = [
            {**{code: texts[code][k] for code in WORDS}, column: ids[k]} for k in range(len(ids))
        ]
        corpus = ParallelCorpus.from_dataset(wide)
    assert_one_of_each_first(numbers(corpus), ids)
    assert corpus.shared_pivot


def test_a_line_without_a_document_is_one_of_its_own():
    rows = [{"en": f"line {k}", "de": f"Zeile {k}", "url": None} for k in range(30)]
    rows[4]["url"] = rows[5]["url"] = "a"
    taken = numbers(ParallelCorpus.from_dataset(rows))
    assert taken[-1] in (4, 5)
    plain = [{"en": row["en"], "de": row["de"]} for row in rows]
    order = numbers(ParallelCorpus.from_dataset(plain))
    assert taken[:-1] == [k for k in order if k != taken[-1]]


def test_documents_of_the_candidates():
    known = Documents(["a", "a", "a", "b"], "ids.tsv")
    assert Candidates(4, documents=known).first(None) == [0, 3, 2, 1]
    assert Candidates(4, documents=known).first(2) == [0, 3]
    with pytest.raises(CorpusError, match="unknown order"):
        Candidates(4, "sorted")


# Streams and large files.


def test_a_stream_keeps_its_order_and_says_so():
    def rows():
        yield from ({"en": f"line {k}", "de": f"Zeile {k}"} for k in range(100))

    corpus = ParallelCorpus.from_dataset(rows(), n_pairs=5)
    assert numbers(corpus) == list(range(5))
    assert corpus.order == "file order, as a stream of unknown length cannot be spread"


class Again:
    """Can be read twice, but its length is not known."""

    def __iter__(self):
        return iter([{"en": f"line {k}", "de": f"Zeile {k}"} for k in range(9)])


def test_rows_of_unknown_length_are_a_stream():
    assert numbers(ParallelCorpus.from_dataset(Again(), n_pairs=3)) == [0, 1, 2]


class Indexed:
    """Rows that count how many of them were read."""

    def __init__(self, n):
        self.n, self.read = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        if k >= self.n:
            raise IndexError(k)
        self.read += 1
        return {"en": f"line {k}", "de": f"Zeile {k}"}


def test_of_a_data_set_with_an_index_only_the_wanted_rows_are_read():
    rows = Indexed(10**9)
    corpus = ParallelCorpus.from_dataset(rows, n_pairs=50)
    assert max(numbers(corpus)) > 9 * 10**8
    assert rows.read < 300


@pytest.mark.parametrize("kind", ["folder", "tsv", "jsonl"])
def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path, kind):
    """200 MB of lines, in a process that may have 100 MB more than it has at its start."""
    long = "x" * 1000
    row = {
        "folder": "{code} {long} {k}\n",
        "tsv": "eng {long} {k}\tdeu {long} {k}\n",
        "jsonl": '{{"eng": "eng {long} {k}", "deu": "deu {long} {k}"}}\n',
    }[kind]
    names = {"eng": "eng.txt", "deu": "deu.txt"} if kind == "folder" else {"t": f"table.{kind}"}
    for code, name in names.items():
        with (tmp_path / name).open("w") as file:
            file.write("eng\tdeu\n" * (kind == "tsv"))
            file.writelines(row.format(code=code, long=long, k=k) for k in range(100_000))
    path = tmp_path if kind == "folder" else tmp_path / f"table.{kind}"
    code = (
        "import resource, csv, json, gzip\n"
        "from neuronxa_callback import ParallelCorpus\n"
        "import neuronxa_callback.corpus.readers.tables\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + (100 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        f"found = ParallelCorpus.from_{kind}({str(path)!r}, n_pairs=100)\n"
        "print(found.n_pairs, found.order)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert found.stdout.startswith("100 spread over 100000 "), found.stderr
