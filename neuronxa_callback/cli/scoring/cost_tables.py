"""Tables of what perturbed translations cost."""

import math
from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import tables

NAME = "perturbed"
"""The entry of a report's diagnostics: perturbation -> metric -> language, or ``"mean"``, -> clean,
perturbed, difference, low, high, p; None where the perturbation does not apply."""


def cost_tables(report: AlignmentReport) -> Iterator[Table]:
    """One table per perturbation, of the first metric."""
    metric = next(iter(report.metrics))
    for kind, by_metric in report.diagnostics.get(NAME, {}).items():
        table = tables.numeric_table(
            f"{metric} with {kind} perturbed",
            "difference: clean minus perturbed; p adjusted by Holm over languages",
            ("language",),
            ("clean", "perturbed", "difference", "95 %", "p"),
        )
        for name, entry in by_metric[metric].items():
            table.add_row(Text(name), *_cells(entry))
        yield table


def _cells(entry: Mapping[str, float | None] | None) -> list[str]:
    if entry is None:
        return ["n/a"] * 5
    number = {key: math.nan if value is None else value for key, value in entry.items()}
    return [
        tables.number(number["clean"]),
        tables.number(number["perturbed"]),
        tables.signed(number["difference"]),
        f"{tables.signed(number['low'])} - {tables.signed(number['high'])}",
        tables.p_value(number["p"]),
    ]
