"""The record of a run: a JSONL file with one report per line, read when a report is needed.

A record may contain several runs, told apart by ``run["id"]`` of their reports. A large record does
not fit into memory, so ``RunReports`` holds places in the file, and one report at a time.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, overload

from neuronxa_callback.errors import ConfigError, ReportError, unknown
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import parse_report

log = logging.getLogger(__name__)

FOLDER, RECORD = "neuronxa", "reports.jsonl"
"""The record of a run is ``<output folder>/neuronxa/reports.jsonl``."""
SWEEP = "sweep.jsonl"
"""The record of a sweep over its checkpoints, in the same folder."""
SWEPT = "swept"
"""The entry of a report's ``run`` with the weights that a sweep measured and how it loaded them."""


def read_reports(path: str | Path, run: str | None = None) -> list[AlignmentReport]:
    """Read all reports of a run into memory.

    A line that is not a report, such as one cut off when a job was killed, is skipped with a
    warning that names it.

    Args:
        path: A JSONL file of reports, or the output folder of a run.
        run: The id of a run, if the file has several; None for the one that wrote last.

    Returns:
        The reports in the order of their steps. If a step has several, the last one in the file.

    Raises:
        ConfigError: If there is no such file or no such run.
    """
    reports, messages = read_record(path, run)
    for message in messages:
        log.warning(message)
    return list(reports)


class RunReports(Sequence[AlignmentReport]):
    """The reports of one run in the order of their steps, each read from the file when needed.

    Args:
        file: The record.
        places: step -> (offset, size) of its line in bytes.
    """

    def __init__(self, file: Path, places: Mapping[int, tuple[int, int]]) -> None:
        self.file = file
        self.steps = tuple(sorted(places))
        self._places = places

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> AlignmentReport: ...

    @overload
    def __getitem__(self, index: slice) -> list[AlignmentReport]: ...

    def __getitem__(self, index: int | slice) -> AlignmentReport | list[AlignmentReport]:
        if isinstance(index, slice):
            return [self.of_step(step) for step in self.steps[index]]
        return self.of_step(self.steps[index])

    def of_step(self, step: int) -> AlignmentReport:
        """The report of a step.

        Raises:
            KeyError: If there is none.
            ReportError: If the file has changed since it was opened.
        """
        offset, size = self._places[step]
        with self.file.open("rb") as file:
            file.seek(offset)
            line = file.read(size)
        try:
            report = AlignmentReport.from_json(line.decode())
        except ValueError:
            report = None
        if report is None or report.step != step:
            raise ReportError(f"{self.file} must not change while it is read; read it again")
        return report


@dataclass(frozen=True)
class Record:
    """The runs of a file."""

    file: Path
    runs: dict[str, RunReports]
    """id -> its reports; ``""`` for reports without an id. The run that wrote last is last."""
    skipped: tuple[str, ...]
    """One message per line that is not a report."""
    mixed: tuple[str, ...] = ()
    """One message per run that seems to hold the reports of two trainings."""

    @classmethod
    def open(cls, path: str | Path) -> "Record":
        """Find the reports of a file, one line in memory at a time.

        Raises:
            ConfigError: If there is no such file.
        """
        file = find_record(path)
        runs: dict[str, dict[int, tuple[int, int]]] = {}
        again: dict[str, set[int]] = {}
        skipped = []
        with file.open("rb") as opened:
            for number, offset, line in numbered_lines(opened):
                try:
                    plain = parse_report(line.decode())
                except ValueError as error:
                    skipped.append(f"{file}:{number} is left out: not an alignment report: {error}")
                    continue
                run = plain["run"].get("id", "")
                runs[run] = runs.pop(run, {})
                # A sweep measures the checkpoints again that have changed.
                if plain["step"] in runs[run] and SWEPT not in plain["run"]:
                    again.setdefault(run, set()).add(plain["step"])
                runs[run][plain["step"]] = offset, len(line)
        mixed = [_older_steps(file, runs[run], steps) for run, steps in again.items()]
        reports = {run: RunReports(file, places) for run, places in runs.items()}
        return cls(file, reports, tuple(skipped), tuple(filter(None, mixed)))

    def messages(self) -> list[str]:
        """What a reader of the record should know."""
        return [*shorten_messages(self.skipped), *self.mixed]

    def of_run(self, run: str | None = None) -> Sequence[AlignmentReport]:
        """The reports of a run; None for the one that wrote last.

        Raises:
            ConfigError: If there is no such run.
        """
        if run is None:
            return self.runs[next(reversed(self.runs))] if self.runs else ()
        if run not in self.runs:
            raise ConfigError(unknown(f"run in {self.file}", run, self.runs))
        return self.runs[run]


def read_record(
    path: str | Path, run: str | None = None
) -> tuple[Sequence[AlignmentReport], list[str]]:
    """The reports of one run, read when needed, and messages: bad lines, and other runs.

    Raises:
        ConfigError: If there is no such file or no such run.
    """
    record = Record.open(path)
    messages = record.messages()
    if run is None and len(record.runs) > 1:
        *others, last = record.runs
        messages.append(
            f"{record.file} has the reports of {len(record.runs)} runs; those of run {last!r} are"
            f" read, others are {', '.join(map(repr, others))}"
        )
    return record.of_run(run), messages


def _older_steps(file: Path, places: Mapping[int, tuple[int, int]], again: set[int]) -> str | None:
    """A message if steps were written before an earlier step, which is in the file twice."""
    first = min(again)
    older = [step for step in sorted(places) if step > first and places[step] < places[first]]
    if not older:
        return None
    steps = ", ".join(map(str, older))
    return (
        f"{file} has step {first} twice, and older reports of step {steps}: it seems to hold two"
        " trainings in one curve; give each its own file, or call rotate() on the JsonlSink before"
        " the first report and truncate_after(step) where a training resumes"
    )


def shorten_messages(messages: Sequence[str], most: int = 5) -> list[str]:
    """The first messages about lines that are left out, and the number of the others.

    >>> shorten_messages(["a", "b", "c", "d"], most=2)
    ['a', 'b', '2 more lines are left out, for reasons like these']
    """
    more = len(messages) - most
    rest = [f"{more} more lines are left out, for reasons like these"] if more > 0 else []
    return [*messages[:most], *rest]


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, offset, line) of lines that are not empty; a line ends at a newline byte."""
    offset = 0
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, offset, line
        offset += len(line)


def find_record(path: str | Path) -> Path:
    """The JSONL file of a run: the path itself, or the record in that folder.

    Raises:
        ConfigError: If there is none.
    """
    path = Path(path)
    for file in (path, path / RECORD, path / FOLDER / RECORD):
        if file.is_file():
            return file
    swept = path / FOLDER / SWEEP
    hint = f"; the record of its sweep is {str(swept)!r}" if swept.is_file() else ""
    raise ConfigError(
        f"a run must be a JSONL file of reports or a folder that holds {FOLDER}/{RECORD}, got"
        f" {str(path)!r}{hint}"
    )
