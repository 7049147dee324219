"""Sinks: objects that write reports to a file or to a tracker.

A sink is any object with ``write(report)``, and optionally ``close()``, which is called when the
training ends. Only the trackers in use are imported.
"""

import csv
import io
import logging
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from neuronxa_callback.corpus import languages
from neuronxa_callback.history.records import RECORD, read_record
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a text that begins with one of these."""


class Sink(Protocol):
    """The interface of a sink. Rank 0 calls it with the reports of a run, in order."""

    def write(self, report: AlignmentReport) -> object:
        """Write one report."""


class MemorySink:
    """Keeps the reports of a run in the list ``reports``: ``NeuronXACallback(sinks=[sink])``."""

    def __init__(self) -> None:
        self.reports: list[AlignmentReport] = []

    def write(self, report: AlignmentReport) -> None:
        """Keep one report."""
        self.reports.append(report)


class WandbSink:
    """Logs to the active W&B run; does nothing if there is none.

    Scalars are logged with ``train/global_step``, as the Trainer logs its own, and never with
    ``step=``, which would drop or merge rows. The alignment curve by layer and the heat map
    language x layer are logged as pictures (W&B shows a slider over steps); the latest curve is
    also a native W&B chart, which has no slider.

    The summary has the last value of each key, as a W&B sweep needs it, and the best values as
    ``neuronxa_best/<metric>/<language>``.

    Args:
        record: The JSONL file to upload as an artifact at the end.
        last_step: The last step that a resumed run has already logged; later reports are logged.
    """

    def __init__(self, record: str | Path | None = None, last_step: int | None = None) -> None:
        self.record = None if record is None else Path(record)
        self.last_step = last_step
        self.defined: dict[str, None] = {}
        self.best: dict[str, float] = {}

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        run = self._run()
        if run is None or (self.last_step is not None and report.step <= self.last_step):
            return
        scalars = report.scalars()
        if not self.defined:
            config = {**report.fingerprint, "corpus": corpus_table(report)}
            run.config.update({_root("neuronxa", report): config}, allow_val_change=True)
            for earlier in self._recorded():
                self._note_best(earlier.scalars())
        for key in scalars:
            self._define(run, key)
        run.log({**scalars, **self._media(report), "train/global_step": report.step})
        self._note_best(scalars)
        run.summary.update(self.best)

    def close(self) -> None:
        """Upload the record and the table of all scores as one artifact, if there is a record."""
        run = self._run()
        if run is None or self.record is None or not self.record.exists():
            return
        import wandb

        artifact = wandb.Artifact(f"{self.record.parent.name}-{run.id}", type="neuronxa")
        artifact.add_file(str(self.record), name="reports.jsonl")
        with artifact.new_file("scores.csv", mode="w", encoding="utf-8") as file:
            file.write(long_table(self._recorded()))
        run.log_artifact(artifact)

    def _run(self) -> Any:
        import wandb

        return wandb.run

    def _define(self, run: Any, key: str) -> None:
        if key in self.defined:
            return
        self.defined[key] = None
        # Exact names: the order in which W&B applies a glob and the Trainer's "*" varies.
        run.define_metric(key, step_metric="train/global_step")

    def _recorded(self) -> list[AlignmentReport]:
        return read_record(self.record)[0] if self.record and self.record.exists() else []

    def _note_best(self, scalars: Mapping[str, float]) -> None:
        for key in (key for key in scalars if f"{key}/low" in scalars):
            best = key.replace("neuronxa/", "neuronxa_best/", 1)
            if scalars[key] > self.best.get(best, -math.inf):
                self.best[best] = scalars[key]

    def _media(self, report: AlignmentReport) -> dict[str, Any]:
        import wandb

        from neuronxa_callback.show import charts

        media: dict[str, Any] = {}
        root = _root("neuronxa_charts", report)
        for metric in report.metrics:
            media[f"{root}/{metric}_by_layer"] = _layer_chart(report, metric)
            pictures = {"curve": charts.by_layer, "heat_map": charts.heat_map}
            for name, draw in pictures.items():
                media[f"{root}/{metric}_{name}"] = wandb.Image(
                    charts.pixels(draw(report, metric)), caption=f"{metric}, step {report.step}"
                )
        return media


def _root(prefix: str, report: AlignmentReport) -> str:
    """The prefix, with the name of the callback if it has one."""
    return f"{prefix}/{report.run['name']}" if report.run.get("name") else prefix


def _layer_chart(report: AlignmentReport, metric: str) -> Any:
    """The native W&B chart of the curve by layer; it shows the latest step only."""
    import wandb

    layers = report.layers(metric)
    numbered = all(isinstance(layer, int) for layer in layers)
    lines = {language: list(report.curve(metric, language)) for language in report.languages}
    lines["chance"] = [report.chance] * len(layers)
    lines["shuffled_baseline"] = [report.shuffled_baseline(metric)] * len(layers)
    return wandb.plot.line_series(
        xs=list(layers if numbered else range(len(layers))),
        ys=list(lines.values()),
        keys=list(lines),
        title=f"{metric} by layer, latest step",
        xname="layer",
    )


class TensorBoardSink:
    """Writes the scalars to an event file for TensorBoard in ``folder``."""

    def __init__(self, folder: str | Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder))

    def write(self, report: AlignmentReport) -> None:
        """Write one report."""
        for key, value in report.scalars().items():
            self.writer.add_scalar(key, value, report.step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


class MlflowSink:
    """Logs the scalars to the active MLflow run.

    MLflow must use a database: its file store cannot hold both ``a/b`` and ``a/b/low``.
    """

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        import mlflow

        mlflow.log_metrics(report.scalars(), step=report.step)


class TrackioSink:
    """Logs the scalars to the active trackio run, next to those of the Trainer."""

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        import trackio

        trackio.log({**report.scalars(), "train/global_step": report.step})


def sinks_for(
    trackers: Iterable[str], folder: str | Path, last_step: int | None = None
) -> tuple[Sink, ...]:
    """The sinks for the trackers that a Trainer reports to; unknown trackers are skipped.

    An active W&B run that ``report_to`` does not name is left alone: its owner may log with
    ``step=``, and W&B drops such rows after anybody else's.

    Args:
        trackers: ``args.report_to``.
        folder: The folder of the record.
        last_step: See ``WandbSink``.
    """
    folder, names = Path(folder), list(trackers)
    sinks: list[Sink] = []
    if "wandb" in names or "all" in names:
        sinks.append(WandbSink(folder / RECORD, last_step))
    elif _wandb_is_active():
        log.warning(
            "the active W&B run gets no scores, since report_to does not name wandb; to log there"
            " (which advances its step counter), pass"
            " sinks=[neuronxa_callback.show.sinks.WandbSink()]"
        )
    if "tensorboard" in names:
        sinks.append(TensorBoardSink(folder / "tensorboard"))
    if "mlflow" in names:
        sinks.append(MlflowSink())
    if "trackio" in names:
        sinks.append(TrackioSink())
    return tuple(sinks)


def corpus_table(report: AlignmentReport) -> list[dict[str, Any]]:
    """One row per language: its name, pairs, and tokens per sentence (None if not counted)."""
    counted = report.diagnostics.get("tokens", {}).get("languages", {})
    return [
        {
            "language": language,
            "name": languages.name(language),
            "pairs": report.n_pairs,
            "tokens": counted.get(language, {}).get("target", {}).get("per_sentence"),
            "pivot_tokens": counted.get(language, {}).get("pivot", {}).get("per_sentence"),
        }
        for language in report.languages
    ]


def long_table(reports: Sequence[AlignmentReport]) -> str:
    """All scores as CSV with the columns step, language, layer, metric, score, low, high."""
    file = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for report in reports:
        for row in report.rows():
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _plain_cell(cell) for name, cell in row.items()})
    return file.getvalue()


def _plain_cell(cell: object) -> object:
    """A text that a spreadsheet does not run as a formula: an apostrophe goes in front of it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def _wandb_is_active() -> bool:
    return getattr(sys.modules.get("wandb"), "run", None) is not None
