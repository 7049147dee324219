"""All scores of some reports as CSV, one row per step, language, layer and metric."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TextIO

from neuronxa_callback.report import AlignmentReport

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a text that begins with one of these."""


def long_table(reports: Sequence[AlignmentReport]) -> str:
    """All scores as CSV with the columns step, language, layer, metric, score, low, high."""
    file = io.StringIO()
    write_long_table(file, reports)
    return file.getvalue()


def write_long_table(file: TextIO, reports: Iterable[AlignmentReport]) -> None:
    """Write ``long_table`` to a file, with one report in memory at a time."""
    writer: csv.DictWriter[str] | None = None
    for report in reports:
        for row in report.rows():
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: plain_cell(cell) for name, cell in row.items()})


def plain_cell(cell: object) -> object:
    """The cell; a text that a spreadsheet would run gets an apostrophe in front of it.

    >>> plain_cell("=1+1"), plain_cell(-0.5), plain_cell("deu_Latn")
    ("'=1+1", -0.5, 'deu_Latn')
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
