"""Data sets in the shapes that users have: of the hub, data frames, columns, dictionaries."""

from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.readers.records import Record, Records, Table, records_of_value
from neuronxa_callback.errors import CorpusError


def dataset_table(dataset: Any, config: str | None, split: str | None) -> tuple[str, Table]:
    """The name and the rows of a data set; a stream where their number is unknown.

    Raises:
        CorpusError: If it cannot be loaded, has several splits, or no rows with named columns.
    """
    name = "dataset"
    if isinstance(dataset, str | Path):
        name = str(dataset)
        dataset = _load_from_hub(name, config, split)
    if isinstance(dataset, Mapping) and not _is_columns(dataset):
        if not dataset or all(isinstance(cell, str) for cell in dataset.values()):
            raise CorpusError(
                f"{name} must have rows: dictionaries with a key per language, or a list per"
                f" language, got {'one row' if dataset else 'an empty dictionary'}"
            )
        if split is None or split not in dataset:
            raise CorpusError(
                f"{name} has several splits ({', '.join(map(str, dataset))}); choose one with"
                f" split=, got {split!r}"
            )
        dataset = dataset[split]
    rows = _rows(dataset, name)

    def placed(i: int, row: Any) -> tuple[str, Record]:
        return f"{name} row {i + 1}", _checked(row, name, i + 1)

    def read() -> Records:
        return (placed(i, row) for i, row in enumerate(rows))

    def row(i: int) -> tuple[str, Record]:
        return placed(i, rows[i])

    has_length = isinstance(rows, Sized)
    return name, Table(
        read,
        size=len(rows) if has_length else None,
        row=row if has_length and hasattr(rows, "__getitem__") else None,
        is_stream=not has_length,
    )


def _is_columns(dataset: Mapping[str, Any]) -> bool:
    """Whether it maps columns to lists of text; else it maps splits to data sets."""
    if "translation" in dataset:
        return True
    values = list(dataset.values())
    return bool(values) and all(
        hasattr(cells, "tolist")  # numpy, pandas
        or (isinstance(cells, list | tuple) and not any(isinstance(c, Mapping) for c in cells))
        for cells in values
    )


def _rows(dataset: Any, name: str) -> Any:
    """Rows as dictionaries, whatever the library and its format."""
    if isinstance(dataset, Mapping):
        columns = {
            key: cells.tolist() if hasattr(cells, "tolist") else cells
            for key, cells in dataset.items()
        }
        return records_of_value(columns, name)
    if hasattr(dataset, "with_format"):  # datasets: arrow, pandas, numpy or torch rows
        return dataset.with_format(None)
    for method, options in (("to_pylist", ()), ("to_dicts", ()), ("to_dict", ("records",))):
        if hasattr(dataset, method) and hasattr(dataset, "columns"):  # pyarrow, polars, pandas
            return getattr(dataset, method)(*options)
    try:
        iter(dataset)
    except TypeError:
        raise CorpusError(
            f"a data set must be a name on the hub or iterable, got a {type(dataset).__name__}"
        ) from None
    return dataset


def _checked(row: Any, name: str, number: int) -> Record:
    if not isinstance(row, Mapping):
        hint = ""
        if isinstance(row, list | tuple) and all(isinstance(cell, str) for cell in row):
            hint = "; for pairs use ParallelCorpus(pivot, {'deu_Latn': pairs})"
        raise CorpusError(
            f"a row must be a dictionary with a key per language, but {name} row {number} is a"
            f" {type(row).__name__}{hint}"
        )
    variable = row.get("translation")
    if isinstance(variable, Mapping) and {*variable} == {"language", "translation"}:
        # TranslationVariableLanguages: lists of codes and sentences; the first of each is taken.
        pairs = zip(variable["language"], variable["translation"], strict=True)
        return {**row, "translation": dict(reversed(list(pairs)))}
    return row


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


def peek(records: Records, n: int) -> tuple[list[tuple[str, Record]], Records]:
    """The first n records, and an iterator over all; an error is raised where it occurs."""
    first: list[tuple[str, Record]] = []
    error: CorpusError | None = None
    try:
        for item in records:
            first.append(item)
            if len(first) == n:
                break
    except CorpusError as cause:
        if not first:
            raise
        error = cause

    def everything() -> Iterator[tuple[str, Record]]:
        yield from first
        if error is not None:
            raise error
        yield from records

    return first, everything()
