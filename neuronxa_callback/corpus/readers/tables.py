"""Parallel text in tables with one column per language: tsv, csv, jsonl, Hugging Face data sets.

Rows are read one by one. To spread them over the table, it is read twice: to count its rows, and
for those that are wanted. In file order only as many are read as ``n_pairs`` usable pairs need.
``SAMPLE`` rows are looked at to see which columns have sentences. A table with one row per sentence
and language is read whole and joined by its id.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.readers.columns import (
    ColumnChoice,
    by_language,
    find_columns,
    require_two,
)
from neuronxa_callback.corpus.readers.dataset_shapes import dataset_table, peek
from neuronxa_callback.corpus.readers.documents import (
    document_column,
    document_of,
    documents_of,
)
from neuronxa_callback.corpus.readers.files import choose_languages, require_one_each
from neuronxa_callback.corpus.readers.formats import refuse_headless
from neuronxa_callback.corpus.readers.joined import (
    Cell,
    Column,
    Variety,
    filter_joined,
    names_of_varieties,
    variety_of_record,
)
from neuronxa_callback.corpus.readers.order import (
    FILE,
    IN_FILE,
    SPREAD,
    STREAM,
    Candidates,
    filter_candidates,
    require_order,
)
from neuronxa_callback.corpus.readers.records import (
    IDS,
    TEXTS,
    Record,
    Records,
    Table,
    csv_delimiter,
    has_column,
    json_records,
    parquet_records,
    refuse_shifted_cells,
    table_records,
    text_at,
)
from neuronxa_callback.corpus.rows import (
    PIVOT,
    ParallelRows,
    Row,
    filter_rows,
    log_notes,
    merge_rows,
)
from neuronxa_callback.errors import CorpusError
from neuronxa_callback.option_checks import check_reader_options

HINT = "choose one with columns=, or leave the language out"
SAMPLE = 50
"""Rows in which the cells of a column are looked at."""
MAX_DOCUMENT_ROWS = 1_000_000
"""With more rows their documents are not kept in memory."""
CODES = ("iso_639_3", "language", "lang", "language_code", "lang_code", "locale")
"""The column of the language in a table with one row per sentence and language."""


@check_reader_options
def read_tsv(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    quoted: bool = True,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_tsv``."""
    path = Path(path)
    if delimiter is None:
        delimiter = csv_delimiter(path) if ".csv" in path.suffixes else "\t"
    read = partial(table_records, path, delimiter, quoted)
    table = Table(read, refuse=partial(refuse_headless, path))
    return _read_table(table, str(path), path.name, pivot, languages, n_pairs, columns, order)


