"""Sinks: objects that write reports to a file or to a tracker.

A sink is any object with ``write(report)``, and optionally ``close()``, which is called when the
training ends. Only the trackers in use are imported.
"""

import csv
import io
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from neuronxa_callback.corpus import languages
from neuronxa_callback.history.records import RECORD, read_record
from neuronxa_callback.report import AlignmentReport


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


class JsonlSink:
    """Writes a lossless record of a run: a JSONL file with one report per line.

    Args:
        path: The file; its folder is created if needed. ``read_reports`` reads it back.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def write(self, report: AlignmentReport) -> None:
        """Append one line and flush it to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = report.to_json().encode() + b"\n"
        with self.path.open("a+b") as file:
            file.write(b"\n" + line if _ends_inside_a_line(file) else line)
            file.flush()
            os.fsync(file.fileno())

    def truncate_after(self, step: int) -> None:
        """Drop the reports after a step, for a run that resumes there; keep unreadable lines."""
        if not self.path.exists():
            return
        # As bytes: a line may be cut inside a character, and JSON may contain U+2028.
        lines = self.path.read_bytes().split(b"\n")
        kept = [line for line in lines if (_step(line) or 0) <= step]
        if len(kept) < len(lines):
            temporary = self.path.with_suffix(".tmp")
            temporary.write_bytes(b"\n".join(kept))
            temporary.replace(self.path)

    def rotate(self) -> None:
        """Rename the record of an earlier run to ``reports-1.jsonl``, ``reports-2.jsonl``, ..."""
        if not self.path.exists():
            return
        number = 1
        while (target := self.path.with_name(f"{self.path.stem}-{number}.jsonl")).exists():
            number += 1
        self.path.rename(target)


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
            run.config.update({"neuronxa": config}, allow_val_change=True)
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

        artifact = wandb.Artifact(f"neuronxa-{run.id}", type="neuronxa")
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
        for metric in report.metrics:
            media[f"neuronxa_charts/{metric}_by_layer"] = _layer_chart(report, metric)
            pictures = {"curve": charts.by_layer, "heat_map": charts.heat_map}
            for name, draw in pictures.items():
                media[f"neuronxa_charts/{metric}_{name}"] = wandb.Image(
                    charts.pixels(draw(report, metric)), caption=f"{metric}, step {report.step}"
                )
        return media


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

    A W&B run that is already active gets a sink too.

    Args:
        trackers: ``args.report_to``.
        folder: The folder of the record.
        last_step: See ``WandbSink``.
    """
    folder, names = Path(folder), list(trackers)
    sinks: list[Sink] = []
    if "wandb" in names or "all" in names or _wandb_is_active():
        sinks.append(WandbSink(folder / RECORD, last_step))
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
            writer.writerow(row)
    return file.getvalue()


def _wandb_is_active() -> bool:
    return getattr(sys.modules.get("wandb"), "run", None) is not None


def _ends_inside_a_line(file: BinaryIO) -> bool:
    """Whether the last line has no end, because a job was killed while it wrote."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _step(line: bytes) -> int | None:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
