"""All sinks of one run: a sink that fails is reported once, and training goes on."""

import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.records import FOLDER, RECORD
from neuronxa_callback.metrics.registry import ALIGNMENT
from neuronxa_callback.option_checks import list_of, require, require_text
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.jsonl import JsonlSink
from neuronxa_callback.show.sinks import Sink, sinks_for

log = logging.getLogger(__name__)


def check_name(name: str) -> str:
    """The name of a callback, which is a part of keys and paths.

    Raises:
        ConfigError: If it cannot be one.
    """
    require_text("name", name)
    if not re.fullmatch(r"[A-Za-z0-9_-]*", name) or name in (*ALIGNMENT, "seconds", "tensorboard"):
        raise ConfigError(
            f"name must be made of letters, digits, '_' and '-', and be no metric, got {name!r}"
        )
    return name


def check_sinks(sinks: Any) -> tuple[Any, ...] | None:
    """The sinks of a callback; None for the trackers.

    Raises:
        ConfigError: If they are not objects with ``write(report)``.
    """
    if sinks is None:
        return None
    expected = "a list of objects with write(report), or None"
    given = list_of("sinks", expected, sinks, object)
    for sink in given:
        writes = not isinstance(sink, type) and callable(getattr(sink, "write", None))
        require(writes, "sinks", expected, sinks)
    return given


class SinkGroup:
    """Writes every report to several sinks; no sink can stop a run."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self.sinks = tuple(sinks)
        self._warned: set[str] = set()
        self.record_path: str | None = None
        """The record of the run; a resume in another folder carries its reports over."""

    @classmethod
    def open(
        cls,
        output_dir: str | Path,
        trackers: Sequence[str],
        sinks: Sequence[Sink] | None = None,
        resumed_at: int | None = None,
        name: str = "",
        previous_record: str | None = None,
    ) -> Self:
        """The sinks of a run: always the JSONL record, then trackers or given sinks.

        Args:
            output_dir: The output folder of the Trainer.
            trackers: ``args.report_to``.
            sinks: Replace the sinks of the trackers; None keeps those.
            resumed_at: The step a run resumes from: later reports are dropped from its record.
                None starts a new record and renames an old one.
            name: The name of the callback, which has a folder of its own.
            previous_record: The record of the run that is resumed. If it is elsewhere, its reports
                up to that step are copied into a new record.
        """
        folder = Path(output_dir) / FOLDER / name
        record = JsonlSink(folder / RECORD)
        if sinks is None:
            sinks = sinks_for(trackers, folder, last_step=resumed_at)
        group = cls((record, *sinks))
        prepare = (
            record.rotate if resumed_at is None else partial(record.truncate_after, resumed_at)
        )
        if resumed_at is not None and not record.path.exists():
            if previous_record is not None and Path(previous_record).is_file():
                group._guard(record, partial(record.copy_from, Path(previous_record)))
            else:
                log.warning("%s begins at step %d, where this run resumes", record.path, resumed_at)
        group._guard(record, prepare)
        group.record_path = str(record.path.resolve())
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
