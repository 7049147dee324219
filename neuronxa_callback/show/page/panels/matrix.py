"""The scores of all pairs of languages of a run: its last table, as the page draws it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuronxa_callback.language_pairs import LanguagePairs
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.language_pairs.order import cluster_order
from neuronxa_callback.show.page.packer import Packer, packed_shares


class LastMatrix:
    """Keeps the last table of one report after another; most probes of a run have none.

    Args:
        first: The first report.
        steps: The number of reports.
    """

    def __init__(self, first: AlignmentReport, steps: int) -> None:
        self.step, self.tables = first.step, dict[str, LanguagePairs]()

    def add(self, report: AlignmentReport) -> None:
        """Take the tables of the next report, if it has any."""
        if report.language_pairs:
            self.step, self.tables = report.step, dict(report.language_pairs)

    def entry(self, packer: Packer) -> Mapping[str, Any]:
        """The step, and metric -> table; empty if no report has one."""
        if not self.tables:
            return {}
        tables = {metric: _table(packer, table) for metric, table in self.tables.items()}
        return {"step": self.step, "metrics": tables}


def _table(packer: Packer, table: LanguagePairs) -> dict[str, Any]:
    """``shares`` [layers, pairs of languages] and ``intervals`` [pairs of languages, 2]."""
    counts = np.array(table.counts, dtype=float).reshape(len(table.layers), -1)
    return {
        "languages": table.languages,
        "clustered": cluster_order(table),
        "layers": [str(layer) for layer in table.layers],
        "shares": packer.put(packed_shares(counts / table.n_pairs)),
        "intervals": packer.put(packed_shares(np.array(table.intervals, dtype=float))),
    }
