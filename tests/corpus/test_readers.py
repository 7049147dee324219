import gzip
import json
import logging
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronxa_callback import CorpusError, ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.corpus.readers.lines import read_lines
from neuronxa_callback.corpus.text import clean, fault_of, same
from tests.helpers.corpus_files import to_folder, to_jsonl, to_tsv

ENGLISH = ["Good morning.", "Good night.", "Thank you.", "It is raining."]
GERMAN = ["Guten Morgen.", "Gute Nacht.", "Danke.", "Es regnet."]
FRENCH = ["Bonjour.", "Bonne nuit.", "Merci.", "Il pleut."]


def zipped(*columns):
    return tuple(zip(*columns, strict=True))


PAIRS = {"deu_Latn": zipped(ENGLISH, GERMAN), "fra_Latn": zipped(ENGLISH, FRENCH)}


def put(folder, end="\n", last=True, **files):
    """Files of lines; two underscores in a name stand for a dot, ``__dash__`` for a dash."""
    for name, lines in files.items():
        text = end.join(lines) + (end if last else "")
        path = folder / name.replace("__dash__", "-").replace("__", ".")
        path.write_bytes(text.encode())
    return folder


def flores(folder, **options):
    return put(folder, **options, eng_Latn__dev=ENGLISH, deu_Latn__dev=GERMAN, fra_Latn__dev=FRENCH)


def refusal(read, *args, **options):
    with pytest.raises(CorpusError) as error:
        read(*args, **options)
    return str(error.value)


# What one reader writes, another reads.

sentences = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), min_size=1, max_size=10
).filter(lambda text: not fault_of(clean(text)))


@st.composite
def corpora(draw):
    n = draw(st.integers(2, 4))
    column = st.lists(sentences, min_size=n, max_size=n, unique_by=lambda text: same(clean(text)))
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
    for read, name in (("folder", "lines"), ("tsv", "table.tsv"), ("jsonl", "table.jsonl")):
        found = detect.read(folder / name, read)
        assert (found.pairs, found.pivot) == (corpus.pairs, corpus.pivot)
        assert found.digest == corpus.digest
        assert detect.guess(folder / name) == read


def test_a_corpus_of_several_pivot_sides_is_read_as_it_was_written(tmp_path):
    other = [f"{each} Really." for each in ENGLISH]
    corpus = ParallelCorpus(
        "eng_Latn", {"deu_Latn": PAIRS["deu_Latn"], "fra_Latn": zipped(other, FRENCH)}
    )
    to_folder(corpus, tmp_path)
    found = ParallelCorpus.from_tatoeba(tmp_path)
    assert found.pairs == corpus.pairs
    assert not found.shared_pivot
    assert refusal(to_tsv, corpus, tmp_path / "t.tsv") == (
        "one table needs one pivot side for all languages, custom has several; use a folder"
    )


def test_a_sentence_of_two_lines_is_not_written(tmp_path):
    corpus = ParallelCorpus("eng_Latn", {"deu_Latn": [("a\nb", "c"), ("d", "e")]})
    assert refusal(to_folder, corpus, tmp_path) == (
        f"a sentence must be one line, {tmp_path / 'eng_Latn.txt'}:1 would be several"
    )


# Folders.


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_folder_of_files_by_language(tmp_path, end, last):
    found = ParallelCorpus.from_folder(flores(tmp_path, end=end, last=last))
    assert found.pairs == PAIRS
    assert found.shared_pivot
    assert found.dropped == ()
    assert found.where("deu_Latn", 2) == "deu_Latn.dev:3"
    assert found.where("deu_Latn", 2, pivot=True) == "eng_Latn.dev:3"


def test_names_of_files_in_other_forms(tmp_path):
    put(tmp_path, dev__eng_Latn=ENGLISH, dev__fr=FRENCH, README=["notes"], data__json=["{}"])
    (tmp_path / "dev.de.gz").write_bytes(gzip.compress("\n".join(GERMAN).encode()))
    assert ParallelCorpus.from_folder(tmp_path).pairs == PAIRS
    assert ParallelCorpus.from_tatoeba(tmp_path / "dev").pairs == PAIRS


