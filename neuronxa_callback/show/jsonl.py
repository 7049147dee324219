"""The lossless record of a run: a JSONL file with one report per line."""

import json
import os
from pathlib import Path
from typing import BinaryIO

from neuronxa_callback.report import AlignmentReport


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

    def copy_from(self, other: Path) -> None:
        """Begin with the lines of another record, for a run that resumes in another folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(other.read_bytes())

    def rotate(self) -> None:
        """Rename the record of an earlier run to ``reports-1.jsonl``, ``reports-2.jsonl``, ..."""
        if not self.path.exists():
            return
        number = 1
        while (target := self.path.with_name(f"{self.path.stem}-{number}.jsonl")).exists():
            number += 1
        self.path.rename(target)


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
