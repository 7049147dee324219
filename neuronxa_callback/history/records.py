"""The record of a run: a JSONL file with one report per line."""

import logging
from pathlib import Path

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

FOLDER, RECORD = "neuronxa", "reports.jsonl"
"""The record of a run is ``<output folder>/neuronxa/reports.jsonl``."""


def read_reports(path: str | Path) -> list[AlignmentReport]:
    """Read the reports of a run.

    A line that is not a report, such as one cut off when a job was killed, is skipped with a
    warning that names it.

    Args:
        path: A JSONL file of reports, or the output folder of a run.

    Returns:
        The reports in the order of their steps. If a step has several, the last one in the file.

    Raises:
        ConfigError: If there is no such file.
    """
    reports, skipped = read_record(path)
    for message in skipped:
        log.warning(message)
    return reports


def read_record(path: str | Path) -> tuple[list[AlignmentReport], list[str]]:
    """As ``read_reports``, but the warnings are returned: (reports, one message per bad line).

    Raises:
        ConfigError: If there is no such file.
    """
    file = find_record(path)
    by_step: dict[int, AlignmentReport] = {}
    skipped: list[str] = []
    # Not str.splitlines: JSON may contain other line separators, such as U+2028.
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            report = AlignmentReport.from_json(line.decode())
        except ValueError as error:
            skipped.append(f"{file}:{number} is left out: {error}")
            continue
        by_step[report.step] = report
    return [by_step[step] for step in sorted(by_step)], skipped


def find_record(path: str | Path) -> Path:
    """The JSONL file of a run: the path itself, or the record in that folder.

    Raises:
        ConfigError: If there is none.
    """
    path = Path(path)
    for file in (path, path / RECORD, path / FOLDER / RECORD):
        if file.is_file():
            return file
    raise ConfigError(
        f"a run must be a JSONL file of reports or a folder that holds {FOLDER}/{RECORD}, got"
        f" {str(path)!r}"
    )
