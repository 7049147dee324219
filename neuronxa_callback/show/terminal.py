"""Output at the terminal: one line per probe, and tables.

Printing never raises: a terminal that is not UTF-8 gets readable ASCII, and an output that cannot
be written to (a full disk, a closed pipe) is one warning.
"""

import codecs
import io
import json
import logging
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TextIO

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from neuronxa_callback.history.history import REFERENCES, History
from neuronxa_callback.history.points import Point
from neuronxa_callback.metrics.statistics import MARGIN, Change, union_bound
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.tables import interval, number, ranking

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

log = logging.getLogger(__name__)


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
    """Let standard output and error replace characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)


def say(text: str) -> None:
    """Print a line without breaking a progress bar of tqdm."""
    with _guard_output():
        tqdm.write(make_printable(strip_controls(text)))


def show(table: Table) -> None:
    """Print a table, as wide as the terminal, or ``WIDTH`` columns wide without a terminal."""
    with _guard_output():
        console = Console()
        with console.capture() as captured:
            width = console.width if console.is_terminal else WIDTH
            segments = console.render(table, console.options.update(width=width))
            console.print(Segments(map(_plain_segment, segments)), width=width, end="")
        sys.stdout.write(make_printable(captured.get()))
        sys.stdout.flush()


def show_text(text: str, style: str = "") -> None:
    """Print a line of any length."""
    with _guard_output():
        console = Console(soft_wrap=True, highlight=False)
        with console.capture() as captured:
            console.print(Text(strip_controls(text), style=style))
        sys.stdout.write(make_printable(captured.get()))
        sys.stdout.flush()


def _plain_segment(segment: Segment) -> Segment:
    return segment._replace(text=strip_controls(segment.text))


@contextmanager
def _guard_output() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, AttributeError) as error:
        _warn_once(f"{type(error).__name__}: {error}")


@cache
def _warn_once(message: str) -> None:
    log.warning("cannot print to standard output, training goes on: %s", message)


def line(report: AlignmentReport, history: History | None = None) -> str:
    """One line about a probe: mean, interval, changes, best and worst language, seconds.

    Args:
        report: The report of the probe.
        history: The run so far, whose last point is the report; None leaves the changes out.
    """
    metric, *others = report.metrics
    mean = (
        f"NeuronXA step {report.step}: {metric} {number(report.score(metric))}"
        f" [{interval(report, metric, separator=', ')}]"
    )
    if history is not None and (change := changes(history, metric)):
        mean += f" ({change})"
    parts = [mean]
    ranked = ranking(report, metric)
    if ranked and ranked[0][1] > ranked[-1][1]:
        (best, top), (worst, bottom) = ranked[0], ranked[-1]
        parts.append(f"best {best} {top:.3f}, worst {worst} {bottom:.3f}")
    parts += [f"{name} {number(report.score(name))}" for name in others]
    if "seconds" in report.run:
        parts.append(f"{report.run['seconds']:.1f} s")
    return " · ".join(parts)


def changes(history: History, metric: str) -> str:
    """The changes of the last probe, such as ``significant: +0.031 since the first``.

    A run looks at the same pairs at every probe. "significant" therefore spends 5 % over all looks
    and comparisons of the run, by ``statistics.union_bound``, and its null hypothesis is a change
    within ``statistics.MARGIN``: a run whose true score moves by no more than that has such a word
    in at most 5 % of all cases.

    Returns:
        The differences from the last, first and best probe before it, significant ones first;
        each earlier probe once. Empty if there is none, ``"change unknown"`` if a score is NaN.
    """
    seen: list[Point] = []
    found: dict[str, Change] = {}
    for reference in REFERENCES:
        earlier = history.earlier(metric, reference)
        change = history.change(metric, reference=reference, margin=MARGIN)
        if earlier is None or change is None or earlier in seen:
            continue
        seen.append(earlier)
        found[reference] = change
    if any(math.isnan(change.difference) for change in found.values()):
        return "change unknown"
    differences: dict[bool, list[str]] = {True: [], False: []}
    for reference, change in found.items():
        look = history.points[-1].number
        # The best is one of all earlier probes: as many comparisons as there are candidates.
        candidates = look if reference == "best" else 1
        p = union_bound(change.p, look, len(found) * candidates)
        text = f"{change.difference:+.3f} since the {reference}"
        differences[replace(change, p=p).significant].append(text)
    labels = {True: "significant: ", False: "not significant: "}
    return "; ".join(labels[key] + ", ".join(texts) for key, texts in differences.items() if texts)
