"""Sentences of several languages with ids, joined by the id: FLORES+, tables in the long form."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neuronxa_callback.corpus.readers.documents import documents_of
from neuronxa_callback.corpus.readers.order import FILE, Candidates, filter_candidates
from neuronxa_callback.corpus.rows import FilteredRows, Row


class Cell(NamedTuple):
    """A sentence of one language."""

    text: str | None
    place: str
    document: str | None = None


Column = Mapping[Any, Cell]
"""Id -> the sentence of one language."""


def filter_joined(columns: Mapping[str, Column], n_pairs: int | None, order: str) -> FilteredRows:
    """Filtered rows, one per id of the first language; a missing sentence is None."""
    pivot = next(iter(columns.values()))
    keys = list(pivot)
    ids = [cell.document for cell in pivot.values()]
    documents = None if order == FILE else documents_of(ids, "by their rows")
    candidates = Candidates(len(keys), order, documents, "sentence")

    def pick(wanted: Sequence[int]) -> dict[int, Row]:
        return {i: _joined_row(keys[i], columns) for i in wanted}

    return filter_candidates(list(columns), candidates, pick, n_pairs)


def _joined_row(key: Any, columns: Mapping[str, Column]) -> Row:
    cells = [column.get(key) or Cell(None, f"{code} id {key}") for code, column in columns.items()]
    return Row([cell.text for cell in cells], [cell.place for cell in cells])
