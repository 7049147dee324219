"""The lossless record of a run: a JSONL file with one report per line."""

import json
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from neuronxa_callback.history.records import numbered_lines
from neuronxa_callback.report import AlignmentReport


class JsonlSink:
    """Writes a lossless record of a run: a JSONL file with one report per line.

    Args:
        path: The file; its folder is created if needed. ``read_reports`` reads it back. It stays
            the same file if the working folder changes later.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._began_in = absolute(Path())

    @property
    def _file(self) -> Path:
        return self._began_in / self.path

    def write(self, report: AlignmentReport) -> None:
        """Append one line and flush it to the disk."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        line = report.to_json().encode() + b"\n"
        with self._file.open("a+b") as file:
            file.write(b"\n" + line if _ends_inside_a_line(file) else line)
            file.flush()
            os.fsync(file.fileno())

    def truncate_after(self, step: int, run: str | None = None) -> None:
        """Drop the reports after a step, for a run that resumes there; keep unreadable lines.

        Args:
            step: The last step to keep.
            run: The id of the run that resumes, other runs are kept; None for all runs.
        """
        if not self._file.exists():
            return
        temporary, dropped = self._file.with_suffix(".tmp"), 0
        # As bytes: a line may be cut inside a character, and JSON may contain U+2028.
        with self._file.open("rb") as old, temporary.open("wb") as new:
            for _, _, line in numbered_lines(old):
                is_later = _is_after(line, step, run)
                dropped += is_later
                new.write(b"" if is_later else line)
        if dropped:
            temporary.replace(self._file)
        else:
            temporary.unlink()

    def copy_from(self, other: Path) -> None:
        """Begin with the lines of another record, for a run that resumes in another folder."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(other, self._file)

    def rotate(self) -> None:
        """Rename the record of an earlier run to ``reports-1.jsonl``, ``reports-2.jsonl``, ..."""
        if not self._file.exists():
            return
        if self._file.is_file() and self._file.stat().st_size == 0:
            self._file.unlink()
            return
        number = 1
        while (target := self._file.with_name(f"{self._file.stem}-{number}.jsonl")).exists():
            number += 1
        self._file.rename(target)


def absolute(path: Path) -> Path:
    """The path from the root, whose working folder may change; as it is if that was deleted."""
    try:
        return Path(os.path.abspath(path))
    except OSError:
        return path


def _ends_inside_a_line(file: BinaryIO) -> bool:
    """Whether the last line has no end, because a job was killed while it wrote."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _is_after(line: bytes, step: int, run: str | None) -> bool:
    """Whether a line is a report of this run after a step; False if it cannot be read."""
    try:
        plain = json.loads(line)
        belongs = run is None or plain["run"].get("id", "") == run
        return belongs and isinstance(plain["step"], int) and plain["step"] > step
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
