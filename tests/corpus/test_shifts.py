"""Shifted lines: refused where blank lines show them, and found by lengths, numbers and names."""

import csv
import json
import random

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus import check as checks
from neuronxa_callback.corpus import profiles
from neuronxa_callback.corpus.check import ERROR, check_path
from tests.helpers.corpus_files import refusal, write_files


def translated(n, seed=0, noise=0.1, numbers=0.0, names=0.0):
    """Sentences of random words and their translations, of about the same length."""
    draw = random.Random(seed)

    def word():
        return "".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9)))

    sides = [], []
    for _ in range(n):
        size = draw.randint(5, 30)
        extra = [str(draw.randint(10, 9999))] * (draw.random() < numbers)
        extra += [word().title()] * (draw.random() < names)
        for side in sides:
            count = max(2, round(size * draw.gauss(1, noise)))
            side.append(" ".join(["So", *(word() for _ in range(count)), *extra, "so."]))
    return sides


def write_pair(folder, first, second):
    return write_files(folder, eng__txt=first, deu__txt=second)


def test_a_blank_line_inside_while_the_pivot_ends_in_one_is_refused(tmp_path):
    first, second = translated(99)
    write_pair(tmp_path, [*first, ""], [*second[:4], "", *second[4:]])
    assert refusal(ParallelCorpus.from_folder, tmp_path) == (
        f"lines of one corpus must be parallel, but {tmp_path / 'deu.txt'}:5 is blank and"
        " eng.txt:5 is not, though both have 99 sentences: lines are shifted from there on; remove"
        " the blank line, or put the same blank lines into both"
    )
    assert "deu.txt:5 is blank" in refusal(ParallelCorpus.from_folder, tmp_path, n_pairs=3)


@pytest.mark.parametrize(
    ("first_at", "second_at"), [(99, 0), (0, 99), (99, 98), (10, 11), (50, 20)]
)
@pytest.mark.parametrize("prefix", [False, True])
def test_blank_lines_at_different_places_are_refused(tmp_path, first_at, second_at, prefix):
    first, second = translated(99)
    first.insert(first_at, "")
    second.insert(second_at, " ")
    if prefix:
        write_files(tmp_path, t__eng=first, t__deu=second)
        assert "is blank" in refusal(ParallelCorpus.from_tatoeba, tmp_path / "t")
    else:
        write_pair(tmp_path, first, second)
        assert "is blank" in refusal(ParallelCorpus.from_folder, tmp_path)


def test_blank_lines_that_hold_the_place_of_a_sentence_are_dropped(tmp_path):
    first, second = translated(99)
    write_pair(tmp_path, first, [*second[:4], "", *second[5:]])
    assert ParallelCorpus.from_folder(tmp_path).dropped == ("deu.txt:5 is blank",)
    write_pair(tmp_path, [*first[:4], "", *first[4:]], [*second[:4], "", *second[4:], ""])
    assert ParallelCorpus.from_folder(tmp_path).n_pairs == 99


def shifted(lines, start, offset):
    """Lines in which those from ``start`` on come ``offset`` lines later, and as many."""
    n = len(lines)
    if offset > 0:
        extra = translated(offset, seed=9)[0]
        return [*lines[:start], *extra, *lines[start:]][:n]
    return [*lines[:start], *lines[start - offset :], *translated(-offset, seed=9)[0]]


def findings(folder):
    return [found for found in check_path(folder) if "shifted" in found.message]


@pytest.mark.parametrize("offset", [1, -1, 2, -3, 4, -5, 5])
@pytest.mark.parametrize("start", [0, 40, 120])
def test_a_shift_is_found_with_the_line_where_it_begins(tmp_path, offset, start):
    first, second = translated(200)
    write_pair(tmp_path, first, shifted(second, start, offset))
    (found,) = findings(tmp_path)
    assert (found.level, found.language) == (ERROR, "deu_Latn")
    assert abs(int(found.where.removeprefix("deu.txt:")) - start) <= 8
    side = "later" if offset > 0 else "earlier"
    assert f"the translation is {abs(offset)} lines {side}" in found.message


def test_a_shift_that_ends_is_found_with_both_lines(tmp_path):
    first, second = translated(400)
    middle = shifted(second[:250], 100, 1)
    write_pair(tmp_path, first, [*middle, *second[250:]])
    (found,) = findings(tmp_path)
    assert "from here on to deu.txt:2" in found.message


@pytest.mark.parametrize("marks", [{"numbers": 0.5}, {"names": 0.5}])
def test_numbers_and_names_show_a_shift_where_lengths_do_not(tmp_path, marks):
    first, second = translated(200, noise=0.6, **marks)
    write_pair(tmp_path, first, shifted(second, 60, 1))
    (found,) = findings(tmp_path)
    assert abs(int(found.where.removeprefix("deu.txt:")) - 60) <= 10