def test_another_pivot_and_some_languages(tmp_path):
    found = ParallelCorpus.from_folder(flores(tmp_path), pivot="French", languages=["de"])
    assert (found.pivot, found.languages) == ("fra_Latn", ("deu_Latn",))
    assert found.pairs["deu_Latn"] == zipped(FRENCH, GERMAN)


def test_bad_lines_are_dropped_in_every_language_and_named(tmp_path, caplog):
    put(tmp_path, eng__txt=[*ENGLISH, "x", "y", "Thank  you."])
    put(tmp_path, deu__txt=[*GERMAN, " \u200b", "eins", "zwei"])
    put(tmp_path, fra__txt=[*FRENCH, "un", "Merci.", "trois"])
    with caplog.at_level(logging.WARNING):
        found = ParallelCorpus.from_folder(tmp_path)
    assert found.pairs == PAIRS
    assert found.dropped == (
        "deu.txt:5 is blank",
        "fra.txt:6 repeats fra.txt:3: 'Merci.'",
        "eng.txt:7 repeats eng.txt:3: 'Thank  you.'",
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path.name}: 3 of the 7 pairs read were dropped; the first: deu.txt:5 is blank"
    ]


def test_a_line_that_repeats_only_a_dropped_line_stays(tmp_path):
    put(
        tmp_path, eng__txt=["a", "b", "c", "d"], deu__txt=["x", "", "y", "z"], fra__txt=list("uvvw")
    )
    assert [i for _, i in ParallelCorpus.from_folder(tmp_path).pairs["fra_Latn"]] == ["u", "v", "w"]


def test_marks_and_ends_of_lines_are_no_text(tmp_path):
    path = put(tmp_path, a__txt=["\ufeffen\tde", "a\tb", "c\td"], end="\r\n", last=False) / "a.txt"
    assert read_lines(path) == ["en\tde", "a\tb", "c\td"]
    assert ParallelCorpus.from_tsv(path).pairs["deu_Latn"] == (("a", "b"), ("c", "d"))
    rows = ['\ufeff{"en": "a", "de": "b"}', '{"en": "c", "de": "d"}']
    path = put(tmp_path, a__jsonl=rows, end="\r\n") / "a.jsonl"
    assert ParallelCorpus.from_jsonl(path).pairs["deu_Latn"] == (("a", "b"), ("c", "d"))


def test_line_breaks_of_unicode_end_no_line(tmp_path):
    odd = ["a\u2028b", "c\x85d", "e\x0bf", "g\x1ch"]
    found = ParallelCorpus.from_folder(put(tmp_path, eng__txt=ENGLISH, deu__txt=odd))
    assert [text for _, text in found.pairs["deu_Latn"]] == odd


def test_unequal_lines_are_refused_with_both_files(tmp_path):
    put(tmp_path, eng__txt=ENGLISH, deu__txt=GERMAN[:3], fra__txt=FRENCH)
    assert refusal(ParallelCorpus.from_folder, tmp_path) == (
        "files of one corpus must have equally many lines,"
        f" {tmp_path / 'eng.txt'} has 4 and {tmp_path / 'deu.txt'} has 3"
    )
    # A small file is counted to its end, also where only its beginning is read.
    many = [f"line {k}" for k in range(500)]
    put(tmp_path, eng__txt=many, deu__txt=many, fra__txt=many[:-1])
    assert refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=2) == (
        "files of one corpus must have equally many lines,"
        f" {tmp_path / 'eng.txt'} has 500 and {tmp_path / 'fra.txt'} has 499"
    )


def test_blank_lines_at_the_end_are_no_lines(tmp_path):
    put(tmp_path, eng__txt=[*ENGLISH, ""], deu__txt=GERMAN, fra__txt=[*FRENCH, "", " "])
    found = ParallelCorpus.from_folder(tmp_path)
    assert (found.pairs, found.dropped) == (PAIRS, ())


