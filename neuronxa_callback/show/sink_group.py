"""All sinks of one run: a sink that fails is reported once, and training goes on."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from neuronxa_callback.history.records import FOLDER, RECORD
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.sinks import JsonlSink, Sink, sinks_for

log = logging.getLogger(__name__)


class SinkGroup:
    """Writes every report to several sinks; no sink can stop a run."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self.sinks = tuple(sinks)
        self._warned: set[str] = set()

    @classmethod
    def open(
        cls,
        output_dir: str | Path,
        trackers: Sequence[str],
        sinks: Sequence[Sink] | None = None,
        resumed_at: int | None = None,
    ) -> Self:
        """The sinks of a run: always the JSONL record, then trackers or given sinks.

        Args:
            output_dir: The output folder of the Trainer.
            trackers: ``args.report_to``.
            sinks: Replace the sinks of the trackers; None keeps those.
            resumed_at: The step a run resumes from: later reports are dropped from its record.
                None starts a new record and renames an old one.
        """
        folder = Path(output_dir) / FOLDER
        record = JsonlSink(folder / RECORD)
        if sinks is None:
            sinks = sinks_for(trackers, folder, last_step=resumed_at)
        group = cls((record, *sinks))
        prepare = (
            record.rotate if resumed_at is None else partial(record.truncate_after, resumed_at)
        )
        group._guard(record, prepare)
        return group

    def write(self, report: AlignmentReport) -> None:
        """Write a report to all sinks."""
        for sink in self.sinks:
            self._guard(sink, partial(sink.write, report))

    def close(self) -> None:
        """Close the sinks that have a ``close`` method."""
        for sink in self.sinks:
            self._guard(sink, getattr(sink, "close", lambda: None))

    def _guard(self, sink: Sink, action: Callable[[], object]) -> None:
        """Run an action; if it fails, log one warning per cause."""
        try:
            action()
        except Exception as error:
            message = f"{type(sink).__name__}: {type(error).__name__}: {error}"
            if message not in self._warned:
                self._warned.add(message)
                log.warning("a sink failed, training goes on: %s", message)
