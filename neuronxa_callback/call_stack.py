"""The calls that are running in this thread: some facts about a Trainer are nowhere else."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


def frames() -> Iterator[FrameType]:
    """The running calls, from the caller on outwards."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_method(frame: FrameType, owner: str, name: str) -> bool:
    """Whether a call is one of a method of a class, or of a class derived from it."""
    if frame.f_code.co_name != name:
        return False
    return any(each.__name__ == owner for each in type(frame.f_locals.get("self")).__mro__)


def running_trainers() -> Iterator[Any]:
    """The Trainers whose ``train`` is running, from the innermost one outwards."""
    return (f.f_locals["self"] for f in frames() if is_method(f, "Trainer", "train"))
