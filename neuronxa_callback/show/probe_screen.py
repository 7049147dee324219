"""A probe on the screen of rank 0: a line before the first one, a progress bar, and its cost."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from neuronxa_callback.history.records import FOLDER, RECORD
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import terminal

DELAY = 3.0
"""Seconds before a probe gets a progress bar."""


@dataclass
class ProbeScreen:
    """Shows that a probe is running; nothing on other ranks."""

    shown: bool = False
    """Whether to print at all: on rank 0."""
    has_bar: bool = False
    """Whether a probe of more than ``delay`` seconds has a bar, if stderr is a terminal."""
    delay: float = DELAY
    is_first: bool = True
    announced: bool = False
    """Whether the cost of all pairs of languages has been printed."""

    @contextmanager
    def watch(self, probe: Any) -> Iterator[Callable[[int, int], None] | None]:
        """Yield a function of (done, total) that moves the bar; None without a bar."""
        if self.shown and self.is_first:
            terminal.say(before_first_probe(len(probe.corpus.languages), probe.config.n_pairs))
        probe.announce = self._announce
        if not (self.shown and self.has_bar and terminal.is_terminal(sys.stderr)):
            yield None
            return
        with tqdm(desc="NeuronXA probe", delay=self.delay, leave=False, unit="batch") as bar:

            def move(done: int, total: int) -> None:
                with terminal.guard_output():
                    bar.total = total
                    bar.update(done - bar.n)

            yield move

    def _announce(self, line: str) -> None:
        """Print, once a run, what all pairs of languages cost."""
        if self.shown and not self.announced:
            terminal.say(f"NeuronXA: {line}")
        self.announced = True

    def show_cost(self, report: AlignmentReport) -> None:
        """Print the seconds of the first probe, and the options that lower them."""
        if self.shown and self.is_first and "seconds" in report.run:
            terminal.say(cost_of_first_probe(report))
        self.is_first = False


def before_first_probe(languages: int, pairs: int) -> str:
    """The line before the first probe.

    >>> before_first_probe(25, 100)
    'NeuronXA: probing 25 languages x 100 pairs before the first step ...'
    """
    noun = "language" if languages == 1 else "languages"
    return f"NeuronXA: probing {languages} {noun} x {pairs} pairs before the first step ..."


def cost_of_first_probe(report: AlignmentReport) -> str:
    """The line after the first probe."""
    return (
        f"NeuronXA: the first probe took {report.run['seconds']:.1f} s;"
        f" fewer languages (now {len(report.languages)}), pairs (n_pairs={report.n_pairs}) or"
        f" metrics (now {len(report.metrics)}) take less; every= and max_overhead= probe less often"
    )


def no_tracker(output_dir: str, record: str) -> str:
    """The line of a run without a tracker: where its scores lie, and how to see them."""
    usual = os.path.abspath(os.path.join(output_dir, FOLDER, RECORD))
    shown = output_dir if record == usual else record
    file = record if os.path.isabs(output_dir) else os.path.relpath(record)
    return (
        f"NeuronXA: no tracker is on (report_to), so the scores are in {file} only;"
        f" to see them: neuronxa page {shlex.quote(shown)}"
    )
