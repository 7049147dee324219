"""All scores of some reports as CSV, one row per step, language, layer and metric."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TextIO

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.csv_cells import plain_cell


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