@check_reader_options
def read_jsonl(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_jsonl``."""
    path = Path(path)
    table = Table(partial(json_records, path))
    return _read_table(table, str(path), path.name, pivot, languages, n_pairs, columns, order)


@check_reader_options
def read_parquet(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_parquet``."""
    path = Path(path)
    table = Table(partial(parquet_records, path))
    return _read_table(table, str(path), path.name, pivot, languages, n_pairs, columns, order)


@check_reader_options
def read_dataset(
    dataset: Any,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    config: str | None = None,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_dataset``."""
    name, table = dataset_table(dataset, config, split)
    return _read_table(table, name, name, pivot, languages, n_pairs, columns, order)


def _read_table(
    table: Table,
    source: str,
    name: str,
    pivot: str,
    languages: Iterable[str] | None,
    n_pairs: int | None,
    columns: Mapping[str, str] | None,
    order: str,
) -> ParallelRows:
    require_order(order)
    first, records = peek(table.read(), SAMPLE)
    if not first:
        raise CorpusError(f"a corpus must have rows, but {source} has none")
    sample = [record for _, record in first]
    if columns is not None:
        choice = _given_columns(sample, columns, source)
    else:
        choice = find_columns(sample)
        parts = _long_columns(sample)
        if len(choice.by_code) < 2 and parts:
            return _read_long(records, parts, source, name, pivot, languages, n_pairs, order)
        if len(choice.by_code) == 1:
            require_one_each(choice.by_code, choice.by_code, f"{source} has", "columns", HINT)
        if not choice.by_code and table.refuse is not None:
            table.refuse(list(sample[0]))
        require_two(choice, list(sample[0]), source)
    try:
        pivot, names = choose_languages(pivot, languages, list(choice.by_code), source)
    except CorpusError as cause:
        raise CorpusError(f"{cause}{choice.hint()}") from None
    codes = [pivot, *names]
    require_one_each(choice.by_code, codes, f"{source} has", "columns", HINT)
    paths = [choice.by_code[code][0] for code in codes]
    if table.is_stream or order == FILE:
        rows = (_record_row(place, record, paths) for place, record in records)
        part = replace(
            filter_rows(codes, rows, n_pairs), order=IN_FILE if order == FILE else STREAM
        )
    else:

        def pick(wanted: Sequence[int]) -> dict[int, Row]:
            picked = table.pick(wanted)
            return {i: _record_row(place, record, paths) for i, place, record in picked}

        candidates = _candidates(table, sample)
        refuse_shifted_cells(table, candidates.count, paths, source)
        part = filter_candidates(codes, candidates, pick, n_pairs)
    found = merge_rows([part], pivot, name, n_pairs)
    level = logging.WARNING if choice.hint() else logging.INFO
    return log_notes(replace(found, notes=(*choice.notes(codes), *found.notes)), level)


def _candidates(table: Table, sample: Sequence[Record]) -> Candidates:
    """The rows of a table, spread; counts them if their number is not known."""
    column = document_column(sample)
    if column is None and table.size is not None:
        return Candidates(table.size, unit="row")
    ids: list[Any] = []
    count = 0
    for count, (_, record) in enumerate(table.read(), start=1):
        if column is not None and count <= MAX_DOCUMENT_ROWS:
            ids.append(record.get(column))
    documents = documents_of(ids, f"column {column!r}") if len(ids) == count else None
    return Candidates(count, documents=documents, unit="row")


def _given_columns(
    sample: Sequence[Record], columns: Mapping[str, str], source: str
) -> ColumnChoice:
    for column in columns.values():
        if not any(has_column(record, column) for record in sample):
            raise CorpusError(
                f"{source} has no column {column!r} (it has: {', '.join(map(str, sample[0]))})"
            )
    return ColumnChoice(by_language(columns, source), {})


def _record_row(place: str, record: Record, paths: Sequence[str]) -> Row:
    texts = [text_at(record, path) for path in paths]
    return Row(texts, [f"{place} ({path})" for path in paths])


def _long_columns(sample: Sequence[Record]) -> tuple[str, str, str] | None:
    """The columns of text, language and id in a table with one row per sentence and language."""
    keys = dict.fromkeys(key for record in sample for key in record)
    found = [next((key for key in usual if key in keys), None) for usual in (TEXTS, CODES, IDS)]
    return (found[0], found[1], found[2]) if found[0] and found[1] and found[2] else None


def _read_long(
    records: Records,
    parts: tuple[str, str, str],
    source: str,
    name: str,
    pivot: str,
    languages: Iterable[str] | None,
    n_pairs: int | None,
    order: str,
) -> ParallelRows:
    """The rows of a table with one row per sentence and language, joined by their id."""
    varieties: dict[Variety, dict[Any, Cell]] = {}
    repeated: dict[Variety, str] = {}
    unknown: dict[str, str] = {}
    for place, record in records:
        variety = variety_of_record(record, parts[1])
        if variety is None:
            unknown[str(record.get(parts[1]))] = "no language"
            continue
        column, key = varieties.setdefault(variety, {}), record.get(parts[2])
        if key in column:
            repeated.setdefault(variety, f"{key!r} twice: {column[key].place}, {place}")
        else:
            column[key] = Cell(text_at(record, parts[0]), place, document_of(record))
    by_name = names_of_varieties(list(varieties))
    pivot, names = choose_languages(pivot, languages, list(by_name), source)
    used: dict[str, Column] = {code: varieties[by_name[code]] for code in (pivot, *names)}
    for code in used:
        if by_name[code] in repeated:
            raise CorpusError(
                f"an id must be unique per language, but {source} has {code} {parts[2]}"
                f" {repeated[by_name[code]]}; remove one of them, or leave the language out"
            )
    found = merge_rows([filter_joined(used, n_pairs, order)], pivot, name, n_pairs)
    note = f"took the column {parts[0]!r} by {parts[1]!r}, joined by {parts[2]!r}: " + ", ".join(
        used
    )
    left = ", ".join(f"{value!r} ({reason})" for value, reason in unknown.items())
    notes = (note, *([f"left out {left}"] if left else []), *found.notes)
    return log_notes(replace(found, notes=notes))
