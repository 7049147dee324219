"""Parallel text in tables with one column per language: tsv, csv, jsonl, Hugging Face data sets.

Rows are read one by one, and only as many as ``n_pairs`` usable pairs need.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.languages import code_of_name
from neuronxa_callback.corpus.readers.files import choose_languages
from neuronxa_callback.corpus.readers.lines import text_lines
from neuronxa_callback.corpus.rows import PIVOT, ParallelRows, Row, filter_rows, merge_rows
from neuronxa_callback.errors import CorpusError

Record = Mapping[str, Any]
Records = Iterator[tuple[str, Record]]
"""The place of each record, for instance ``file:line``, and the record."""

NOT_LANGUAGES = ("id", "url", "uri", "key", "tag", "row", "idx", "set")
"""Usual names of columns that are also language codes: ignored unless ``columns`` names them."""


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
    records = _table_records(path, delimiter, quoted)
    return _read_records(records, str(path), path.name, pivot, languages, n_pairs, columns)


def read_jsonl(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_jsonl``."""
    path = Path(path)
    records = _json_records(path)
    return _read_records(records, str(path), path.name, pivot, languages, n_pairs, columns)


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
    name = "dataset"
    if isinstance(dataset, str | Path):
        name = str(dataset)
        dataset = _load_from_hub(name, config, split)
    if isinstance(dataset, Mapping):
        if split is None or split not in dataset:
            raise CorpusError(
                f"{name} has several splits ({', '.join(map(str, dataset))}); choose one with"
                f" split=, got {split!r}"
            )
        dataset = dataset[split]
    records = ((f"{name} row {i}", record) for i, record in enumerate(dataset, start=1))
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
    first = next(records, None)
    if first is None:
        raise CorpusError(f"a corpus must have rows, but {source} has none")
    column_of = _find_columns(first[1], columns, source)
    pivot, names = choose_languages(pivot, languages, list(column_of), source)
    codes = [pivot, *names]
    paths = [column_of[code] for code in codes]
    rows = (_record_row(place, record, paths) for place, record in chain([first], records))
    return merge_rows([filter_rows(codes, rows, n_pairs)], pivot, name, n_pairs)


def _find_columns(record: Record, columns: Mapping[str, str] | None, source: str) -> dict[str, str]:
    """Language -> column: ``columns``, or the keys of the first record that name languages."""
    if columns is not None:
        missing = [column for column in columns.values() if not _has_column(record, column)]
        if missing:
            raise CorpusError(
                f"{source} has no column {missing[0]!r} (it has: {', '.join(map(str, record))})"
            )
        return dict(columns)
    prefix = ""
    if isinstance(record.get("translation"), Mapping):
        prefix, record = "translation.", record["translation"]
    column_of: dict[str, str] = {}
    for key in record:
        code = None if key in NOT_LANGUAGES else code_of_name(str(key))
        if code in column_of:
            raise CorpusError(
                f"{source} has two columns for {code}: {column_of[code]}, {prefix}{key}"
            )
        if code is not None:
            column_of[code] = f"{prefix}{key}"
    if len(column_of) < 2:
        raise CorpusError(
            f"{source} must have a column for the pivot and one for another language, it has"
            f" {', '.join(map(repr, record))}; name them with columns={{'deu_Latn': ...}}"
        )
    return column_of


def _record_row(place: str, record: Record, paths: Sequence[str]) -> Row:
    texts = [_text_at(record, path) for path in paths]
    return Row(texts, [f"{place} ({path})" for path in paths])


def _text_at(record: Record, path: str) -> str | None:
    """The text in a column, or at the nested key ``a.b``; None if it is missing."""
    value: Any = record
    for key in _split_path(record, path):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _has_column(record: Record, path: str) -> bool:
    """Whether there is such a column, even if its value in this record is None."""
    value: Any = record
    for key in _split_path(record, path):
        if value is None:
            return True
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def _split_path(record: Record, path: str) -> list[str]:
    return [path] if path in record else path.split(".")


def _table_records(path: Path, delimiter: str, quoted: bool) -> Records:
    lines = (f"{line}\n" for line in text_lines(path))
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        header = next(reader, [])
        repeated = [name for name in dict.fromkeys(header) if header.count(name) > 1]
        if repeated:
            raise CorpusError(f"the header of {path} has {repeated[0]!r} twice; rename one")
        start = reader.line_num + 1
        for cells in reader:
            number, start = start, reader.line_num + 1
            if len(cells) != len(header) and cells:
                raise CorpusError(
                    f"every row must have {len(header)} cells like the header, but"
                    f" {path}:{number} has {len(cells)}"
                )
            if cells:
                yield f"{path.name}:{number}", dict(zip(header, cells, strict=True))
    except csv.Error as cause:
        raise CorpusError(
            f"cannot split {path}:{reader.line_num} into cells: {cause}; if quotation marks are"
            " part of the text, set quoted=False"
        ) from None


def _json_records(path: Path) -> Records:
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as cause:
            raise CorpusError(f"{path}:{number} is not JSON: {cause}") from None
        if not isinstance(record, dict):
            raise CorpusError(
                f"every line must be a JSON object, but {path}:{number} is a"
                f" {type(record).__name__}"
            )
        yield f"{path.name}:{number}", record


def _load_from_hub(name: str, config: str | None, split: str | None) -> Any:
    try:
        from datasets import load_dataset
    except ImportError:
        raise CorpusError(
            f"reading {name!r} from the hub needs the datasets library; pip install datasets"
        ) from None
    try:
        return load_dataset(name, config, split=split, streaming=True)
    except Exception as cause:  # its loaders raise exceptions of many libraries
        lines = str(cause).strip().splitlines()
        reason = lines[0] if lines else type(cause).__name__
        raise CorpusError(f"cannot load the data set {name!r}: {reason}") from None
