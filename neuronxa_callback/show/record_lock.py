"""A lock on the record of a run, so that two runs in one folder do not write one file."""

import os
import threading
import weakref
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from neuronxa_callback.call_stack import running_trainers

try:
    import fcntl
except ImportError:  # Windows: only the runs of one process see each other.
    LOCKS = False
else:
    LOCKS = True


class Training:
    """The ``Trainer.train`` that runs in this thread when this is made, if there is one.

    It keeps neither the Trainer nor its run alive.
    """

    def __init__(self) -> None:
        trainer = next(running_trainers(), None)
        self._thread = threading.current_thread()
        self._trainer, self._state = _reference(trainer), _reference(_state_of(trainer))

    @property
    def has_ended(self) -> bool:
        """Whether it cannot go on, also if it sent no event at its end; False in doubt.

        An error or Ctrl-C ends a training without an event. What is certain: it is not on the call
        stack of its own thread, its thread is dead, or its Trainer has begun a new one.
        """
        if self._trainer is None:
            return False
        if self._thread is not threading.current_thread():
            return not self._thread.is_alive()
        trainer, running = self._trainer(), list(running_trainers())
        if trainer is None or all(each is not trainer for each in running):
            return True
        if running[0] is not trainer or self._state is None:
            return False
        return self._state() is not _state_of(trainer)


class RecordLock:
    """The right to write a record, until it is closed or its process ends.

    It is a ``flock`` on a file beside the record, which the operating system releases when a
    process dies, also by SIGKILL. On NFS it holds between machines if the server has a lock
    service. On a file system without locks every run gets its lock, so two runs may write one
    record; readers then tell them apart by the id in each report.
    """

    def __init__(self, run: str, file: BinaryIO) -> None:
        self.run, self._file = run, file
        self.training = Training()

    @classmethod
    def acquire(cls, record: Path, run: str) -> "RecordLock | None":
        """Lock a record for a run; None if another run that is alive holds it.

        A run that resumes in the process in which it was interrupted gets its own lock again, and
        a run of this process whose training has ended gives its lock up: an error or Ctrl-C closes
        no lock, and in a notebook a variable or the last traceback keeps such a run.

        Raises:
            OSError: If the lock cannot be created.
        """
        path = os.path.realpath(record.with_suffix(".lock"))
        held = _HELD.get(path)
        if held is not None and held.run == run:
            held.training = Training()
            return held
        if held is not None and not held.training.has_ended:
            return None
        if held is not None:
            held.close()
        file = Path(path).open("ab")  # noqa: SIM115 - open as long as the lock is held
        if not _try_lock(file):
            file.close()
            return None
        lock = cls(run, file)
        _HELD[path] = lock
        return lock

    def close(self) -> None:
        """Release the lock."""
        self._file.close()
        for path in [path for path, lock in _HELD.items() if lock is self]:
            del _HELD[path]


def _state_of(trainer: Any) -> Any:
    """The state of a Trainer, which is a new one in each of its trainings."""
    return getattr(trainer, "state", None)


def _reference(value: Any) -> "weakref.ref[Any] | None":
    try:
        return None if value is None else weakref.ref(value)
    except TypeError:
        return None


def _try_lock(file: BinaryIO) -> bool:
    """Whether no other process holds the lock; True on a file system without locks."""
    if not LOCKS:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _forget_in_child() -> None:
    """A forked worker must not hold the lock: it may outlive the run."""
    for lock in list(_HELD.values()):
        lock.close()


_HELD: WeakValueDictionary[str, RecordLock] = WeakValueDictionary()
"""path -> the lock that this process holds; a run that is garbage holds none."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
