import pytest

from neuronxa_callback import ParallelCorpus
from tests.helpers.corpus_files import ENGLISH, FRENCH, GERMAN, PAIRS, refusal


def test_data_sets_are_read_no_further_than_needed():
    def endless():
        k = 0
        while True:
            k += 1
            yield {"source": f"line {k}", "target": {"text": f"Zeile {k}"}, "number": k}

    columns = {"en": "source", "de": "target.text"}
    found = ParallelCorpus.from_dataset(endless(), pivot="en", n_pairs=3, columns=columns)
    assert found.pairs == {"deu_Latn": tuple((f"line {k}", f"Zeile {k}") for k in (1, 2, 3))}
    assert found.where("deu_Latn", 0) == "dataset row 1 (target.text)"


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
    found = ParallelCorpus.from_dataset(rows, pivot="en", columns=columns).in_file_order()
    assert found.pairs == {"deu_Latn": (("line 1", "Zeile 1"), ("line 2", "Zeile 2"))}
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
        "dataset has several splits (dev, test); choose one with split=, got None"
    )


def test_a_data_set_that_does_not_load_is_refused_in_a_sentence(tmp_path):
    pytest.importorskip("datasets")
    message = refusal(ParallelCorpus.from_dataset, str(tmp_path / "nothing"))
    assert message.startswith(f"cannot load the data set '{tmp_path / 'nothing'}': ")
    assert "\n" not in message
