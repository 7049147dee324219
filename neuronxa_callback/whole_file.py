"""Files that are whole or not there: written beside, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuronxa_callback.errors import ConfigError, reason


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A path to write to, beside a file that it replaces when the block ends without an error.

    Args:
        path: The file. What is no regular file, such as ``/dev/stdout``, is written directly.

    Raises:
        ConfigError: If it cannot be written; names the file.

    Example::

        with whole_file("alignment.png") as beside:
            figure.savefig(beside)
    """
    final = Path(os.path.realpath(path))
    is_special = final.exists() and not final.is_file()
    # The suffix stays: matplotlib takes the format from it.
    beside = final if is_special else final.with_name(f".{final.stem}-{os.getpid()}{final.suffix}")
    try:
        yield beside
        if not is_special:
            if final.exists():
                shutil.copymode(final, beside)
            beside.replace(final)
    except OSError as cause:
        raise ConfigError(f"cannot write {path}: {reason(cause)}") from None
    finally:
        if not is_special:
            beside.unlink(missing_ok=True)
