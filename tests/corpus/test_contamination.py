import gzip
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronxa_callback import CorpusError, ParallelCorpus
from neuronxa_callback.corpus.contamination import (
    Hit,
    NgramIndex,
    contamination,
    corpus_sentences,
    search_file,
    search_files,
    searchable_bytes,
)

LONG = "the " + " ".join(f"{a}{b}word" for a in "bcdfg" for b in "aeiou") + " ends."
PAIRS = {
    "deu_Latn": [
        ("The kettle sings on the stove.", "Der Kessel singt auf dem Herd."),
        ("Nobody knew the way back home.", "Niemand kannte den Weg zurück nach Hause."),
        (LONG, "Ein langer Satz, der zu Ende ist."),
    ],
    "zho_Hans": [
        ("The kettle sings on the stove.", "水壶在炉子上唱着歌，声音越来越大，大家都听见了。"),
        ("Nobody knew the way back home.", "没有人知道回家的路。"),
        (LONG, "一句很长的话终于说完了。"),
    ],
}
CORPUS = ParallelCorpus("eng_Latn", PAIRS)
INDEX = NgramIndex(corpus_sentences(CORPUS))
NOISE = "Some other text of no interest, line after line. Ein anderer Text. 别的文字。\n"


def search(path, text, corpus=CORPUS):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return contamination(corpus, [path])


def test_a_clean_file_gives_no_hit(tmp_path):
    assert search(tmp_path / "a.txt", NOISE * 1000) == ()


def test_a_sentence_is_found_by_line_whole_and_in_its_language(tmp_path):
    text = NOISE * 41 + "And: the kettle sings\ton the  stove!\n" + NOISE + PAIRS["deu_Latn"][1][1]
    found = search(tmp_path / "a.txt", text)
    assert found == (
        Hit(
            language="eng_Latn",
            where="eng_Latn side of deu_Latn pair 1",
            sentence="The kettle sings on the stove.",
            file=str(tmp_path / "a.txt"),
            line=42,
            share=1.0,
        ),
        Hit(
            language="deu_Latn",
            where="deu_Latn pair 2",
            sentence="Niemand kannte den Weg zurück nach Hause.",
            file=str(tmp_path / "a.txt"),
            line=44,
            share=1.0,
        ),
    )


def test_thirteen_words_of_a_long_sentence_are_enough_and_twelve_are_not(tmp_path):
    words = LONG.split()
    (hit,) = search(tmp_path / "a.txt", NOISE + " ".join(words[4:17]) + " something else\n")
    assert (hit.language, hit.line, hit.share) == ("eng_Latn", 2, 1 / (len(words) - 12))
    (hit,) = search(tmp_path / "a.txt", " ".join(words[2:18]))
    assert hit.share == 4 / (len(words) - 12)
    assert search(tmp_path / "a.txt", " ".join(words[4:16]) + " something else\n") == ()


def test_a_part_of_a_short_sentence_is_no_hit(tmp_path):
    assert search(tmp_path / "a.txt", "The kettle sings on the") == ()


def test_characters_count_where_there_are_no_spaces(tmp_path):
    long, short = (PAIRS["zho_Hans"][k][1] for k in (0, 1))
    (hit,) = search(tmp_path / "a.txt", f"他说：{long[2:22]}吗？")
    assert (hit.language, hit.share) == ("zho_Hans", 1 / (len(long) - 19))
    assert search(tmp_path / "a.txt", f"他说：{long[2:21]}吗？") == ()
    (hit,) = search(tmp_path / "a.txt", f"他说{short}")
    assert hit.where == "zho_Hans pair 2"


def test_quotation_marks_and_case_do_not_count(tmp_path):
    text = "“NOBODY knew — the way… back «home»”"
    assert [hit.sentence for hit in search(tmp_path / "a.txt", text)] == [PAIRS["deu_Latn"][1][0]]


def test_json_records_and_archives_are_read(tmp_path):
    german = PAIRS["deu_Latn"][1][1]
    records = [{"text": "nothing", "id": 3}, {"meta": {"parts": ["x", f"so: {german}"]}}, ["y"]]
    text = "\n".join(map(json.dumps, records))
    assert "\\u00fc" in text
    for name, data in (("a.jsonl", text.encode()), ("a.jsonl.gz", gzip.compress(text.encode()))):
        (hit,) = search(tmp_path / name, data)
        assert (hit.language, hit.line) == ("deu_Latn", 2)
    broken = f"{text}\n{{broken, {PAIRS['deu_Latn'][0][0]}"
    found = search(tmp_path / "b.jsonl", broken)
    assert [(hit.language, hit.line) for hit in found] == [("eng_Latn", 4), ("deu_Latn", 2)]
    (hit,) = search(tmp_path / "a.txt.gz", gzip.compress(german.encode()))
    assert hit.file == str(tmp_path / "a.txt.gz")


def test_names_of_fields_are_not_text(tmp_path):
    assert search(tmp_path / "a.jsonl", json.dumps({PAIRS["deu_Latn"][0][0]: "a"})) == ()


