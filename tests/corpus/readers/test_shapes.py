"""Corpora in the shapes in which they are shipped, and data sets in the shapes that users have."""

import builtins
import json

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal, write_files, zipped

pyarrow = pytest.importorskip("pyarrow")
TEXTS = {"eng_Latn": ENGLISH, "deu_Latn": GERMAN, "fra_Latn": FRENCH}


def flores_rows(code, texts):
    """Rows of FLORES+ with more columns than the sentences."""
    language, script = code.split("_")
    return [
        {"id": 7 + k, "iso_639_3": language, "iso_15924": script, "text": text, "url": "http://x.y",
         "domain": "news", "has_image": "no"}
        for k, text in enumerate(texts)
    ]  # fmt: skip


def write_parquet(path, rows):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


WRITERS = {"parquet": write_parquet, "jsonl": write_jsonl}


@pytest.mark.parametrize("ending", WRITERS)
def test_flores_plus_in_one_file_per_language(tmp_path, ending):
    for code, texts in TEXTS.items():
        WRITERS[ending](tmp_path / f"{code}.{ending}", flores_rows(code, texts)[::-1])
    (tmp_path / "README.md").write_text("about")
    corpus = ParallelCorpus.read(tmp_path)
    backwards = corpus.in_file_order().pairs["deu_Latn"]
    assert backwards == zipped(ENGLISH[::-1], GERMAN[::-1])
    assert corpus.shared_pivot
    assert corpus.notes[0].startswith(f"took the files eng_Latn.{ending} as eng_Latn, deu_Latn")
    assert corpus.notes[1] == "left out README.md"
    WRITERS[ending](tmp_path / f"deu_Latn.{ending}", flores_rows("deu_Latn", GERMAN)[1:])
    corpus = ParallelCorpus.from_folder(tmp_path, languages=["de"], n_pairs=3)
    assert corpus.in_file_order().pairs["deu_Latn"] == backwards[:3]


@pytest.mark.parametrize("ending", WRITERS)
def test_flores_plus_as_one_long_table(tmp_path, ending):
    path = tmp_path / f"dev.{ending}"
    rows = [row for code, texts in TEXTS.items() for row in flores_rows(code, texts)]
    WRITERS[ending](path, rows)
    corpus = ParallelCorpus.read(path)
    assert corpus.pairs == PAIRS
    assert corpus.notes == (
        "took the column 'text' by 'iso_639_3', joined by 'id': eng_Latn, deu_Latn, fra_Latn",
    )
    assert ParallelCorpus.from_dataset(rows, languages=["fr"], n_pairs=2).n_pairs == 2
    WRITERS[ending](path, [*rows, rows[0]])
    assert "eng_Latn id 7 twice" in refusal(ParallelCorpus.read, path)


VARIETIES = {
    "eng_Latn": ("stan1293", "", ENGLISH),
    "deu_Latn": ("stan1295", None, GERMAN),
    "apc_Arab_nort3139": ("nort3139", "", FRENCH),
    "apc_Arab_sout3123": ("sout3123", "", GERMAN),
    "nob_Latn": ("norw1259", "", GERMAN),
    "nob_Latn_radical": ("norw1259", "radical", FRENCH),
    "oci_Latn": ("", "", GERMAN),
    "oci_Latn_aran1260": ("aran1260", "", FRENCH),
    "lld_Latn_vald1239_val_badia": ("vald1239", "val-badia", FRENCH),
    "lld_Latn_ghar1239": ("ghar1239", "", GERMAN),
}


def varied_rows(code):
    glottocode, variant, texts = VARIETIES[code]
    rows = flores_rows("_".join(code.split("_")[:2]), texts)
    return [row | {"glottocode": glottocode, "variant": variant} for row in rows]


