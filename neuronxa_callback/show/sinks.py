"""Where reports are written: the JSONL record always, trackers where a run has them.

A sink is any object with ``write(report)``, and ``close()`` if it has something to do at the end.
Trackers are imported late: none is needed but the one that is used.
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

from neuronxa_callback.corpus import languages as codes
from neuronxa_callback.history.records import read_record
from neuronxa_callback.report import AlignmentReport


class Sink(Protocol):
    """Takes every report of a run, in order, on the first rank only."""

    def write(self, report: AlignmentReport) -> object:
        """Take one report."""


class MemorySink:
    """Keeps the reports in ``reports``."""

    def __init__(self) -> None:
        self.reports: list[AlignmentReport] = []

    def write(self, report: AlignmentReport) -> None:
        """Keep one report."""
        self.reports.append(report)


class JsonlSink:
    """The lossless record of a run: one report a line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def write(self, report: AlignmentReport) -> None:
        """Append one line, on the disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = report.to_json().encode() + b"\n"
        with self.path.open("a+b") as file:
            file.write(b"\n" + line if _ends_inside_a_line(file) else line)
            file.flush()
            os.fsync(file.fileno())

    def truncate_after(self, step: int) -> None:
        """Drop what lies beyond a step to which a run goes back; lines that are none stay."""
        if not self.path.exists():
            return
        # Bytes, as a line may be cut inside a character; JSON may hold other ends of lines.
        lines = self.path.read_bytes().split(b"\n")
        kept = [line for line in lines if (_step(line) or 0) <= step]
        if len(kept) < len(lines):
            beside = self.path.with_suffix(".tmp")
            beside.write_bytes(b"\n".join(kept))
            beside.replace(self.path)

    def rotate(self) -> None:
        """Set an earlier run's record aside, as ``reports-1.jsonl``, ``reports-2.jsonl``, ..."""
        if not self.path.exists():
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}-{number}.jsonl")).exists():
            number += 1
        self.path.rename(aside)


class WandbSink:
    """Logs to the W&B run that is live; does nothing while there is none.

    Scalars carry ``train/global_step`` in the same dictionary, as the Trainer's own do, and never
    ``step=``, which would drop or merge rows. The alignment curve by layer and the heat map
    language x layer are logged as pictures, over whose steps W&B has a slider; the curve of the
    latest step also as a chart of W&B's own, which has none.

    In the summary each key has its last value, a plain number as a sweep needs it; the best values
    stand there as ``neuronxa_best/<metric>/<language>``.

    Args:
        record: The JSONL file that goes into the artifact at the end.
        last_step: A step up to which a resumed run has been logged already.
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
            known = {**report.fingerprint, "corpus": corpus_table(report)}
            run.config.update({"neuronxa": known}, allow_val_change=True)
            for earlier in self._recorded():
                self._note_best(earlier.scalars())
        for key in scalars:
            self._define(run, key)
        run.log({**scalars, **self._media(report), "train/global_step": report.step})
        self._note_best(scalars)
        run.summary.update(self.best)

    def close(self) -> None:
        """One artifact with the record and the long table, if there is a record."""
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
        # Exact names: a glob loses to the Trainer's own "*" in some runs and wins in others.
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

        found: dict[str, Any] = {}
        for metric in report.metrics:
            found[f"neuronxa_charts/{metric}_by_layer"] = _lines(report, metric)
            pictures = {"curve": charts.by_layer, "heat_map": charts.heat_map}
            for name, draw in pictures.items():
                found[f"neuronxa_charts/{metric}_{name}"] = wandb.Image(
                    charts.pixels(draw(report, metric)), caption=f"{metric}, step {report.step}"
                )
        return found


def _lines(report: AlignmentReport, metric: str) -> Any:
    """W&B's own chart of the curve by layer, which shows the latest step alone."""
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
    """Writes scalars for TensorBoard, under the same keys."""

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
    """Logs scalars to the active MLflow run, which must be kept in a database.

    MLflow's old store of files cannot hold both ``a/b`` and ``a/b/low``.
    """

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        import mlflow

        mlflow.log_metrics(report.scalars(), step=report.step)


class TrackioSink:
    """Logs scalars to the trackio run that is live, beside the Trainer's own."""

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        import trackio

        trackio.log({**report.scalars(), "train/global_step": report.step})


def sinks_for(
    trackers: Iterable[str], folder: str | Path, last_step: int | None = None
) -> tuple[Sink, ...]:
    """The sinks of the trackers that a Trainer reports to; others are left to themselves.

    Args:
        trackers: ``args.report_to``.
        folder: Where this package writes for the run.
        last_step: See ``WandbSink``.
    """
    folder, names = Path(folder), list(trackers)
    found: list[Sink] = []
    if "wandb" in names or "all" in names or _wandb_is_live():
        found.append(WandbSink(folder / "reports.jsonl", last_step))
    if "tensorboard" in names:
        found.append(TensorBoardSink(folder / "tensorboard"))
    if "mlflow" in names:
        found.append(MlflowSink())
    if "trackio" in names:
        found.append(TrackioSink())
    return tuple(found)


def corpus_table(report: AlignmentReport) -> list[dict[str, Any]]:
    """One row per language: its name, pairs, and tokens per sentence where they were counted."""
    counted = report.diagnostics.get("tokens", {}).get("languages", {})
    return [
        {
            "language": language,
            "name": codes.name(language),
            "pairs": report.n_pairs,
            "tokens": counted.get(language, {}).get("target", {}).get("per_sentence"),
            "pivot_tokens": counted.get(language, {}).get("pivot", {}).get("per_sentence"),
        }
        for language in report.languages
    ]


def long_table(reports: Sequence[AlignmentReport]) -> str:
    """All cells of all reports as CSV: step, language, layer, metric, score, low, high."""
    file = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for report in reports:
        for row in report.rows():
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
    return file.getvalue()


def _wandb_is_live() -> bool:
    return getattr(sys.modules.get("wandb"), "run", None) is not None


def _ends_inside_a_line(file: BinaryIO) -> bool:
    """Whether a job was killed while it wrote the last line."""
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