def test_folders_are_searched_in_order_with_progress(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/z.txt", "a.txt"):
        (tmp_path / name).write_text(PAIRS["deu_Latn"][0][0])
    seen = []
    found = contamination(CORPUS, [tmp_path], lambda *each: seen.append(each))
    assert [hit.file for hit in found] == [str(tmp_path / "a.txt"), str(tmp_path / "b" / "z.txt")]
    assert seen[-1] == (60, 60)
    assert seen == sorted(seen)


def test_files_that_cannot_be_searched_are_refused(tmp_path):
    with pytest.raises(CorpusError) as error:
        contamination(CORPUS, [tmp_path / "none"])
    assert str(error.value) == f"there is no training file '{tmp_path / 'none'}'"
    (tmp_path / "a.arrow").write_bytes(b"")
    with pytest.raises(CorpusError) as error:
        contamination(CORPUS, [tmp_path])
    assert str(error.value) == (
        "training files must be text or jsonl, plain or .gz, or parquet, but"
        f" {tmp_path / 'a.arrow'} is .arrow; convert it first"
    )
    with pytest.raises(CorpusError) as error:
        search(tmp_path / "a.txt.gz", b"no archive")
    assert str(error.value).startswith(f"cannot read {tmp_path / 'a.txt.gz'}: ")


NOT_TEXT = {
    "random": random.Random(7).randbytes(5000),
    "UTF-16": (NOISE * 50).encode("utf-16"),
    "Latin-1": "Über Ähren müßte ich öfter grübeln.\n".encode("latin-1") * 50,
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.json", "a.txt.gz"])
@pytest.mark.parametrize("kind", NOT_TEXT)
def test_bytes_that_are_no_text_are_refused_under_any_name(tmp_path, name, kind):
    content = gzip.compress(NOT_TEXT[kind]) if name.endswith(".gz") else NOT_TEXT[kind]
    with pytest.raises(CorpusError) as error:
        search(tmp_path / name, content)
    assert str(error.value) == (
        f"training files must be text in UTF-8, but {tmp_path / name} holds other bytes;"
        " convert it first"
    )


def test_a_damaged_character_does_not_end_a_search(tmp_path):
    text = NOISE.encode() * 20 + b"\xff" + PAIRS["deu_Latn"][1][1].encode()
    assert len(search(tmp_path / "a.txt", text)) == 1


def test_a_folder_or_file_without_text_gives_no_all_clear(tmp_path):
    with pytest.raises(CorpusError, match=r"must hold files, but .* is empty"):
        contamination(CORPUS, [tmp_path])
    for name, content in (("a.txt", b""), ("b.jsonl", b'{"n": 1}\n'), ("c.txt", b" \n\n")):
        with pytest.raises(CorpusError, match="must hold text, but there is none in"):
            search(tmp_path / name, content)
    (tmp_path / "d.txt").write_text(NOISE * 3, encoding="utf-8")
    found = search_files(CORPUS, [tmp_path])
    assert found.hits == ()
    assert (found.files, found.lines) == (4, 3)
    assert found.size == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert [message.split()[0] for message in found.warnings] == [
        str(tmp_path / name) for name in ("a.txt", "b.jsonl", "c.txt")
    ]


def test_parquet_is_read_row_by_row(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow
    from pyarrow import parquet

    rows = [{"id": k, "chat": [{"text": NOISE}]} for k in range(5000)]
    rows[4500]["chat"][0]["text"] = f"Hm: {PAIRS['deu_Latn'][1][1]}"
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    seen = []
    found = search_files(CORPUS, [tmp_path], lambda *each: seen.append(each))
    assert [(hit.language, hit.line) for hit in found.hits] == [("deu_Latn", 4501)]
    assert found.lines == 5000
    assert seen[-1] == (found.size, found.size)
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorpusError, match=r"cannot read .*b\.parquet: "):
        contamination(CORPUS, [tmp_path])


letters = st.text("abcü水 \n'", max_size=30)


@given(before=letters, after=letters, chunk=st.integers(1, 40), block=st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_it_is_found_wherever_pieces_are_cut(tmp_path_factory, before, after, chunk, block):
    path = tmp_path_factory.mktemp("cut") / "a.txt"
    sentence = PAIRS["deu_Latn"][1][1]
    for text, hits in (
        (before + sentence + after, [(1 + before.count("\n"), 1.0)]),
        (before + sentence[:30] + after + sentence[31:], []),
    ):
        path.write_text(text, encoding="utf-8")
        found, lines = search_file(INDEX, path, lambda done: None, chunk, block)
        assert lines == len(text.split("\n")) - text.endswith("\n")
        assert [(hit.line, hit.share) for hit in found] == hits


def test_a_file_is_read_once_in_chunks(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(NOISE.encode() * 1000)
    size = path.stat().st_size
    positions = []
    assert search_file(INDEX, path, positions.append, chunk_bytes=1000) == ([], 1000)
    assert positions == [*range(1000, size, 1000), size]


def test_few_windows_are_compared_in_full():
    """The table leaves about one window in 2^20 / n-grams: the rest costs numpy operations only."""
    index = NgramIndex(corpus_sentences(ParallelCorpus.builtin()))
    text = searchable_bytes("".join(f"{k} and {k * k} more. " for k in range(50_000)).encode())
    assert len(text) > 700_000
    assert len(list(index.candidates(text))) < 2 * len(text) * len(index.owners) / 2**20
