"""Text files line by line: UTF-8, plain or gzip, with any line ending.

Only a line feed ends a line (with or without a carriage return): sentences may contain other
Unicode line separators. A byte order mark is not part of the first line.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from neuronxa_callback.corpus.text import is_blank_text
from neuronxa_callback.errors import CorpusError, reason

MAX_LINE_BYTES = 1 << 24
"""A longer line means that the file is not line-based text."""


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed if its name ends in ``.gz``."""
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def raw_lines(path: Path) -> Iterator[bytes]:
    """Lines as bytes, including their line endings.

    Raises:
        CorpusError: If there is no such file, it cannot be read or is not line-based text.
    """
    try:
        with open_bytes(path) as file:
            lines = iter(lambda: file.readline(MAX_LINE_BYTES), b"")
            for number, line in enumerate(lines, start=1):
                if len(line) == MAX_LINE_BYTES:
                    raise CorpusError(
                        f"a line may have at most {MAX_LINE_BYTES} bytes, but {path}:{number} has"
                        " more; is it a text file?"
                    )
                yield line
    except FileNotFoundError:
        raise CorpusError(f"there is no file {str(path)!r}") from None
    except (OSError, EOFError, zlib.error) as cause:
        raise CorpusError(f"cannot read {path}: {reason(cause)}") from None


def text_lines(path: Path) -> Iterator[str]:
    """Lines as text, without byte order mark and line endings.

    Raises:
        CorpusError: If a line is not UTF-8; the message names file and line.
    """
    for i, line in enumerate(raw_lines(path)):
        yield decode_line(path, i, line)


def decode_line(path: Path, i: int, line: bytes) -> str:
    """Line i (from 0) of a file as text, without byte order mark and line ending.

    Raises:
        CorpusError: If it is not UTF-8; the message names file and line.
    """
    if i == 0:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as cause:
        raise CorpusError(
            f"a corpus must be UTF-8 text, but {path}:{i + 1} has the invalid"
            f" byte 0x{line[cause.start]:02x} at position {cause.start}; convert the file first"
        ) from None


def read_lines(path: Path, limit: int | None = None) -> list[str]:
    """The first ``limit`` lines; None for all."""
    return list(islice(text_lines(path), limit))


class LineCount(NamedTuple):
    """The lines of a file."""

    last: int
    """The number of the last line that is not blank."""
    total: int
    blanks: tuple[int, ...] = ()
    """The numbers of the blank lines before ``last``."""


def count_lines(lines: Iterable[bytes]) -> LineCount:
    """Counts lines, and lists the blank ones."""
    last = number = 0
    blanks: list[int] = []
    for number, line in enumerate(lines, start=1):
        if is_blank(line):
            blanks.append(number)
        else:
            last = number
    return LineCount(last, number, tuple(blank for blank in blanks if blank < last))


def is_blank(line: bytes) -> bool:
    """Whether a line has nothing but white space and zero-width characters of Unicode."""
    if len(line) > 64 or line[:1].isalnum():
        return not line.strip()
    return is_blank_text(line.decode("utf-8", "replace"))
