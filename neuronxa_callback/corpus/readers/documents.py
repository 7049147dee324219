"""Which line belongs to which document: NTREX's list of ids, the metadata and ``url`` of FLORES."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.readers.lines import read_lines
from neuronxa_callback.corpus.readers.order import Documents
from neuronxa_callback.corpus.readers.records import Record, table_records
from neuronxa_callback.errors import CorpusError

COLUMNS = ("url", "URL", "document_id", "doc_id", "docid", "document")
"""Usual columns of the document of a row."""
IDS_FILE = "DOCUMENT_IDS.tsv"
"""One id per line, in the folder of the corpus (NTREX-128) or the one above."""
METADATA = "metadata*.tsv"
"""Tables with one row per line and a column of ``COLUMNS``, in one of the same folders."""


def document_column(records: Sequence[Record]) -> str | None:
    """The column with the document of a row; None if there is none."""
    return next((key for key in COLUMNS if any(record.get(key) for record in records)), None)


def document_of(record: Record) -> str | None:
    """The document of a row; None if it is not known."""
    column = document_column([record])
    return None if column is None else str(record[column])


def documents_of(ids: Sequence[Any], source: str) -> Documents | None:
    """The documents of lines; a line without one is a document of its own. None without any."""
    if not any(ids):
        return None
    return Documents([(i, one) if one is None else str(one) for i, one in enumerate(ids)], source)


def documents_beside(folder: Path, count: int) -> Documents | None:
    """The documents of a folder's lines, from a file with as many rows; None if there is none."""
    for place in (folder, folder.parent):
        for file in (place / IDS_FILE, *sorted(place.glob(METADATA))):
            ids = _ids_in(file) if file.is_file() else []
            if len(ids) == count:
                return documents_of(ids, file.name)
    return None


def _ids_in(file: Path) -> list[str]:
    """The ids in a file; none if it has another form."""
    try:
        if file.name == IDS_FILE:
            ids = read_lines(file)
            return ids[:-1] if ids and not ids[-1].strip() else ids
        records = [record for _, record in table_records(file, "\t", quoted=False)]
    except CorpusError:
        return []
    column = document_column(records)
    return [] if column is None else [record[column] for record in records]