@pytest.mark.parametrize("n", [20, 60, 99, 400])
@pytest.mark.parametrize("noise", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lines_in_place_are_not_called_shifted(tmp_path, n, noise, seed):
    write_pair(tmp_path, *translated(n, seed, noise, numbers=0.2, names=0.2))
    assert findings(tmp_path) == []


def test_unrelated_lines_and_lines_of_one_length_are_not_called_shifted(tmp_path):
    write_pair(tmp_path, translated(300, 1)[0], translated(300, 2)[1])
    assert findings(tmp_path) == []
    write_pair(
        tmp_path, [f"line {k:05d}" for k in range(300)], [f"Wort {k:05d}" for k in range(300)]
    )
    assert findings(tmp_path) == []


def test_the_built_in_sentences_are_not_shifted():
    for split in ("dev", "test"):
        corpus = ParallelCorpus.builtin(split)
        assert [found for found in checks.check(corpus) if "shifted" in found.message] == []


def test_sentences_are_counted_once_and_compared_only_where_alike(tmp_path, monkeypatch):
    counted, compared = [], []
    profile, grams = checks.Profile, profiles.grams
    monkeypatch.setattr(checks, "Profile", lambda texts: counted.extend(texts) or profile(texts))
    monkeypatch.setattr(profiles, "grams", lambda text: compared.append(text) or grams(text))
    sides = [translated(200, seed)[0] for seed in range(6)]
    files = dict(zip(("eng", "deu", "fra", "spa", "ita", "nld"), sides, strict=True))
    write_files(tmp_path, **{f"{code}__txt": lines for code, lines in files.items()})
    check_path(tmp_path)
    assert len(counted) == 6 * 200
    assert compared == []
    write_files(tmp_path, deu__txt=[sides[0][0], *sides[1][1:199], f"{sides[1][7]} so."])
    check_path(tmp_path)
    assert 4 <= len(compared) <= 12


COLUMNS = [
    ("English (UK)", "German (Germany)"),
    ("en", "German (Germany)"),
    ("English (UK)", "de"),
    ("English (take 3)", "German"),
    ("English ((a) b) c (d)", "German"),
    ("English row 3 (new)", "German"),
    ("English\n(UK)", "German"),
    ("English :7 (UK)", "German (:8)"),
    ("English )", "German ("),
]


def write_table(path, columns, rows):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    else:
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(records))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize(
    "file",
    ["t.csv", "t.jsonl", "t.json", "draft 2 (final).csv", "new row 3 (b).csv", "a:7 (c).json"],
)
def test_a_shift_is_found_whatever_the_columns_and_the_file_are_called(tmp_path, columns, file):
    first, second = translated(200, noise=0.05)
    rows = list(zip(first, shifted(second, 60, -1), strict=True))
    write_table(tmp_path / file, columns, rows)
    named = {"eng_Latn": columns[0], "deu_Latn": columns[1]}
    corpus = ParallelCorpus.read(tmp_path / file, columns=named)
    header = {".csv": 1 + columns[0].count("\n")}.get((tmp_path / file).suffix, 0)
    assert sorted(corpus.lines("deu_Latn")) == list(range(1 + header, 201 + header))
    assert corpus.in_file_order().pairs["deu_Latn"] == tuple(rows)
    (finding,) = findings_of_shifts(tmp_path / file, columns=named)
    place = "record " if file.endswith(".json") else ":"
    assert f"{file.removesuffix('.json')}" in finding
    assert f"{place}{61 + header} ({columns[1]})" in finding


def findings_of_shifts(path, **options):
    return [str(one) for one in check_path(path, **options) if "look shifted" in one.message]


def test_a_shift_is_found_in_the_rows_of_a_data_set_with_odd_columns():
    first, second = translated(200, noise=0.05)
    sides = zip(first, shifted(second, 60, -1), strict=True)
    rows = [{"English (UK)": a, "German (Germany)": b} for a, b in sides]
    corpus = ParallelCorpus.from_dataset(rows)
    assert sorted(corpus.lines("deu_Latn")) == list(range(1, 201))
    assert [one.where for one in checks.check(corpus) if "look shifted" in one.message] == [
        "dataset row 61 (German (Germany))"
    ]


@pytest.mark.parametrize("column", ["de", *sorted({two[0] for two in COLUMNS} - {"en"})])
def test_a_dropped_row_is_named_with_its_whole_column(tmp_path, column):
    first, second = translated(100)
    second[4], second[9] = " ", second[8]
    write_table(tmp_path / "t.json", ("en", column), zip(first, second, strict=True))
    named = {"eng_Latn": "en", "deu_Latn": column}
    found = {one.where: one.message for one in check_path(tmp_path / "t.json", columns=named)}
    assert found[f"t.json record 5 ({column})"] == "is blank"
    places = {f"t.json record {k} ({column})" for k in (9, 10)}
    assert any(found.get(place, "").startswith("repeats t.json record") for place in places)
