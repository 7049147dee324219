"""Sentences of several languages with ids, joined by the id: FLORES+, tables in the long form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neuronxa_callback.corpus.languages import code_of_name
from neuronxa_callback.corpus.readers.documents import documents_of
from neuronxa_callback.corpus.readers.order import FILE, Candidates, filter_candidates
from neuronxa_callback.corpus.readers.records import Record
from neuronxa_callback.corpus.rows import FilteredRows, Row


class Cell(NamedTuple):
    """A sentence of one language."""

    text: str | None
    place: str
    document: str | None = None


class Variety(NamedTuple):
    """What tells the languages of a table with one row per sentence and language apart."""

    code: str
    glottocode: str = ""
    variant: str = ""


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


def variety_of_record(record: Record, key: str) -> Variety | None:
    """The language of a row, with its script and variety where FLORES+ has them.

    >>> variety_of_record({"lang": "German"}, "lang")
    Variety(code='deu_Latn', glottocode='', variant='')
    >>> row = {"iso_639_3": "nob", "iso_15924": "Latn", "variant": "radical"}
    >>> variety_of_record(row, "iso_639_3")
    Variety(code='nob_Latn', glottocode='', variant='radical')
    """
    value, script = record.get(key), record.get("iso_15924")
    if not isinstance(value, str):
        return None
    if not isinstance(script, str) or not script:
        code = code_of_name(value)
        return None if code is None else Variety(code)
    place, form = (record.get(column) for column in ("glottocode", "variant"))
    return Variety(f"{value}_{script}", *(str(each or "") for each in (place, form)))


def names_of_varieties(varieties: Sequence[Variety]) -> dict[str, Variety]:
    """Name -> variety, as FLORES+ names its files: ``apc_Arab_nort3139``, ``nob_Latn_radical``.

    The glottocode is in the name only where a language has several.

    >>> [*names_of_varieties([Variety("deu_Latn", "stan1295"), Variety("nob_Latn", "", "radical")])]
    ['deu_Latn', 'nob_Latn_radical']
    >>> [*names_of_varieties([Variety("apc_Arab", "nort3139"), Variety("apc_Arab", "sout3123")])]
    ['apc_Arab_nort3139', 'apc_Arab_sout3123']
    """
    named = {}
    for variety in varieties:
        several = {each.glottocode for each in varieties if each.code == variety.code}
        parts = (variety.glottocode if len(several) > 1 else "", variety.variant)
        ending = [re.sub(r"\W+", "_", part) for part in parts if part]
        named["_".join((variety.code, *ending))] = variety
    return named
