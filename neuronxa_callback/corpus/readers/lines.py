"""Text files line by line: UTF-8, plain or gzip, whatever ends their lines.

A line ends at a line feed only (with or without a carriage return): a sentence may hold any other
character that Unicode calls a line break. A byte order mark is no part of the first line.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from neuronxa_callback.errors import CorpusError

LONGEST = 1 << 24
"""Most bytes of a line: a longer one means that the file is no text in lines."""


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where its name ends in ``.gz``."""
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def raw_lines(path: Path) -> Iterator[bytes]:
    """Lines as bytes, with whatever ends them.

    Raises:
        CorpusError: If there is no such file, it cannot be read or it is not text in lines.
    """
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), start=1):
                if len(line) == LONGEST:
                    raise CorpusError(
                        f"a line may have at most {LONGEST} bytes, {path}:{number} has more;"
                        " is it a text file?"
                    )
                yield line
    except FileNotFoundError:
        raise CorpusError(f"there is no file {str(path)!r}") from None
    except (OSError, EOFError, zlib.error) as cause:
        raise CorpusError(f"{path} cannot be read: {cause}") from None


def decoded(path: Path) -> Iterator[str]:
    """Lines as text, without byte order mark and line ends.

    Raises:
        CorpusError: If a line is not UTF-8; the sentence names file and line.
    """
    for number, line in enumerate(raw_lines(path), start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as cause:
            raise CorpusError(
                f"a corpus must be UTF-8 text, {path}:{number} is not: byte"
                f" 0x{line[cause.start]:02x} at position {cause.start}; convert the file first"
            ) from None


def read_lines(path: Path, most: int | None = None) -> list[str]:
    """The first ``most`` lines, or all."""
    return list(islice(decoded(path), most))


def extent(lines: Iterable[str | bytes]) -> tuple[int, int]:
    """How many lines there are up to the last that is not blank, and in all."""
    last = number = 0
    for number, line in enumerate(lines, start=1):
        if line.strip():
            last = number
    return last, number