@pytest.mark.parametrize("shape", ["jsonl", "parquet", "rows"])
def test_the_varieties_of_flores_plus_as_one_long_table(tmp_path, shape):
    rows = [row for code in VARIETIES for row in varied_rows(code)]

    def read(**options):
        if shape == "rows":
            return ParallelCorpus.from_dataset(rows, **options)
        return ParallelCorpus.read(tmp_path / f"dev.{shape}", **options)

    if shape != "rows":
        WRITERS[shape](tmp_path / f"dev.{shape}", rows)
    corpus = read()
    assert set(corpus.languages) == {*VARIETIES} - {"eng_Latn"}
    for code, pairs in corpus.in_file_order().pairs.items():
        assert pairs == zipped(ENGLISH, VARIETIES[code][2])
    folder = tmp_path / "files"
    folder.mkdir()
    for code in VARIETIES:
        write_jsonl(folder / f"{code}.jsonl", varied_rows(code))
    assert ParallelCorpus.read(folder).digest == corpus.digest
    for asked, code in (("de", "deu_Latn"), ("no", "nob_Latn"), ("oci", "oci_Latn")):
        assert read(languages=[asked]).languages == (code,)
    assert read(languages=["nob_Latn_radical", "nob"]).languages == ("nob_Latn_radical", "nob_Latn")
    assert "use one of apc_Arab_nort3139, apc_Arab_sout3123" in refusal(read, languages=["apc"])


def test_a_repeated_id_costs_its_own_language_only():
    rows = [row for code in ("eng_Latn", "deu_Latn", "nob_Latn") for row in varied_rows(code)]
    rows.append(varied_rows("nob_Latn")[1])
    read = ParallelCorpus.from_dataset
    assert read(rows, languages=["de"]).pairs == {"deu_Latn": PAIRS["deu_Latn"]}
    for languages in (None, ["no"]):
        assert refusal(read, rows, languages=languages) == (
            "an id must be unique per language, but dataset has nob_Latn id 8 twice: dataset row"
            " 10, dataset row 13; remove one of them, or leave the language out"
        )


def test_another_long_table_with_locales():
    rows = [
        {"id": str(k), "locale": locale, "utt": text, "intent": "greet"}
        for locale, texts in (("en-US", ENGLISH), ("de-DE", GERMAN), ("??", FRENCH))
        for k, text in enumerate(texts)
    ]
    corpus = ParallelCorpus.from_dataset(rows)
    assert corpus.pairs == {"deu_Latn": PAIRS["deu_Latn"]}
    assert corpus.notes[1] == "left out '??' (no language)"


def test_ebible_as_shipped(tmp_path):
    write_files(tmp_path, eng__dash__engBBE__txt=[*ENGLISH, "<range>"])
    write_files(tmp_path, deu__dash__deu1912__txt=[*GERMAN, "<range>"])
    corpus = ParallelCorpus.read(tmp_path)
    assert corpus.in_file_order().pairs == {"deu_Latn": zipped(ENGLISH, GERMAN)}
    assert len(corpus.dropped) == 1


WHOLE = {
    "array": lambda rows: rows,
    "one key": lambda rows: {"data": rows},
    "columns": lambda rows: {key: [row[key] for row in rows] for key in rows[0]},
}


@pytest.mark.parametrize("shape", WHOLE)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_one_json_value_is_read(tmp_path, shape, indent, ending):
    rows = [{"en": a, "de": b, "fr": c} for a, b, c in zipped(ENGLISH, GERMAN, FRENCH)]
    path = tmp_path / f"t.{ending}"
    path.write_text(json.dumps(WHOLE[shape](rows), indent=indent))
    assert ParallelCorpus.read(path).pairs == PAIRS


def test_json_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('["a", "b"]')
    assert refusal(ParallelCorpus.read, path) == (
        f"a row must be an object with a key per language, but {path} has a text"
    )
    path.write_text('{"en": ["a", "b"], "de": ["c"]}')
    assert refusal(ParallelCorpus.read, path) == (
        f"columns must have the same length, but {path} has en 2, de 1"
    )
    path.write_text("[1, 2")
    assert refusal(ParallelCorpus.read, path).startswith(f"{path} is not JSON: ")