def test_n_pairs_counts_usable_pairs(tmp_path):
    many = [f"line {k}" for k in range(1000)]
    put(tmp_path, eng__txt=many, deu__txt=["", *[""] * 299, *many[300:]])
    found = ParallelCorpus.from_folder(tmp_path, n_pairs=100)
    assert found.pairs["deu_Latn"] == tuple((each, each) for each in many[300:400])
    assert len(found.dropped) == 300
    assert refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=800) == (
        f"every language needs 800 usable pairs, {tmp_path.name} has 700 of 1000 for deu_Latn; set"
        " n_pairs=700 or leave the language out; the first dropped: deu.txt:1 is blank"
    )
    assert refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=1) == (
        "n_pairs must be at least 2, got 1"
    )


def test_what_is_not_utf8_is_refused_by_line(tmp_path):
    put(tmp_path, eng__txt=ENGLISH, deu__txt=GERMAN)
    (tmp_path / "deu.txt").write_bytes("eins\nzwei\nfünf\nvier\n".encode("latin-1"))
    assert refusal(ParallelCorpus.from_folder, tmp_path) == (
        f"a corpus must be UTF-8 text, {tmp_path / 'deu.txt'}:3 is not: byte 0xfc at position 1;"
        " convert the file first"
    )


def test_a_broken_archive_is_refused(tmp_path):
    put(tmp_path, eng__txt=ENGLISH)
    (tmp_path / "deu.txt.gz").write_bytes(b"no archive")
    message = refusal(ParallelCorpus.from_folder, tmp_path)
    assert message.startswith(f"{tmp_path / 'deu.txt.gz'} cannot be read: ")


def test_what_is_missing_is_said(tmp_path):
    read, folder = ParallelCorpus.from_folder, str(tmp_path)
    nowhere = str(tmp_path / "nowhere")
    assert refusal(read, nowhere) == f"a corpus must be a folder, {nowhere!r} does not exist"
    (tmp_path / "dev").mkdir()
    (tmp_path / "README.md").write_text("hello")
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has no file named by a language, such as deu_Latn.dev or de.txt; it"
        " holds README.md, dev/"
    )
    assert refusal(read, tmp_path / "README.md") == (
        f"a corpus must be a folder, '{tmp_path / 'README.md'}' is a file"
    )
    put(tmp_path, deu_Latn__dev=GERMAN)
    assert refusal(read, tmp_path) == (
        f"{tmp_path}: unknown language: 'eng_Latn' (known: deu_Latn)"
    )
    put(tmp_path, eng_Latn__dev=ENGLISH, eng_Latn__devtest=ENGLISH)
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has several files for eng_Latn: eng_Latn.dev, eng_Latn.devtest; say"
        " which with extension=, or keep one"
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
    put(tmp_path, **{f"{code}__txt": [f"{code} one", f"{code} two"] for code in codes})
    found = ParallelCorpus.from_folder(put(tmp_path, eng_Latn__txt=["One.", "Two."]))
    assert len(found.languages) == len(codes) == 1001
    assert found.languages == tuple(sorted(codes))
    assert found.select(["qzz"]).languages == ("qzz_Latn",)


@pytest.mark.parametrize("kind", ["folder", "tsv", "jsonl"])
def test_a_huge_file_is_read_no_further_than_needed(tmp_path, kind):
    """Sparse files of 5 GB: real lines first, then nothing but zeros."""
    if kind == "folder":
        put(tmp_path, eng__txt=[f"line {k}" for k in range(2000)])
        put(tmp_path, deu__txt=[f"Zeile {k}" for k in range(2000)])
        files = [tmp_path / "eng.txt", tmp_path / "deu.txt"]
    else:
        files = [tmp_path / f"table.{kind}"]
        rows = [(f"line {k}", f"Zeile {k}") for k in range(2000)]
        lines = [json.dumps({"eng": a, "deu": b}) for a, b in rows]
        if kind == "tsv":
            lines = ["eng\tdeu", *("\t".join(row) for row in rows)]
        files[0].write_text("\n".join(lines) + "\n")
    for file in files:
        with file.open("r+b") as opened:
            opened.truncate(5 << 30)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from neuronxa_callback import ParallelCorpus\n"
        f"found = ParallelCorpus.from_{kind}({str(tmp_path if kind == 'folder' else files[0])!r},"
        " n_pairs=1000); print(found.n_pairs)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.stdout == "1000\n", found.stderr


