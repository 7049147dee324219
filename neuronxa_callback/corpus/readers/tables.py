"""Parallel text in tables with one column per language: tsv, csv, jsonl, Hugging Face data sets.

Rows are read one by one, and only as many as ``n_pairs`` usable pairs need; ``SAMPLE`` rows are
looked at to see which columns have sentences. A table with one row per sentence and language is
read whole and joined by its id.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.languages import code_of_name
from neuronxa_callback.corpus.readers.columns import ColumnChoice, find_columns, require_two
from neuronxa_callback.corpus.readers.dataset_shapes import dataset_records, peek
from neuronxa_callback.corpus.readers.files import choose_languages, require_one_each
from neuronxa_callback.corpus.readers.records import (
    IDS,
    TEXTS,
    Column,
    Record,
    Records,
    has_column,
    joined_rows,
    json_records,
    parquet_records,
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
) -> ParallelRows:
    """See ``ParallelCorpus.from_tsv``."""
    path = Path(path)
    if delimiter is None:
        delimiter = "," if ".csv" in path.suffixes else "\t"
    records = table_records(path, delimiter, quoted)
    return _read_records(records, str(path), path.name, pivot, languages, n_pairs, columns)


@check_reader_options
def read_jsonl(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_jsonl``."""
    path = Path(path)
    records = json_records(path)
    return _read_records(records, str(path), path.name, pivot, languages, n_pairs, columns)


@check_reader_options
def read_parquet(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_parquet``."""
    path = Path(path)
    records = parquet_records(path)
    return _read_records(records, str(path), path.name, pivot, languages, n_pairs, columns)


@check_reader_options
def read_dataset(
    dataset: Any,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    config: str | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_dataset``."""
    name, records = dataset_records(dataset, config, split)
    return _read_records(records, name, name, pivot, languages, n_pairs, columns)


def _read_records(
    records: Records,
    source: str,
    name: str,
    pivot: str,
    languages: Iterable[str] | None,
    n_pairs: int | None,
    columns: Mapping[str, str] | None,
) -> ParallelRows:
    first, records = peek(records, SAMPLE)
    if not first:
        raise CorpusError(f"a corpus must have rows, but {source} has none")
    sample = [record for _, record in first]
    if columns is not None:
        choice = _given_columns(sample, columns, source)
    else:
        choice = find_columns(sample)
        parts = _long_columns(sample)
        if len(choice.by_code) < 2 and parts:
            return _read_long(records, parts, source, name, pivot, languages, n_pairs)
        if len(choice.by_code) == 1:
            require_one_each(choice.by_code, choice.by_code, f"{source} has", "columns", HINT)
        require_two(choice, list(sample[0]), source)
    try:
        pivot, names = choose_languages(pivot, languages, list(choice.by_code), source)
    except CorpusError as cause:
        raise CorpusError(f"{cause}{choice.hint()}") from None
    codes = [pivot, *names]
    require_one_each(choice.by_code, codes, f"{source} has", "columns", HINT)
    paths = [choice.by_code[code][0] for code in codes]
    rows = (_record_row(place, record, paths) for place, record in records)
    found = merge_rows([filter_rows(codes, rows, n_pairs)], pivot, name, n_pairs)
    level = logging.WARNING if choice.hint() else logging.INFO
    return log_notes(replace(found, notes=(*choice.notes(codes), *found.notes)), level)


def _given_columns(
    sample: Sequence[Record], columns: Mapping[str, str], source: str
) -> ColumnChoice:
    for column in columns.values():
        if not any(has_column(record, column) for record in sample):
            raise CorpusError(
                f"{source} has no column {column!r} (it has: {', '.join(map(str, sample[0]))})"
            )
    return ColumnChoice({code: [column] for code, column in columns.items()}, {})


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
) -> ParallelRows:
    """The rows of a table with one row per sentence and language, joined by their id."""
    columns: dict[str, dict[Any, tuple[str | None, str]]] = {}
    unknown: dict[str, str] = {}
    for place, record in records:
        code = _code_of_record(record, parts[1])
        text = text_at(record, parts[0])
        if code is None:
            unknown[str(record.get(parts[1]))] = "no language"
            continue
        column, key = columns.setdefault(code, {}), record.get(parts[2])
        if key in column:
            raise CorpusError(
                f"an id must be unique per language, but {source} has {code} {parts[2]} {key!r}"
                f" twice: {column[key][1]}, {place}"
            )
        column[key] = (text, place)
    pivot, names = choose_languages(pivot, languages, list(columns), source)
    used: dict[str, Column] = {code: columns[code] for code in (pivot, *names)}
    found = merge_rows([filter_rows([*used], joined_rows(used), n_pairs)], pivot, name, n_pairs)
    note = f"took the column {parts[0]!r} by {parts[1]!r}, joined by {parts[2]!r}: " + ", ".join(
        used
    )
    left = ", ".join(f"{value!r} ({reason})" for value, reason in unknown.items())
    notes = (note, *([f"left out {left}"] if left else []), *found.notes)
    return log_notes(replace(found, notes=notes))


def _code_of_record(record: Record, key: str) -> str | None:
    """The language of a row, with its script and variety where FLORES+ has them."""
    value, script = record.get(key), record.get("iso_15924")
    if not isinstance(value, str):
        return None
    return f"{value}_{script}" if isinstance(script, str) and script else code_of_name(value)
