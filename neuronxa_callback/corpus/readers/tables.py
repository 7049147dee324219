"""Parallel text in tables, one column per language: tsv, csv, jsonl, Hugging Face data sets.

Rows are read one by one and no further than ``n_pairs`` usable pairs need.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus import languages as codes_of
from neuronxa_callback.corpus.parallel import PIVOT, ParallelCorpus
from neuronxa_callback.corpus.readers.files import chosen
from neuronxa_callback.corpus.readers.lines import decoded
from neuronxa_callback.corpus.rows import Row, corpus_of, filter_rows
from neuronxa_callback.errors import CorpusError

Record = Mapping[str, Any]
Records = Iterator[tuple[str, Record]]
"""Where each record stands, and the record."""

NOT_LANGUAGES = ("id", "url", "uri", "key", "tag", "row", "idx", "set")
"""Usual names of columns that are also codes: languages only where ``columns`` says so."""


def from_tsv(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    quoted: bool = True,
) -> ParallelCorpus:
    """A table with a header of language codes or names; also csv.

    Args:
        path: The file; ``.gz`` is unpacked.
        pivot: The language that the others are compared with.
        languages: Which ones; None for every column that a language names.
        n_pairs: The first n usable pairs, reading no further; None for all.
        columns: language -> column, where the header does not name languages.
        delimiter: None for a comma in ``.csv`` files and a tab elsewhere.
        quoted: Whether a quotation mark at the start of a cell encloses it, as csv has it.

    Raises:
        CorpusError: If there is no such file or column, or a row has more or fewer cells.
    """
    path = Path(path)
    if delimiter is None:
        delimiter = "," if ".csv" in path.suffixes else "\t"
    records = _cells(path, delimiter, quoted)
    return _corpus(records, str(path), path.name, pivot, languages, n_pairs, columns)


def from_jsonl(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> ParallelCorpus:
    """A file with one JSON object per line: ``{"eng_Latn": "...", "deu_Latn": "..."}``.

    The object may also stand in the object under ``"translation"``. Arguments as in ``from_tsv``;
    a column such as ``translation.de`` leads into an object.

    Raises:
        CorpusError: If there is no such file or key, or a line is no JSON object.
    """
    path = Path(path)
    return _corpus(_objects(path), str(path), path.name, pivot, languages, n_pairs, columns)


def from_dataset(
    dataset: Any,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    config: str | None = None,
) -> ParallelCorpus:
    """A data set of the Hugging Face hub, or any iterable of dictionaries.

    Args:
        dataset: A name on the hub (streamed; needs the ``datasets`` library), or an object.
        pivot: The language that the others are compared with.
        languages: Which ones; None for every column that a language names.
        n_pairs: The first n usable pairs, reading no further; None for all.
        columns: language -> column; ``translation.de`` leads into a dictionary.
        split: Which split, where there are several.
        config: Which configuration of a data set on the hub.

    Raises:
        CorpusError: If there is no such data set, split or column.
    """
    name = "dataset"
    if isinstance(dataset, str | Path):
        name = str(dataset)
        dataset = _loaded(name, config, split)
    if isinstance(dataset, Mapping):
        if split is None or split not in dataset:
            raise CorpusError(
                f"{name} has several splits, split={split!r} must name one of them"
                f" ({', '.join(map(str, dataset))})"
            )
        dataset = dataset[split]
    records = ((f"{name} row {i}", record) for i, record in enumerate(dataset, start=1))
    return _corpus(records, name, name, pivot, languages, n_pairs, columns)


def _corpus(
    records: Records,
    source: str,
    name: str,
    pivot: str,
    languages: Iterable[str] | None,
    n_pairs: int | None,
    columns: Mapping[str, str] | None,
) -> ParallelCorpus:
    first = next(records, None)
    if first is None:
        raise CorpusError(f"a corpus must have rows, {source} has none")
    known = _columns(first[1], columns, source)
    own, names = chosen(pivot, languages, list(known), source)
    codes = [own, *names]
    paths = [known[code] for code in codes]
    part = filter_rows(codes, (_row(each, paths) for each in chain([first], records)), n_pairs)
    return corpus_of([part], own, name, n_pairs)


def _columns(record: Record, columns: Mapping[str, str] | None, source: str) -> dict[str, str]:
    """Language -> column, as given or as the first record's keys name them."""
    if columns is not None:
        missing = [column for column in columns.values() if not _has(record, column)]
        if missing:
            raise CorpusError(
                f"{source} has no column {missing[0]!r} (it has: {', '.join(map(str, record))})"
            )
        return dict(columns)
    prefix = ""
    if isinstance(record.get("translation"), Mapping):
        prefix, record = "translation.", record["translation"]
    found: dict[str, str] = {}
    for key in record:
        code = None if key in NOT_LANGUAGES else codes_of.of_file(str(key))
        if code in found:
            raise CorpusError(f"{source} has two columns for {code}: {found[code]}, {prefix}{key}")
        if code is not None:
            found[code] = f"{prefix}{key}"
    if len(found) < 2:
        raise CorpusError(
            f"{source} must have a column for the pivot and one for another language, it has"
            f" {', '.join(map(repr, record))}; name them with columns={{'deu_Latn': ...}}"
        )
    return found


