"""A lock on the record of a run, so that two runs in one folder do not write one file."""

import os
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

try:
    import fcntl
except ImportError:  # Windows: only the runs of one process see each other.
    LOCKS = False
else:
    LOCKS = True


class RecordLock:
    """The right to write a record, until it is closed or its process ends.

    It is a ``flock`` on a file beside the record, which the operating system releases when a
    process dies, also by SIGKILL. On NFS it holds between machines if the server has a lock
    service. On a file system without locks every run gets its lock, so two runs may write one
    record; readers then tell them apart by the id in each report.
    """

    def __init__(self, run: str, file: BinaryIO) -> None:
        self.run, self._file = run, file

    @classmethod
    def acquire(cls, record: Path, run: str) -> "RecordLock | None":
        """Lock a record for a run; None if another run that is alive holds it.

        A run that resumes in the process in which it was interrupted gets its own lock again.

        Raises:
            OSError: If the lock cannot be created.
        """
        path = os.path.realpath(record.with_suffix(".lock"))
        held = _HELD.get(path)
        if held is not None:
            return held if held.run == run else None
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
