"""When a run is probed, and which share of its time that takes."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from neuronxa_callback import option_checks as checks

DEFAULT_INTERVAL = 500
"""Steps between probes if the run never evaluates."""
TIMED_STEPS = 20
"""The number of training steps that are timed to find the share of a probe."""


class ProbeSchedule:
    """Which steps are probed; the interval is chosen once per run.

    Args:
        every: Steps between probes; None for the evaluations, or for ``DEFAULT_INTERVAL`` if the
            run has none.
        max_overhead: The share of training time that probes may take, in (0, 1); None for any.
        clock: A function that returns seconds.

    Raises:
        ConfigError: If one of them cannot be used.
    """

    def __init__(
        self,
        every: int | None,
        max_overhead: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        checks.require_integer("every", every, least=1, optional=True)
        checks.require_share("max_overhead", max_overhead, zero=False, optional=True)
        self.every, self.max_overhead, self.clock = every, max_overhead, clock
        self.probe_seconds: float | None = None
        """The duration of the latest probe."""
        self.begin(None)

    @property
    def options(self) -> dict[str, object]:
        """The options as they were given."""
        return {"every": self.every, "max_overhead": self.max_overhead}

    def begin(
        self,
        chosen: Mapping[str, Any] | None,
        evaluates: bool = False,
        eval_steps: int | None = None,
    ) -> None:
        """Start a run, or resume one.

        Args:
            chosen: ``chosen`` of the run that resumes; not used if an option has changed since.
            evaluates: Whether the run has evaluations, which are probed anyway.
            eval_steps: The steps between evaluations; None if they follow epochs.
        """
        chosen = chosen or {"interval": None}
        same = all(chosen.get(name, value) == value for name, value in self.options.items())
        self.interval: int | None = chosen["interval"] if same else None
        self.evaluates = evaluates
        self.eval_steps = eval_steps if evaluates else None
        self.timed = (0, 0.0)
        """The number of timed steps, and their seconds."""
        self._step_began: float | None = None
        self.sink_seconds: float | None = None
        """How long rank 0 took for the latest report: record, trackers, pictures."""

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The interval that ``max_overhead`` has chosen, with the options, for a resume."""
        return None if self.interval is None else {"interval": self.interval, **self.options}

    def includes(self, step: int) -> bool:
        """Whether a step is a multiple of the interval."""
        if self.max_overhead is not None and self.interval is None:
            return False
        return self._own_steps is not None and step % self._own_steps == 0

    @property
    def _own_steps(self) -> int | None:
        """The steps between the probes that are no evaluations; None if there are none."""
        return self.interval or self.every or (None if self.evaluates else DEFAULT_INTERVAL)

    def start_step(self) -> None:
        """Start the clock of the next step, after a probe or an evaluation."""
        self._step_began = self.clock()

    @property
    def run_entries(self) -> dict[str, float]:
        """The seconds of the previous report's sinks, for the next report; empty at first."""
        return {} if self.sink_seconds is None else {"sink_seconds": self.sink_seconds}

    @property
    def seconds(self) -> float:
        """How long training waits for a probe and its sinks."""
        return (self.probe_seconds or 0.0) + (self.sink_seconds or 0.0)

    def time_sinks(self, write: Callable[[], object]) -> None:
        """Write a report to the sinks, and measure how long it takes."""
        began = self.clock()
        write()
        self.sink_seconds = self.clock() - began

    def record_step(self) -> float | None:
        """Record the end of a step; the seconds of a step, once, after ``TIMED_STEPS`` of them."""
        steps, seconds = self.timed
        if self._step_began is None or self.probe_seconds is None or steps >= TIMED_STEPS:
            return None
        self.timed = steps + 1, seconds + self.clock() - self._step_began
        return self.timed[1] / TIMED_STEPS if steps + 1 == TIMED_STEPS else None

    def min_interval(self, step_seconds: float) -> int | None:
        """The shortest interval within ``max_overhead``; None if there is nothing to choose."""
        if self.max_overhead is None or self.interval is not None or self.probe_seconds is None:
            return None
        steps = math.ceil(self.seconds / (self.max_overhead * step_seconds))
        return max(self.every or 1, steps)

    def describe_overhead(self, step_seconds: float) -> str:
        """One sentence: how long a probe takes, its share of the time, and how to lower it.

        The share is unknown, and left out, if probes follow epochs only.
        """
        seconds = self.seconds
        known = [steps for steps in (self._own_steps, self.eval_steps) if steps]
        share = ""
        if known:
            steps = min(known)
            part = seconds / (seconds + steps * step_seconds)
            share = f"; with one every {steps} steps, {100 * part:.1f} % of the time"
        return (
            f"a probe takes {seconds:.1f} s, as long as {seconds / step_seconds:.1f} training"
            f" steps{share} (lower it with every=, max_overhead=, languages, n_pairs)"
        )
