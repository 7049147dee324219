"""``neuronxa sweep --watch``: score checkpoints of a run while another process trains it."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from neuronxa_callback.cli.checkpoints.folders import (
    Checkpoint,
    folders_of_steps,
    incomplete,
    signature,
)
from neuronxa_callback.cli.checkpoints.sweep import Sweep, swept_weights
from neuronxa_callback.cli.checkpoints.wandb_publisher import WandbPublisher, write_whole
from neuronxa_callback.cli.run_record import read_and_warn
from neuronxa_callback.errors import ConfigError, FingerprintError, NeuronXAError
from neuronxa_callback.history.history import History
from neuronxa_callback.history.rule_events import RuleOutcome, apply_rules
from neuronxa_callback.history.stopping import StopRule
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import terminal
from neuronxa_callback.show.record_lock import RecordLock

TRIES = 2
"""A checkpoint that cannot be scored is tried so many times, with a wait in between."""


class Terminated(BaseException):
    """SIGTERM or Ctrl-C; no ``Exception``, so that no handler of errors takes it for one."""


class Arrivals:
    """The checkpoints of a run that are complete and not scored, in order of their steps.

    A checkpoint is complete if nothing is missing and no file has changed since the look before.
    One that stays incomplete is named after ``TRIES`` looks and left out until its files change;
    until then later ones wait for it.
    """

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self.run, self._say = run, say
        self._seen: dict[str, Any] = {}
        """location -> signature at the latest look."""
        self._failures: dict[str, int] = {}
        """location -> tries that failed with this signature."""
        self.left_out: set[int] = set()
        """Steps that were left out once."""

    def look(self, is_scored: Callable[[Checkpoint], bool]) -> tuple[list[Checkpoint], bool]:
        """The checkpoints to score now, and whether others may become complete."""
        ready: list[Checkpoint] = []
        for checkpoint in folders_of_steps(self.run):
            if is_scored(checkpoint):
                continue
            place, files = checkpoint.location, signature(Path(checkpoint.location))
            if self._seen.get(place) != files:
                self._seen[place], self._failures[place] = files, 0
                self._note_later()
                return ready, True
            if self._failures[place] >= TRIES:
                continue
            problem = incomplete(Path(place))
            if problem is None:
                ready.append(checkpoint)
            elif not self.fail(checkpoint, problem):
                return ready, True
        return ready, False

    def _note_later(self) -> None:
        """Later checkpoints need not be looked at twice when their turn comes."""
        for checkpoint in folders_of_steps(self.run):
            files = signature(Path(checkpoint.location))
            if checkpoint.location not in self._seen:
                self._seen[checkpoint.location], self._failures[checkpoint.location] = files, 0

    def fail(self, checkpoint: Checkpoint, problem: str) -> bool:
        """Count a failed try; whether the checkpoint is now left out."""
        if not Path(checkpoint.location).is_dir():
            return True
        self._failures[checkpoint.location] += 1
        left_out = self._failures[checkpoint.location] >= TRIES
        if left_out:
            self.left_out.add(checkpoint.step)
            self._say(f"NeuronXA: step {checkpoint.step} is left out: {problem}")
        return left_out


@dataclass(frozen=True)
class WatchOptions:
    """When a watch ends, and what follows from a report."""

    until_step: int | None = None
    stop_file: Path | None = None
    """The watch ends when it exists; the verdict of a stop rule is written to it."""
    rules: Sequence[StopRule] = ()


class Watch:
    """Scores checkpoints as they become complete, into a record that a second watch continues.

    Args:
        run: The folder of the run; it need not exist yet.
        record: The JSONL file of the reports.
        make_sweep: Makes the sweep when there are checkpoints, with the run's own options.
        options: When it ends.
        wait: Called between two looks.
        publisher: Logs the reports to a W&B run.
        say: Prints a line.
    """

    def __init__(
        self,
        run: Path,
        record: Path,
        make_sweep: Callable[[list[Checkpoint]], Sweep],
        options: WatchOptions,
        wait: Callable[[], None],
        publisher: WandbPublisher | None = None,
        say: Callable[[str], None] = terminal.say,
    ) -> None:
        self.record, self._make_sweep, self.options = record, make_sweep, options
        self._wait, self._publisher, self._say = wait, publisher, say
        self.arrivals = Arrivals(run, say)
        self.reports: dict[int, AlignmentReport] = {}
        self._sweep: tuple[Sweep, Any] | None = None
        self._busy, self._terminated = False, False

    def new_reports(self) -> Iterator[AlignmentReport]:
        """Score until the end; a report is written before it is yielded.

        Raises:
            ConfigError: If another process writes the record, or an option cannot be used.
            FingerprintError: If the reports of the record do not measure the same.
        """
        self.record.parent.mkdir(parents=True, exist_ok=True)
        lock = RecordLock.acquire(self.record, "watch")
        if lock is None:
            raise ConfigError(
                f"one process at a time can write {self.record}, another one does; wait for its end"
                " or choose another file with --out"
            )
        try:
            with self._ending_on_signals():
                if self.record.is_file():
                    self.reports = {report.step: report for report in read_and_warn(self.record)}
                self._follow_up()
                yield from self._score_until_the_end()
        except Terminated:
            self._say("NeuronXA: ended by a signal; the same command goes on from here")
        finally:
            lock.close()

    def _score_until_the_end(self) -> Iterator[AlignmentReport]:
        while True:
            ends = self.options.stop_file is not None and self.options.stop_file.exists()
            ready, is_waiting = self.arrivals.look(self._is_scored)
            for checkpoint in ready:
                try:
                    report = self._measure(checkpoint)
                except FingerprintError:
                    raise
                except (NeuronXAError, OSError) as error:
                    is_waiting = not self.arrivals.fail(checkpoint, str(error)) or is_waiting
                    break
                self._finish(report)
                yield report
            else:
                if not is_waiting and (ends or self._is_last_step_done()):
                    with self._uninterrupted():
                        self._publish(last=True)
                    return
            self._wait()

    def _is_last_step_done(self) -> bool:
        last = self.options.until_step
        return last is not None and any(
            step >= last for step in {*self.reports, *self.arrivals.left_out}
        )

    def _is_scored(self, checkpoint: Checkpoint) -> bool:
        report = self.reports.get(checkpoint.step)
        return report is not None and swept_weights(report) == checkpoint.weights_id

    def _measure(self, checkpoint: Checkpoint) -> AlignmentReport:
        if self._sweep is None:
            sweep = self._make_sweep([checkpoint])
            self._sweep = sweep, sweep.prepare()
        sweep, probe = self._sweep
        return sweep.measure(probe, checkpoint)

    def _finish(self, report: AlignmentReport) -> None:
        """Write a report, and do what follows from it, without an interruption."""
        assert self._sweep is not None
        earlier = [self.reports[step] for step in sorted(self.reports) if step < report.step]
        outcome = self._decide([*earlier, report])
        report = report.with_run(**outcome.run_entries)
        with self._uninterrupted():
            self._sweep[0].write(report)
            self.reports[report.step] = report
            for line in outcome.alert_lines(report.step):
                self._say(line)
            self._follow_up()

    def _decide(self, reports: Sequence[AlignmentReport]) -> RuleOutcome:
        """What the rules decide at the last of some reports."""
        history, outcome = History(), RuleOutcome()
        for report in reports if self.options.rules else ():
            if not history.points:
                for rule in self.options.rules:
                    rule.check(report)
            history.append(report)
            outcome = apply_rules(self.options.rules, history, outcome.holding)
        return outcome

    def _follow_up(self) -> None:
        """Write a verdict and log to W&B, as far as it is due: also after a restart."""
        self._publish()
        file = self.options.stop_file
        if file is None or file.exists():
            return
        reports = [self.reports[step] for step in sorted(self.reports)]
        verdict = self._decide(reports).stop
        if verdict is not None:
            step = reports[-1].step
            write_whole(file, json.dumps({"step": step, "reason": verdict}) + "\n")
            self._say(f"NeuronXA asks at step {step} to stop this run, in {file}: {verdict}")

    def _publish(self, last: bool = False) -> None:
        if self._publisher is not None:
            reports = [self.reports[step] for step in sorted(self.reports)]
            self._publisher.publish(
                [(report, swept_weights(report) or "") for report in reports], last
            )

    @contextmanager
    def _ending_on_signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C raise ``Terminated``, also in the middle of a measurement."""

        def end(number: int, frame: FrameType | None) -> None:
            self._terminated = True
            if not self._busy:
                raise Terminated

        before: Mapping[int, Any] = {}
        with suppress(ValueError):  # Only the main thread can have handlers.
            before = {number: signal.signal(number, end) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Put a signal off until the end of a block."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._terminated:
            raise Terminated


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
