"""When a run is probed, and what share of its time that takes."""

import math
import time

from neuronxa_callback.errors import ConfigError

DEFAULT_INTERVAL = 500
"""Steps between probes where a run never evaluates."""
TIMED_STEPS = 20
"""Training steps over which the share of a probe is measured."""


class ProbeSchedule:
    """The interval of step-scheduled probes, chosen once for a run.

    Args:
        every: Steps between probes; None leaves it to the evaluations, or to ``SELDOM``.
        max_overhead: Share of training that probes may take, in (0, 1); None for any.

    Raises:
        ConfigError: If one of them cannot be used.
    """

    def __init__(self, every: int | None, max_overhead: float | None) -> None:
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ConfigError(f"every must be a number of steps of at least 1, got {every!r}")
        if max_overhead is not None and not 0 < max_overhead < 1:
            raise ConfigError(f"max_overhead must be between 0 and 1, got {max_overhead!r}")
        self.every, self.max_overhead = every, max_overhead
        self.probe_seconds: float | None = None
        """What the latest probe took."""
        self.begin(None)

    def begin(self, interval: int | None) -> None:
        """A run begins, or goes on with the interval that it had chosen."""
        self.interval = interval
        self.trained = (0, 0.0)
        """Steps that were timed, and their seconds."""
        self._clock: float | None = None

    def due(self, step: int, evaluates: bool) -> bool:
        """Whether a step is one of the interval."""
        interval = self.interval or self.every or (None if evaluates else DEFAULT_INTERVAL)
        if self.max_overhead is not None and self.interval is None:
            return False
        return interval is not None and step % interval == 0

    def resume(self) -> None:
        """Training goes on from here: what lay before was a probe, or an evaluation."""
        self._clock = time.perf_counter()

    def stepped(self) -> float | None:
        """A step has ended. Seconds of a step, once, after the first ``TIMED_STEPS``."""
        steps, seconds = self.trained
        if self._clock is None or self.probe_seconds is None or steps >= TIMED_STEPS:
            return None
        self.trained = steps + 1, seconds + time.perf_counter() - self._clock
        return self.trained[1] / TIMED_STEPS if steps + 1 == TIMED_STEPS else None

    def least(self, step_seconds: float) -> int | None:
        """The shortest interval that keeps within ``max_overhead``; None where it is not asked."""
        if self.max_overhead is None or self.interval is not None or self.probe_seconds is None:
            return None
        least = math.ceil(self.probe_seconds / (self.max_overhead * step_seconds))
        return max(self.every or 1, least)

    def share(self, step_seconds: float) -> str:
        """What a probe takes, in words."""
        seconds = self.probe_seconds or 0.0
        chosen = f"; probes every {self.interval} steps" if self.interval else ""
        return (
            f"a probe takes {seconds:.1f} s, as long as {seconds / step_seconds:.1f} training"
            f" steps{chosen} (lower it with every=, max_overhead=, languages, n_pairs)"
        )
