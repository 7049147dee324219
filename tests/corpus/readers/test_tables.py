import json

import pytest

from neuronxa_callback import ParallelCorpus
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal, zipped


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


def test_defects_of_tables_are_refused_by_line(tmp_path):
    read, path = ParallelCorpus.from_tsv, tmp_path / "t.tsv"
    path.write_text("en\tde\na\tb\nc\n")
    assert refusal(read, path) == (
        f"every row must have 2 cells like the header, but {path}:3 has 1"
    )
    path.write_text('en\tde\na\tb\n"Stop!" he said\tHalt\nx\ty\n')
    assert refusal(read, path) == (
        f"cannot split {path}:3 into cells: '\t' expected after '\"'; if quotation marks are part"
        " of the text, set quoted=False"
    )
    assert ('"Stop!" he said', "Halt") in read(path, quoted=False).pairs["deu_Latn"]
    path.write_text("en\ten\na\tb\n")
    assert refusal(read, path) == f"the header of {path} has 'en' twice; rename one"
    path.write_text("en\teng_Latn\na\tb\n")
    assert refusal(read, path) == (
        f"{path} has several columns for eng_Latn: en, eng_Latn; choose one with columns=, or leave"
        " the language out"
    )
    path.write_text("")
    assert refusal(read, path) == f"a corpus must have rows, but {path} has none"
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
    assert found.where("deu_Latn", 1) == "t.jsonl:4 (translation.de)"
    flat = [{"en": "a", "de": "b"}, {"en": "c"}, {"en": "d", "de": 3}, {"en": "e", "de": "f"}]
    path.write_text("\n".join(map(json.dumps, flat)))
    found = ParallelCorpus.from_jsonl(path)
    assert found.pairs["deu_Latn"] == (("a", "b"), ("e", "f"))
    assert sorted(found.dropped) == ["t.jsonl:2 (de) is missing", "t.jsonl:3 (de) is missing"]
    path.write_text('{"en": "a", "de": "b"}\n[]\n')
    assert refusal(ParallelCorpus.from_jsonl, path) == (
        f"every line must be a JSON object, but {path}:2 is a list"
    )
    path.write_text('{"en": "a", "de": "b"}\n{"en"\n')
    assert refusal(ParallelCorpus.from_jsonl, path).startswith(f"{path}:2 is not JSON: ")


@pytest.mark.parametrize("side", ["en", "de"])
@pytest.mark.parametrize("blank", ["", " ", "\u200b", None])
def test_columns_that_are_shifted_by_a_blank_cell_are_refused(tmp_path, side, blank):
    texts = {"en": [f"Line {k}." for k in range(20)], "de": [f"Zeile {k}." for k in range(20)]}
    for key, cells in texts.items():
        cells.insert(10 if key == side else 20, blank)
    rows = [{"en": a, "de": b} for a, b in zipped(texts["en"], texts["de"])]
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    message = refusal(ParallelCorpus.from_jsonl, tmp_path / "t.jsonl")
    assert f"column {side!r} is blank at t.jsonl:11" in message
    assert "cells are shifted" in refusal(ParallelCorpus.from_dataset, texts)
    rows[20]["en"], rows[20]["de"] = blank, blank
    assert ParallelCorpus.from_dataset(rows).n_pairs == 19


def test_a_csv_file_may_have_semicolons_or_tabs(tmp_path):
    for delimiter in ";\t,":
        path = tmp_path / "t.csv"
        path.write_text("".join(f"{a}{delimiter}{b}\n" for a, b in [("en", "de"), "ab", "cd"]))
        assert ParallelCorpus.from_tsv(path).pairs["deu_Latn"] == (("a", "b"), ("c", "d"))


@pytest.mark.parametrize("value", ["123", "null", "true", "[null]", "[[]]", '"x"', "[1]"])
def test_json_without_objects_is_refused(tmp_path, value):
    (tmp_path / "t.json").write_text(value)
    message = refusal(ParallelCorpus.from_jsonl, tmp_path / "t.json")
    assert message.startswith("a row must be an object with a key per language, but ")


LINES = [(f"Line {k}.", f"Zeile {k}.", f"Ligne {k}.") for k in range(40)]


def write_rows(path, delimiter, first, second, column):
    """Rows of which two have one quotation mark each, at the begin and the end of a cell."""
    rows = [list(row) for row in LINES]
    rows[first][column] = f'"{rows[first][column]}'
    rows[second][column] = f'{rows[second][column]}"'
    table = [["en", "de", "fr"], *rows]
    path.write_text("".join(f"{delimiter.join(row)}\n" for row in table))


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize(("first", "second"), [(0, 39), (10, 20), (38, 39), (5, 6)])
def test_rows_between_two_far_quotation_marks_are_not_swallowed(tmp_path, first, second, column):
    path = tmp_path / "t.tsv"
    write_rows(path, "\t", first, second, column)
    assert refusal(ParallelCorpus.read, path) == (
        f"a cell must hold one sentence, but a cell of {path}:{first + 2} has {second - first + 1}"
        " lines with the separator '\\t' between two quotation marks; if these are part of the"
        " text, set quoted=False"
    )
    assert ParallelCorpus.read(path, quoted=False).n_pairs == 40


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_rows_with_another_separator_are_not_swallowed(tmp_path, delimiter, column):
    path = tmp_path / "t.csv"
    write_rows(path, delimiter, 10, 20, column)
    message = refusal(ParallelCorpus.read, path, delimiter=delimiter)
    assert f"{path}:12 has 11 lines with the separator {delimiter!r}" in message
    assert ParallelCorpus.read(path, delimiter=delimiter, quoted=False).n_pairs == 40


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
@pytest.mark.parametrize(
    "text",
    [
        "Ja, und\nnein.",
        "Eins,\nzwei,\ndrei,\nvier.",
        "a\n\nb",
        "\nJa.",
        "Ja; so\nist es; gut.",
        "a,b",
    ],
)
def test_a_text_of_several_lines_is_still_one_cell(tmp_path, delimiter, text):
    path = tmp_path / "t.csv"
    rows = [["en", "de", "fr"], *(list(row) for row in LINES)]
    rows[7][1] = f'"{text}"'
    path.write_text("".join(f"{delimiter.join(row)}\n" for row in rows))
    corpus = ParallelCorpus.read(path, delimiter=delimiter)
    assert corpus.n_pairs == 40
    assert text.strip() in [sentence for _, sentence in corpus.pairs["deu_Latn"]]