def _row(record: tuple[str, Record], paths: Sequence[str]) -> Row:
    place, cells = record
    texts = [_value(cells, path) for path in paths]
    return Row(texts, [f"{place} ({path})" for path in paths])


def _value(record: Record, path: str) -> str | None:
    """The text in a column, or along ``a.b``; None where there is none."""
    value: Any = record
    for key in _keys(record, path):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _has(record: Record, path: str) -> bool:
    """Whether there is such a column, also where this record has nothing in it."""
    value: Any = record
    for key in _keys(record, path):
        if value is None:
            return True
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def _keys(record: Record, path: str) -> list[str]:
    return [path] if path in record else path.split(".")


def _cells(path: Path, delimiter: str, quoted: bool) -> Records:
    lines = (f"{line}\n" for line in decoded(path))
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        header = next(reader, [])
        twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
        if twice:
            raise CorpusError(f"the header of {path} names {twice[0]!r} twice; rename one")
        start = reader.line_num + 1
        for cells in reader:
            place = f"{path.name}:{start}"
            start = reader.line_num + 1
            if len(cells) != len(header) and cells:
                raise CorpusError(
                    f"every row must have {len(header)} cells like the header, {path}:"
                    f"{place.rpartition(':')[2]} has {len(cells)}"
                )
            if cells:
                yield place, dict(zip(header, cells, strict=True))
    except csv.Error as cause:
        raise CorpusError(
            f"{path}:{reader.line_num} is not a row of cells: {cause}; if quotation marks are part"
            " of the text, set quoted=False"
        ) from None


def _objects(path: Path) -> Records:
    for number, line in enumerate(decoded(path), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as cause:
            raise CorpusError(f"{path}:{number} is not JSON: {cause}") from None
        if not isinstance(found, dict):
            raise CorpusError(
                f"every line must be a JSON object, {path}:{number} is {type(found).__name__}"
            )
        yield f"{path.name}:{number}", found


def _loaded(name: str, config: str | None, split: str | None) -> Any:
    try:
        from datasets import load_dataset
    except ImportError:
        raise CorpusError(
            f"reading {name!r} from the hub needs the datasets library; pip install datasets"
        ) from None
    try:
        return load_dataset(name, config, split=split, streaming=True)
    except Exception as cause:  # the library raises whatever its many loaders raise
        words = str(cause).strip().splitlines()
        raise CorpusError(
            f"data set {name!r} cannot be loaded: {words[0] if words else type(cause).__name__}"
        ) from None
