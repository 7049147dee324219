"""Sinks: objects that write reports to a file or to a tracker.

A sink is any object with ``write(report)``, and optionally ``close()``, which is called when the
training ends. Only the trackers in use are imported.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from neuronxa_callback.history.records import RECORD
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.pictures import PICTURES_EVERY, Pictures
from neuronxa_callback.show.scalar_choice import DEFAULT, check_scalars, choose_scalars
from neuronxa_callback.show.wandb_sink import WandbSink

log = logging.getLogger(__name__)


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


class TensorBoardSink:
    """Writes scalars and pictures to an event file for TensorBoard.

    Args:
        folder: The folder of the file, made when needed.
        scalars: Which scalars: see ``choose_scalars``.
        pictures_every: Draw pictures of the first of so many probes, and of the last probe.

    Raises:
        ConfigError: If an option cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        scalars: str = DEFAULT,
        pictures_every: int = PICTURES_EVERY,
    ) -> None:
        self.folder, self.scalars = str(folder), check_scalars(scalars)
        self.pictures = Pictures(pictures_every)
        self.writer: Any = None

    def write(self, report: AlignmentReport) -> None:
        """Write one report."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(self.folder)
        for key, value in choose_scalars(report, self.scalars).items():
            self.writer.add_scalar(key, value, report.step)
        self._add_pictures(self.pictures.due(report), report.step)
        self.writer.flush()

    def close(self) -> None:
        """Write the pictures of the last report and close the file."""
        if self.writer is not None:
            self._add_pictures(*self.pictures.of_last())
            self.writer.close()

    def _add_pictures(self, images: Mapping[str, Any], step: int) -> None:
        for key, image in images.items():
            self.writer.add_image(key, image[..., :3], step, dataformats="HWC")


class MlflowSink:
    """Logs the scalars to the active MLflow run.

    MLflow must use a database: its file store cannot hold both ``a/b`` and ``a/b/low``.

    Args:
        scalars: Which scalars: see ``choose_scalars``.
    """

    def __init__(self, scalars: str = DEFAULT) -> None:
        self.scalars = check_scalars(scalars)

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        import mlflow

        mlflow.log_metrics(choose_scalars(report, self.scalars), step=report.step)


class TrackioSink:
    """Logs the scalars to the active trackio run, next to those of the Trainer.

    Args:
        scalars: Which scalars: see ``choose_scalars``.
    """

    def __init__(self, scalars: str = DEFAULT) -> None:
        self.scalars = check_scalars(scalars)

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        import trackio

        scalars = choose_scalars(report, self.scalars)
        trackio.log({**scalars, "train/global_step": report.step})


def sinks_for(
    trackers: Iterable[str],
    folder: str | Path,
    last_step: int | None = None,
    record: Path | None = None,
    scalars: str = DEFAULT,
    event_folder: str | Path | None = None,
) -> tuple[Sink, ...]:
    """The sinks for the trackers that a Trainer reports to; unknown trackers are skipped.

    An active W&B run that ``report_to`` does not name is left alone: its owner may log with
    ``step=``, and W&B drops such rows after anybody else's.

    Args:
        trackers: ``args.report_to``.
        folder: The folder of the record.
        last_step: See ``WandbSink``.
        record: The record; None for the usual one in the folder.
        scalars: See ``choose_scalars``.
        event_folder: The folder of the events for TensorBoard; None for one beside the record.
    """
    folder, names = Path(folder), list(trackers)
    sinks: list[Sink] = []
    if "wandb" in names or "all" in names:
        sinks.append(WandbSink(record or folder / RECORD, last_step, scalars=scalars))
    elif _wandb_is_active():
        log.warning(
            "the active W&B run gets no scores, since report_to does not name wandb; to log there"
            " (which advances its step counter), pass"
            " sinks=[neuronxa_callback.show.sinks.WandbSink()]"
        )
    if "tensorboard" in names:
        sinks.append(TensorBoardSink(event_folder or folder / "tensorboard", scalars))
    if "mlflow" in names:
        sinks.append(MlflowSink(scalars))
    if "trackio" in names:
        sinks.append(TrackioSink(scalars))
    return tuple(sinks)


def _wandb_is_active() -> bool:
    return getattr(sys.modules.get("wandb"), "run", None) is not None
