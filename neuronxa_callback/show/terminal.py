"""Output at the terminal: lines and tables.

A terminal that is not UTF-8 gets readable ASCII. In a training, printing never raises: an output
that cannot be written to (a full disk, a closed pipe) is one warning. To a command, which prints
its result, it is an error: the exit code must not say that the result was printed.
"""

import codecs
import io
import json
import logging
import re
import sys
import textwrap
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from neuronxa_callback.errors import NeuronXAError, reason

WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""
ASCII = {"·": "-", "…": "...", "–": "-", "—": "-", "×": "x", "≥": ">=", "≤": "<="}
ASCII |= dict.fromkeys("─━╌╍═╶╴╸╺", "-") | dict.fromkeys("│┃║", "|")
ASCII |= dict.fromkeys("▏▎▍▌▋▊▉█", "#")
"""Readable replacements; every other character becomes an escape such as ``\\u4e2d``."""
CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
"""Control characters, marks and overrides of direction, and line separators."""
ENCODING_ERRORS = "neuronxa_readable"

SEPARATOR = " ·"
BREAKS = re.compile(r"(?<=[·;]) | (?=\([^)]{20})|(?<=,) (?![^\[]*\])")
"""Where a line may be broken: after a separator, a semicolon, or a comma outside of an interval,
and before a long parenthesis."""

log = logging.getLogger(__name__)

_OUTPUTS: "weakref.WeakSet[TextIO]" = weakref.WeakSet()
"""The standard output of a command: what it prints there is its result."""


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Error handler of ``str.encode``: replaces characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(ASCII.get(c) or json.dumps(c)[1:-1] for c in text), error.end


codecs.register_error(ENCODING_ERRORS, _readable)


def make_printable(text: str, stream: TextIO | None = None) -> str:
    r"""The text in characters that a stream can encode.

    >>> import io
    >>> make_printable("mean · 中", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    'mean - \\u4e2d'
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, ENCODING_ERRORS).decode(encoding)


def strip_controls(text: str) -> str:
    r"""The text without characters that steer a terminal or turn the direction of writing.

    Line breaks and tabs stay.

    >>> strip_controls("a\x1b[2Jb\u202ec\n")
    'a[2Jbc\n'
    """
    return CONTROLS.sub("", text)


def escape_controls(json_text: str) -> str:
    r"""JSON that says the same with escapes in place of those characters.

    >>> escape_controls('{"a": "\u202e"}')
    '{"a": "\\u202e"}'
    """
    return CONTROLS.sub(lambda match: json.dumps(match[0])[1:-1], json_text)


class PlainFormatter(logging.Formatter):
    """Messages of the log without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """The message as one text."""
        return strip_controls(super().format(record))


def make_streams_printable() -> None:
    """Prepare the streams of a command.

    Standard output and error replace characters that their encoding lacks, and a result that
    cannot be printed becomes an error (``guard_result``).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)
    if sys.stdout is not None:
        _OUTPUTS.add(sys.stdout)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a stream, standard output by default, is a terminal."""
    try:
        return (sys.stdout if stream is None else stream).isatty()
    except (AttributeError, ValueError):
        return False


def say(text: str) -> None:
    """Print a line without breaking a progress bar of tqdm.

    A terminal gets rows of at most its width (``fold``), a file or a pipe one line.
    """
    with guard_output():
        text = make_printable(strip_controls(text))
        tqdm.write("\n".join(fold(text, Console().width)) if is_terminal() else text)
        sys.stdout.flush()


def fold(text: str, width: int) -> list[str]:
    """The rows of a line in a terminal: broken at separators, then between words.

    Args:
        text: A line; an interval such as ``[0.1, 0.2]`` stays whole if it fits.
        width: The most columns of a row; rows after the first are indented by two.

    Example:
        >>> fold("step 5: nasca 0.2 [0.1, 0.3] · best a 0.3, worst b 0.1 · 1.5 s", 32)
        ['step 5: nasca 0.2 [0.1, 0.3]', '  best a 0.3, worst b 0.1', '  1.5 s']
    """
    rows: list[str] = []
    pieces = [row for row in BREAKS.split(text) if row]
    for piece in pieces:
        for part in textwrap.wrap(piece, max(1, width - 2)) or [""]:
            longer = f"{rows[-1]} {part}" if rows else part
            if rows and cell_len(longer.removesuffix(SEPARATOR)) <= width:
                rows[-1] = longer
            else:
                rows = [row.removesuffix(SEPARATOR) for row in rows]
                rows.append(f"  {part}" if rows else part)
    return rows


def show(table: Table) -> None:
    """Print a table, as wide as the terminal, or ``WIDTH`` columns wide without a terminal."""
    with guard_result():
        console = Console()
        if not console.is_terminal:
            # Of the console, too: it cuts what is wider than itself.
            console = Console(width=WIDTH)
        with console.capture() as captured:
            console.print(Segments(map(_plain_segment, console.render(table))), end="")
        _write(captured.get())


def show_text(text: str, style: str = "") -> None:
    """Print a line of any length."""
    with guard_result():
        console = Console(soft_wrap=True, highlight=False)
        with console.capture() as captured:
            console.print(Text(strip_controls(text), style=style))
        _write(captured.get())


def _write(text: str) -> None:
    """Write to standard output, on lines that no progress bar of tqdm shares."""
    with tqdm.external_write_mode(sys.stdout):
        sys.stdout.write(make_printable(text))
        sys.stdout.flush()


def _plain_segment(segment: Segment) -> Segment:
    return segment._replace(text=strip_controls(segment.text))


@contextmanager
def guard_output() -> Iterator[None]:
    """Make one warning of an output that fails."""
    try:
        yield
    except (OSError, ValueError, AttributeError) as error:
        who = "the command" if _is_of_command() else "training"
        _warn_once(who, "there is none" if isinstance(error, AttributeError) else reason(error))


@contextmanager
def guard_result() -> Iterator[None]:
    """Make an error of a command's result that cannot be printed, one warning in a training.

    Raises:
        NeuronXAError: If the output of a command fails.
    """
    if not _is_of_command():
        with guard_output():
            yield
        return
    try:
        yield
    except OSError as error:
        raise NeuronXAError(
            f"the result must be printed to standard output, which fails: {reason(error)};"
            " send it where all of it can be written"
        ) from None


def _is_of_command() -> bool:
    return sys.stdout is not None and sys.stdout in _OUTPUTS


@cache
def _warn_once(who: str, message: str) -> None:
    log.warning("cannot print to standard output, %s goes on: %s", who, message)
