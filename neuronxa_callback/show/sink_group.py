"""All sinks of one run: a sink that fails is reported once, and training goes on."""

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.records import FOLDER, RECORD
from neuronxa_callback.metrics.registry import ALIGNMENT
from neuronxa_callback.option_checks import list_of, require, require_text
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.jsonl import JsonlSink, absolute
from neuronxa_callback.show.record_lock import RecordLock
from neuronxa_callback.show.scalar_choice import DEFAULT
from neuronxa_callback.show.sinks import Sink, sinks_for

log = logging.getLogger(__name__)


def check_name(name: str) -> str:
    """The name of a callback, which is a part of keys and paths.

    Raises:
        ConfigError: If it cannot be one.
    """
    require_text("name", name)
    is_key = re.fullmatch(r"[A-Za-z0-9_-]{0,60}", name)
    if not is_key or name in (*ALIGNMENT, "seconds", "tensorboard"):
        raise ConfigError(
            "name must be made of at most 60 letters, digits, '_' and '-', and be no metric, got"
            f" {name!r}"
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


def new_run_id() -> str:
    """An id for a run: 12 random hexadecimal digits, drawn without the seeds of training."""
    return uuid.uuid4().hex[:12]


class SinkGroup:
    """Writes every report to several sinks; no sink can stop a run."""

    def __init__(self, sinks: Sequence[Sink] = (), run: str | None = None) -> None:
        self.sinks = tuple(sinks)
        self.run = new_run_id() if run is None else run
        """The id of the run, which each report carries in ``run["id"]``."""
        self._warned: set[str] = set()
        self._locks: list[RecordLock] = []
        self._new_record: JsonlSink | None = None
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
        run: str | None = None,
        scalars: str = DEFAULT,
        events: str | Path | None = None,
    ) -> Self:
        """The sinks of a run: always the JSONL record, then trackers or given sinks.

        Args:
            output_dir: The output folder of the Trainer.
            trackers: ``args.report_to``.
            sinks: Replace the sinks of the trackers; None keeps those.
            resumed_at: The step a run resumes from: later reports are dropped from its record.
                None starts a new record and renames an old one, both at the first report: a run
                that fails before leaves the old one in its place.
            name: The name of the callback, which has a folder of its own.
            previous_record: The record of the run that is resumed. If it is elsewhere, its reports
                up to that step are copied into a new record.
            run: The id of the run that is resumed; None for a new one.
            scalars: Which scalars trackers get: see ``choose_scalars``.
            events: The folder of the Trainer's events for TensorBoard: those of the sink are in a
                sub-folder. None for a folder beside the record.
        """
        # Absolute: a training may change the working folder.
        folder = absolute(Path(output_dir)) / FOLDER / name
        group = cls(run=run)
        record = JsonlSink(folder / RECORD)
        previous = None if previous_record is None else Path(previous_record)
        group._guard(record, partial(group._open_record, record, resumed_at, previous))
        group.record_path = str(record.path)
        if sinks is None:
            below = None if events is None else absolute(Path(events)) / FOLDER / name
            sinks = sinks_for(trackers, folder, resumed_at, record.path, scalars, below)
        group.sinks = (record, *sinks)
        return group

    def _open_record(
        self, record: JsonlSink, resumed_at: int | None, previous: Path | None
    ) -> None:
        """Lock the record: a new one, or that of the run that is resumed, which is made ready."""
        record.path.parent.mkdir(parents=True, exist_ok=True)
        if previous is not None and previous.parent.resolve() == record.path.parent.resolve():
            record.path = record.path.with_name(previous.name)
        shared = record.path
        is_own = self._lock(shared)
        if is_own and resumed_at is not None and shared.exists():
            record.truncate_after(resumed_at, self.run)
            return
        if is_own and resumed_at is None:
            self._new_record = record
            return
        if not is_own:
            record.path = self._lock_other(shared)
            log.warning(
                "another run is writing %s, so this run writes %s; give every run its own"
                " output_dir",
                shared,
                record.path,
            )
        if resumed_at is None:
            return
        known = [path for path in (previous, shared) if path is not None and path.is_file()]
        if known and known[0] != record.path:
            record.copy_from(known[0])
            record.truncate_after(resumed_at, self.run)
        else:
            log.warning("%s begins at step %d, where this run resumes", record.path, resumed_at)

    def _lock(self, path: Path) -> bool:
        lock = RecordLock.acquire(path, self.run)
        self._locks += [] if lock is None else [lock]
        return lock is not None

    def _lock_other(self, path: Path) -> Path:
        """A file that does not exist, beside a record that another run writes."""
        number = 0
        while True:
            suffix = f"-{number}" if number else ""
            other = path.with_name(f"{path.stem}-{self.run or 'run'}{suffix}{path.suffix}")
            if self._lock(other) and not other.exists():
                return other
            number += 1

    @property
    def trackers(self) -> tuple[Sink, ...]:
        """The sinks other than the record."""
        return self.sinks[1:]

    def write(self, report: AlignmentReport) -> None:
        """Write a report to all sinks, with the id of the run."""
        report = report.with_run(id=self.run)
        record, self._new_record = self._new_record, None
        if record is not None:
            self._guard(record, record.rotate)
        for sink in self.sinks:
            self._guard(sink, partial(sink.write, report))

    def close(self) -> None:
        """Close the sinks that have a ``close`` method, and let other runs write the record."""
        for sink in self.sinks:
            self._guard(sink, getattr(sink, "close", lambda: None))
        self.release()

    def release(self) -> None:
        """Let other runs write the record."""
        for lock in self._locks:
            lock.close()
        self._locks = []

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Let other runs write the record if this one fails at its start."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def _guard(self, sink: Sink, action: Callable[[], object]) -> None:
        """Run an action; if it fails, log one warning per cause."""
        try:
            action()
        except Exception as error:
            message = f"{type(sink).__name__}: {type(error).__name__}: {error}"
            if message not in self._warned:
                self._warned.add(message)
                log.warning("a sink failed, training goes on: %s", message)