def test_parquet_with_a_column_per_language(tmp_path):
    path = tmp_path / "t.parquet"
    rows = [{"nr": k, "en": a, "de": b, "fr": c}
            for k, (a, b, c) in enumerate(zipped(ENGLISH, GERMAN, FRENCH))]  # fmt: skip
    write_parquet(path, rows)
    corpus = ParallelCorpus.from_parquet(path)
    assert (corpus.pairs, detect.guess(path)) == (PAIRS, "parquet")
    assert corpus.where("deu_Latn", 1) == "t.parquet row 4 (de)"
    assert corpus.notes[1] == "left out 'nr' (its cells are numbers)"
    nowhere = tmp_path / "no.parquet"
    assert refusal(ParallelCorpus.read, nowhere, "parquet") == f"there is no file {str(nowhere)!r}"
    path.write_bytes(b"PAR1 and no more")
    assert refusal(ParallelCorpus.read, path).startswith(f"cannot read {path}: ")


def test_parquet_without_pyarrow_is_refused_in_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    write_parquet(path, [{"en": "a", "de": "b"}])
    real = builtins.__import__

    def without(name, *args, **options):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refusal(ParallelCorpus.read, path) == (
        f"reading {path} needs pyarrow; pip install pyarrow"
    )


ROWS = [{"en": a, "de": b, "fr": c} for a, b, c in zipped(ENGLISH, GERMAN, FRENCH)]
COLUMNS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH}


def formatted(name):
    return lambda: pytest.importorskip("datasets").Dataset.from_list(ROWS).with_format(name)


class Sequence:
    """A data set of torch: only ``__len__`` and ``__getitem__``."""

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, k):
        return ROWS[k]


SHAPES = {
    "pandas": lambda: pytest.importorskip("pandas").DataFrame(COLUMNS),
    "pyarrow": lambda: pyarrow.table(COLUMNS),
    "dict of lists": lambda: COLUMNS,
    "dict of arrays": lambda: {key: pytest.importorskip("numpy").array(texts)
                               for key, texts in COLUMNS.items()},
    "dict of series": lambda: dict(pytest.importorskip("pandas").DataFrame(COLUMNS)),
    "arrow format": formatted("arrow"),
    "pandas format": formatted("pandas"),
    "numpy format": formatted("numpy"),
    "streamed": lambda: formatted(None)().to_iterable_dataset(),
    "streamed arrow": lambda: formatted(None)().to_iterable_dataset().with_format("arrow"),
    "torch": Sequence,
    "generator": lambda: (row for row in ROWS),
    "translation": lambda: [{"id": "1", "translation": row} for row in ROWS],
    "translation with varying languages": lambda: [
        {"translation": {"language": list(row), "translation": list(row.values())}} for row in ROWS
    ],
    "list of translations": lambda: {"translation": ROWS},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_data_set_in_any_usual_shape_is_read(shape):
    corpus = ParallelCorpus.from_dataset(SHAPES[shape]())
    if shape in ("streamed", "streamed arrow", "generator"):
        assert corpus.pairs["fra_Latn"] == zipped(ENGLISH, FRENCH)
        assert corpus.order == "file order, as a stream of unknown length cannot be spread"
    else:
        assert corpus.order == "spread over 4 rows, row 1 + 3 k modulo 4"
        assert corpus.pairs == PAIRS
    assert corpus.in_file_order().pairs["deu_Latn"] == zipped(ENGLISH, GERMAN)


REFUSED = {
    "pairs": (lambda: zipped(ENGLISH, GERMAN),
              "a row must be a dictionary with a key per language, but dataset row 1 is a tuple;"
              " for pairs use ParallelCorpus(pivot, {'deu_Latn': pairs})"),
    "texts": (lambda: ENGLISH,
              "a row must be a dictionary with a key per language, but dataset row 1 is a str"),
    "row": (lambda: ROWS[0],
            "dataset must have rows: dictionaries with a key per language, or a list per language,"
            " got one row"),
    "number": (lambda: 3, "a data set must be a name on the hub or iterable, got a int"),
    "columns of unequal length": (lambda: {"en": ENGLISH, "de": GERMAN[:2]},
                                  "columns must have the same length, but dataset has en 4, de 2"),
    "series": (lambda: pytest.importorskip("pandas").Series(ENGLISH),
               "a row must be a dictionary with a key per language, but dataset row 1 is a str"),
}  # fmt: skip


@pytest.mark.parametrize("shape", REFUSED)
def test_another_shape_is_refused_in_one_sentence(shape):
    make, message = REFUSED[shape]
    assert refusal(ParallelCorpus.from_dataset, make()) == message