# Tatoeba.


def test_tatoeba_files_have_a_pivot_side_each(tmp_path):
    put(tmp_path, tatoeba__deu__dash__eng__deu=GERMAN, tatoeba__deu__dash__eng__eng=ENGLISH)
    put(tmp_path, tatoeba__eng__dash__fra__fra=FRENCH[1:], tatoeba__eng__dash__fra__eng=ENGLISH[1:])
    found = ParallelCorpus.from_tatoeba(tmp_path)
    assert found.pairs == {"deu_Latn": PAIRS["deu_Latn"], "fra_Latn": PAIRS["fra_Latn"][1:]}
    assert not found.shared_pivot
    assert found.where("fra_Latn", 0) == "tatoeba.eng-fra.fra:1"
    assert ParallelCorpus.from_tatoeba(tmp_path, languages=["fr"], n_pairs=2).n_pairs == 2
    assert refusal(ParallelCorpus.from_tatoeba, tmp_path, n_pairs=4) == (
        f"every language needs 4 usable pairs, {tmp_path.name} has 3 of 3 for fra_Latn; set"
        " n_pairs=3 or leave the language out"
    )


def test_a_tatoeba_pair_is_dropped_in_its_own_language_only(tmp_path):
    put(tmp_path, t__deu__dash__eng__deu=[*GERMAN[:3], ""], t__deu__dash__eng__eng=ENGLISH)
    put(tmp_path, t__fra__dash__eng__fra=FRENCH, t__fra__dash__eng__eng=ENGLISH)
    put(tmp_path, t__deu__dash__eng__deu=[GERMAN[0], "", *GERMAN[2:]])
    found = ParallelCorpus.from_tatoeba(tmp_path)
    assert [len(pairs) for pairs in found.pairs.values()] == [3, 4]
    assert found.dropped == ("t.deu-eng.deu:2 is blank",)


def test_what_is_missing_among_tatoeba_files_is_said(tmp_path):
    read, folder = ParallelCorpus.from_tatoeba, str(tmp_path)
    assert refusal(read, tmp_path) == (
        f"folder {folder!r} has no pair of files like tatoeba.deu-eng.deu and tatoeba.deu-eng.eng"
        " with the pivot 'eng_Latn'; it holds nothing"
    )
    put(tmp_path, tatoeba__deu__dash__eng__deu=GERMAN)
    assert refusal(read, tmp_path) == (
        f"{tmp_path / 'tatoeba.deu-eng.deu'} has no partner tatoeba.deu-eng.eng in the same folder"
    )
    assert refusal(read, tmp_path / "none") == (
        f"there is neither a folder '{tmp_path / 'none'}' nor are there files none.<code>"
    )


# Bibles.


def test_verses_are_parallel_by_id_and_missing_ones_are_dropped_everywhere(tmp_path):
    ids = ["01001001", "01001002", "01001003", "01001004"]

    def verses(texts, *leave):
        rows = [f"{verse}\t{text}" for verse, text in zip(ids, texts, strict=True)]
        return ["# language_name: x", *(row for k, row in enumerate(rows) if k not in leave)]

    put(tmp_path, eng__dash__x__dash__bible__dash__kjv__txt=verses(ENGLISH))
    put(tmp_path, deu__dash__x__dash__bible__txt=verses([*GERMAN[:1], "", *GERMAN[2:]])[::-1])
    put(tmp_path, fra__txt=verses(FRENCH, 3))
    found = ParallelCorpus.from_bible(tmp_path)
    assert found.pairs == {name: (rows[0], rows[2]) for name, rows in PAIRS.items()}
    assert found.shared_pivot
    assert found.dropped == (
        "verse 01001002 is missing in deu-x-bible.txt",
        "verse 01001004 is missing in fra.txt",
    )
    assert found.where("fra_Latn", 1) == "fra.txt:4"
    assert ParallelCorpus.from_bible(tmp_path, languages=["de"]).n_pairs == 3
    assert ParallelCorpus.from_bible(tmp_path, languages=["fr"], n_pairs=2).n_pairs == 2
    assert detect.guess(tmp_path) == "bible"
    put(tmp_path, fra__txt=["01001001 no tab"])
    assert refusal(ParallelCorpus.from_bible, tmp_path) == (
        f"a verse must be 'id<tab>text', {tmp_path / 'fra.txt'}:1 has no tab"
    )


