"""Tables row by row: tsv and csv, JSON lines and arrays, parquet."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.readers.formats import refuse_other_formats
from neuronxa_callback.corpus.readers.lines import text_lines
from neuronxa_callback.corpus.text import is_blank_text
from neuronxa_callback.errors import CorpusError, kind_of, reason

Record = Mapping[str, Any]
Records = Iterator[tuple[str, Record]]
"""The place of each record, for instance ``file:line``, and the record."""

MAX_LINES = 3
"""A cell with more lines, each with the commas of a row, holds rows."""


@dataclass(frozen=True)
class Table:
    """The rows of a table, which can be read again, or of a stream, which can not."""

    read: Callable[[], Records]
    """Reads from the first row on."""
    size: int | None = None
    """The number of rows, if it is known without reading."""
    row: Callable[[int], tuple[str, Record]] | None = None
    """Reads one row, if that needs no reading of those before it."""
    is_stream: bool = False
    """Whether it can be read once only, or its length is unknown."""
    refuse: Callable[[Sequence[str]], None] | None = None
    """Gives a reason, if there is one, why no column of these is named by a language."""

    def pick(self, wanted: Collection[int]) -> Iterator[tuple[int, str, Record]]:
        """The wanted rows: number, place and record."""
        if self.row is not None:
            yield from ((i, *self.row(i)) for i in wanted)
            return
        keep, last = frozenset(wanted), max(wanted, default=-1)
        for i, (place, record) in enumerate(islice(self.read(), last + 1)):
            if i in keep:
                yield i, place, record


TEXTS = ("text", "sentence", "utt")
IDS = ("id", "sentence_id", "seg_id", "key", "idx")
"""Usual columns of tables with one row per sentence and language."""
JSON_FILES = (".jsonl", ".ndjson", ".json")
RECORD_FILES = (*JSON_FILES, ".parquet")


def file_records(path: Path) -> Records:
    """The records of a JSON or parquet file, by its name."""
    is_parquet = path.name.endswith(".parquet")
    return parquet_records(path) if is_parquet else json_records(path)


def csv_delimiter(path: Path) -> str:
    """The comma, semicolon or tab that is most often in the first line; a comma if none is."""
    return max(",;\t", key=next(text_lines(path), "").count)


def table_records(path: Path, delimiter: str, quoted: bool) -> Records:
    """The rows of a tsv or csv file with a header.

    Raises:
        CorpusError: If a row has more or fewer cells than the header, or quotation is wrong.
    """
    refuse_other_formats(path, is_table=True)
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
            if reader.line_num > number:
                _refuse_swallowed_rows(cells, delimiter, f"{path}:{number}")
            if cells:
                yield f"{path.name}:{number}", dict(zip(header, cells, strict=True))
    except csv.Error as cause:
        raise CorpusError(
            f"cannot split {path}:{reader.line_num} into cells: {cause}; if quotation marks are"
            " part of the text, set quoted=False"
        ) from None


def _refuse_swallowed_rows(cells: Sequence[str], delimiter: str, place: str) -> None:
    """Refuse a cell that holds the next rows, since two cells of the text have one ``"`` each.

    A text may have line breaks, and commas besides, but a tab and a line break are the end of a
    cell and of a row; other separators must be as many in every line as in a row.

    Raises:
        CorpusError: It names the row and the option for quotation marks in the text.
    """
    last = len(cells) - 1
    for k, cell in enumerate(cells):
        counts = [line.count(delimiter) for line in cell.split("\n")]
        rows = [last - k, *[last] * (len(counts) - 2), k]
        is_tab = delimiter == "\t" and any(counts)
        if len(counts) > 1 and (is_tab or (counts == rows and len(counts) > MAX_LINES)):
            raise CorpusError(
                f"a cell must hold one sentence, but a cell of {place} has {len(counts)} lines with"
                f" the separator {delimiter!r} between two quotation marks; if these are part of"
                " the text, set quoted=False"
            )


def json_records(path: Path) -> Records:
    """The objects of a file of JSON lines, or of one JSON array or object of columns.

    Raises:
        CorpusError: If the file is not JSON, or has something else than objects.
    """
    refuse_other_formats(path, is_table=True)
    first = next((line for line in text_lines(path) if line.strip()), "")
    try:
        is_line = isinstance(json.loads(first or "{}"), dict)
    except (ValueError, RecursionError):
        is_line = not first.lstrip().startswith("[") and first.strip() != "{"
    if not is_line or _is_one_object(path):
        yield from _whole_json(path)
        return
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise CorpusError(f"{path}:{number} is not JSON: {reason(cause)}") from None
        if not isinstance(record, dict):
            raise CorpusError(
                f"every line must be a JSON object, but {path}:{number} is a {kind_of(record)}"
            )
        yield f"{path.name}:{number}", record


def _is_one_object(path: Path) -> bool:
    lines = (line for line in text_lines(path) if line.strip())
    return next(lines, None) is not None and next(lines, None) is None


def _whole_json(path: Path) -> Records:
    """The records of one JSON value: an array of objects, or a dict that has one or columns."""
    try:
        value = json.loads("\n".join(text_lines(path)))
    except (ValueError, RecursionError) as cause:
        raise CorpusError(f"{path} is not JSON: {reason(cause)}") from None
    for number, record in enumerate(records_of_value(value, str(path)), start=1):
        yield f"{path.name} record {number}", record


def records_of_value(value: Any, source: str) -> list[Record]:
    """The records of a list of objects, or of a dict of lists of equal length.

    Raises:
        CorpusError: If the value has another shape.
    """
    if isinstance(value, Mapping):
        columns = {key: cells for key, cells in value.items() if isinstance(cells, list | tuple)}
        tables = [cells for cells in columns.values() if cells and _are_objects(cells)]
        if len(tables) == 1:
            value = tables[0]
        elif len(columns) < max(1, len(value)):
            value = [value]
        elif len({len(cells) for cells in columns.values()}) > 1:
            counts = ", ".join(f"{key} {len(cells)}" for key, cells in columns.items())
            raise CorpusError(f"columns must have the same length, but {source} has {counts}")
        else:
            lines = zip(*columns.values(), strict=True)
            return [dict(zip(columns, line, strict=True)) for line in lines]
    rows = list(value) if isinstance(value, list | tuple) else [value]
    wrong = next((kind_of(row) for row in rows if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise CorpusError(
            f"a row must be an object with a key per language, but {source} has a {wrong}"
        )
    return rows


def _are_objects(cells: Sequence[Any]) -> bool:
    return all(isinstance(cell, Mapping) for cell in cells)


def parquet_records(path: Path) -> Records:
    """The rows of a parquet file.

    Raises:
        CorpusError: If pyarrow is not installed, or the file is not parquet.
    """
    if not _is_parquet(path):
        refuse_other_formats(path, is_table=True)
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise CorpusError(f"reading {path} needs pyarrow; pip install pyarrow") from None
    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", record
    except (OSError, ArrowException) as cause:
        raise CorpusError(f"cannot read {path}: {reason(cause)}") from None


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        raise CorpusError(f"there is no file {str(path)!r}")
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def text_at(record: Record, path: str) -> str | None:
    """The text in a column, or at the nested key ``a.b``; None if it is missing."""
    value: Any = record
    for key in split_path(record, path):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def refuse_shifted_cells(table: Table, count: int, paths: Sequence[str], source: str) -> None:
    """Refuse columns that are shifted: a blank cell inside one, and one more at the other's end.

    Columns that were pasted from files of lines look so if a blank line was put into one file.

    Args:
        table: Rows that can be read again.
        count: The number of rows.
        paths: The columns, the pivot's first.
        source: The beginning of the message.

    Raises:
        CorpusError: It names the first row from which on cells are shifted.
    """
    last = next((record for _, _, record in table.pick([count - 1])), {})
    if len({_is_blank_at(last, path) for path in paths}) < 2:
        return
    blanks: dict[str, list[tuple[int, str]]] = {path: [] for path in paths}
    for i, (place, record) in enumerate(table.read()):
        for path in paths:
            if _is_blank_at(record, path):
                blanks[path].append((i, place))
    pivot = blanks[paths[0]]
    for path in paths[1:]:
        cells = blanks[path]
        ends = [count - len(cells) + k for k in range(len(cells))]
        trailing = [[i for i, _ in cells] == ends, [i for i, _ in pivot] == ends]
        if len(cells) == len(pivot) and trailing.count(True) == 1:
            inner, column = (pivot, paths[0]) if trailing[0] else (cells, path)
            raise CorpusError(
                f"rows must be parallel, but in {source} the column {column!r} is blank at"
                f" {inner[0][1]}, and the other one of {paths[0]!r} and {path!r} at the end: cells"
                " are shifted from there on; remove the blank cell from its column"
            )


def _is_blank_at(record: Record, path: str) -> bool:
    return is_blank_text(text_at(record, path) or "")


def has_column(record: Record, path: str) -> bool:
    """Whether there is such a column, even if its value in this record is None."""
    value: Any = record
    for key in split_path(record, path):
        if value is None:
            return True
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def split_path(record: Record, path: str) -> list[str]:
    """The keys of a column: its name, or those between the dots."""
    return [path] if path in record else path.split(".")
