"""The pictures of ``docs/evidence.md``, from what the runs have kept."""

from pathlib import Path

import along_tables
import kept
import tables
from along import KINDS, LANGUAGES
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuronxa_callback.show.charts import heat_map
from neuronxa_callback.show.palette import LIGHT
from neuronxa_callback.show.scatter import scatter

SHOWN = ("topic_transfer", "bits_per_sentence", "bmlama_sentence")


def write(folder, found=None):
    """``evidence_scatter.png``, ``evidence_heat_map.png`` and ``evidence_runs.png`` in a folder."""
    found = found or tables.agreements()
    each = [one for one in found.over_languages if one.metric == "nasca" and one.task in SHOWN]
    scatter(each).savefig(Path(folder) / "evidence_scatter.png")
    (report,) = kept.reports("gemma_flores")
    heat_map(report, "nasca", by_score=True).savefig(Path(folder) / "evidence_heat_map.png")
    runs().savefig(Path(folder) / "evidence_runs.png")


def runs():
    """One column per run: NASCA with intervals (held out: dashed), bits per sentence, topics."""
    figure = Figure(figsize=(11, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(KINDS), sharex="col", sharey="row")
    for column, kind in enumerate(KINDS):
        found = kept.rows(f"along_{kind}")
        steps = [row["step"] for row in found]
        halves = [kept.reports(f"along_{kind}_{half}") for half in along_tables.HALVES]
        for name, color in zip(LANGUAGES, LIGHT, strict=False):
            chosen, held_out = ([r.score("nasca", name) for r in half] for half in halves)
            low, high = zip(*(r.interval("nasca", name) for r in halves[0]), strict=True)
            axes[0, column].plot(steps, chosen, "o-", color=color, label=name, markersize=3)
            axes[0, column].fill_between(steps, low, high, color=color, alpha=0.13, linewidth=0)
            axes[0, column].plot(steps, held_out, "--", color=color, linewidth=0.9)
            for row, task in ((1, "bits"), (2, "topics")):
                values = [each[task][name] for each in found]
                axes[row, column].plot(steps, values, "o-", color=color, markersize=3)
        axes[0, column].set_title(kind)
        axes[1, column].set_yscale("log")
        axes[1, column].yaxis.set_major_formatter("{x:g}")
        axes[1, column].yaxis.set_minor_formatter("{x:g}")
        axes[2, column].set_xlabel("step")
    for row, title in enumerate(("NASCA", "bits per sentence", "topics found")):
        axes[row, 0].set_ylabel(title)
    axes[0, 1].legend(fontsize=7)
    return figure