def test_enough_verses_are_found_behind_dropped_ones(tmp_path):
    many = [f"{k:08d}\tverse {k}" for k in range(1000)]
    put(
        tmp_path,
        eng__txt=many,
        deu__txt=["00000000\tnull", *[m[:9] + "x" for m in many[1:400]], *many[400:]],
    )
    found = ParallelCorpus.from_bible(tmp_path, n_pairs=300)
    assert found.pairs["deu_Latn"][:3] == (
        ("verse 0", "null"),
        ("verse 1", "x"),
        ("verse 400",) * 2,
    )
    assert found.n_pairs == 300


# Tables.


def test_tables_with_a_header(tmp_path):
    rows = zipped(ENGLISH, GERMAN, FRENCH)
    (tmp_path / "t.tsv").write_text(
        "id\ten\tGerman\tfra_Latn\n" + "".join("\t".join(("7", *row)) + "\n" for row in rows)
    )
    found = ParallelCorpus.from_tsv(tmp_path / "t.tsv")
    assert found.pairs == PAIRS
    assert found.where("deu_Latn", 0) == "t.tsv:2 (German)"
    quoted = "".join(",".join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    (tmp_path / "t.csv").write_bytes(f"a,b,c\r\n{quoted}".encode())
    columns = {"eng_Latn": "a", "deu_Latn": "b", "fra_Latn": "c"}
    assert ParallelCorpus.from_tsv(tmp_path / "t.csv", columns=columns).pairs == PAIRS


def test_defects_of_tables_are_said_by_line(tmp_path):
    read, path = ParallelCorpus.from_tsv, tmp_path / "t.tsv"
    path.write_text("en\tde\na\tb\nc\n")
    assert refusal(read, path) == (f"every row must have 2 cells like the header, {path}:3 has 1")
    path.write_text('en\tde\na\tb\n"Stop!" he said\tHalt\nx\ty\n')
    assert refusal(read, path) == (
        f"{path}:3 is not a row of cells: '\t' expected after '\"'; if quotation marks are part of"
        " the text, set quoted=False"
    )
    assert read(path, quoted=False).pairs["deu_Latn"][1] == ('"Stop!" he said', "Halt")
    path.write_text("en\ten\na\tb\n")
    assert refusal(read, path) == f"the header of {path} names 'en' twice; rename one"
    path.write_text("en\teng_Latn\na\tb\n")
    assert refusal(read, path) == f"{path} has two columns for eng_Latn: en, eng_Latn"
    path.write_text("")
    assert refusal(read, path) == f"a corpus must have rows, {path} has none"
    path.write_text("text\tid\na\tb\n")
    assert refusal(read, path) == (
        f"{path} must have a column for the pivot and one for another language, it has 'text',"
        " 'id'; name them with columns={'deu_Latn': ...}"
    )
    assert refusal(read, path, columns={"eng_Latn": "text", "deu_Latn": "no"}) == (
        f"{path} has no column 'no' (it has: text, id)"
    )
    assert refusal(read, tmp_path / "no.tsv") == f"there is no file '{tmp_path / 'no.tsv'}'"


def test_json_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [
        {"translation": {"en": a, "de": b, "fr": c}} for a, b, c in zipped(ENGLISH, GERMAN, FRENCH)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = ParallelCorpus.from_jsonl(path)
    assert found.pairs == PAIRS
    assert found.where("deu_Latn", 3) == "t.jsonl:4 (translation.de)"
    flat = [{"en": "a", "de": "b"}, {"en": "c"}, {"en": "d", "de": 3}, {"en": "e", "de": "f"}]
    path.write_text("\n".join(map(json.dumps, flat)))
    found = ParallelCorpus.from_jsonl(path)
    assert found.pairs["deu_Latn"] == (("a", "b"), ("e", "f"))
    assert found.dropped == ("t.jsonl:2 (de) is missing", "t.jsonl:3 (de) is missing")
    path.write_text('{"en": "a", "de": "b"}\n[]\n')
    assert refusal(ParallelCorpus.from_jsonl, path) == (
        f"every line must be a JSON object, {path}:2 is list"
    )
    path.write_text('{"en": "a", "de": "b"}\n{"en"\n')
    assert refusal(ParallelCorpus.from_jsonl, path).startswith(f"{path}:2 is not JSON: ")


def test_data_sets_are_read_no_further_than_needed():
    def endless():
        k = 0
        while True:
            k += 1
            yield {"source": f"line {k}", "target": {"text": f"Zeile {k}"}, "number": k}

    columns = {"en": "source", "de": "target.text"}
    found = ParallelCorpus.from_dataset(endless(), pivot="en", n_pairs=3, columns=columns)
    assert found.pairs == {"de": tuple((f"line {k}", f"Zeile {k}") for k in (1, 2, 3))}
    assert found.where("de", 0) == "dataset row 1 (target.text)"


@pytest.mark.parametrize(
    "first",
    [
        {"source": "line 0", "target": {"text": None}},
        {"source": "line 0", "target": None},
        {"source": None, "target": {"text": "Zeile 0"}},
    ],
)
def test_a_first_row_with_nothing_in_a_column_is_dropped_by_name(first):
    rows = [first, *({"source": f"line {k}", "target": {"text": f"Zeile {k}"}} for k in (1, 2))]
    columns = {"en": "source", "de": "target.text"}
    found = ParallelCorpus.from_dataset(rows, pivot="en", columns=columns)
    assert found.pairs == {"de": (("line 1", "Zeile 1"), ("line 2", "Zeile 2"))}
    column = "source" if first["source"] is None else "target.text"
    assert found.dropped == (f"dataset row 1 ({column}) is missing",)


@pytest.mark.parametrize("column", ["target.txt", "target.text.de", "targets.text", "tongue"])
def test_a_column_that_is_not_there_is_refused(column):
    rows = [{"source": f"line {k}", "target": {"text": f"Zeile {k}"}} for k in range(3)]
    columns = {"en": "source", "de": column}
    assert refusal(ParallelCorpus.from_dataset, rows, pivot="en", columns=columns) == (
        f"dataset has no column {column!r} (it has: source, target)"
    )


def test_data_sets_of_the_library():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"en": ENGLISH, "de": GERMAN, "fr": FRENCH})
    assert ParallelCorpus.from_dataset(table).pairs == PAIRS
    both = datasets.DatasetDict({"dev": table, "test": table})
    assert ParallelCorpus.from_dataset(both, split="test").pairs == PAIRS
    assert refusal(ParallelCorpus.from_dataset, both) == (
        "dataset has several splits, split=None must name one of them (dev, test)"
    )


def test_a_data_set_that_does_not_load_is_refused_in_a_sentence(tmp_path):
    pytest.importorskip("datasets")
    message = refusal(ParallelCorpus.from_dataset, str(tmp_path / "nothing"))
    assert message.startswith(f"data set '{tmp_path / 'nothing'}' cannot be loaded: ")
    assert "\n" not in message


def test_unknown_readers_are_refused(tmp_path):
    assert refusal(detect.read, tmp_path, "tatoba") == (
        "unknown reader: 'tatoba'; did you mean 'tatoeba'? (known: folder, tatoeba, bible, tsv,"
        " jsonl)"
    )
