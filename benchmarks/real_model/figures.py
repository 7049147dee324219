"""The pictures of ``docs/evidence.md``, from what the runs have kept."""

from pathlib import Path

import kept
import tables

from neuronxa_callback.show.charts import heat_map
from neuronxa_callback.show.scatter import scatter

SHOWN = ("topic_transfer", "bits_per_sentence", "bmlama_sentence")


def write(folder, found=None):
    """``evidence_scatter.png`` and ``evidence_heat_map.png`` in a folder."""
    found = found or tables.agreements()
    each = [one for one in found.over_languages if one.metric == "nasca" and one.task in SHOWN]
    scatter(each).savefig(Path(folder) / "evidence_scatter.png")
    (report,) = kept.reports("gemma_flores")
    heat_map(report, "nasca", by_score=True).savefig(Path(folder) / "evidence_heat_map.png")
