"""The pictures of a run for trackers: which probes are drawn, and pictures that fail."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

PICTURES_EVERY = 10
"""Probes per drawing of pictures, which take most of the time of a sink."""
PICTURES = {"curve": "by_layer", "heat_map": "heat_map"}
"""The last part of a key -> the drawing of ``neuronxa_callback.show.charts``."""
PAIR_PICTURES = {"language_pairs": "language_matrix"}
"""The same for reports with all pairs of languages, which are rare: each of them is drawn."""
DRAWINGS = PICTURES | PAIR_PICTURES

NEURONS = "neurons"
"""The last part of the key of the picture of the neuron statistics."""
DRAWN_NEURONS = ("overlap", "sharing", "language_neurons")
"""The statistics on it."""

Chart = Callable[[AlignmentReport, str], Any]
"""A function of a report and a metric."""


class Pictures:
    """The pictures of the reports of a run: every so many probes, and the last one.

    A picture that cannot be drawn is left out, with one warning per cause.

    Args:
        every: Draw the first of so many probes, and the last probe.
        charts: The last part of a key -> what draws a metric of a report; default: arrays of
            bytes [height, width, 4].

    Raises:
        ConfigError: If ``every`` is no number of at least 1.
    """

    def __init__(self, every: int, charts: Mapping[str, Chart] | None = None) -> None:
        if type(every) is not int or every < 1:
            raise ConfigError(
                f"pictures_every must be a number of probes of at least 1, got {every!r}"
            )
        self.every, self.seen = every, 0
        self.charts = (
            {name: partial(pixels_of, name) for name in DRAWINGS} if charts is None else charts
        )
        self._not_drawn: AlignmentReport | None = None
        """The latest report if it has no pictures yet."""
        self._warned: set[str] = set()

    def due(self, report: AlignmentReport) -> dict[str, Any]:
        """The pictures of a new report by their keys; empty if it is not one to draw."""
        draws = self.seen % self.every == 0 or _is_last(report)
        self.seen += 1
        self._not_drawn = None if draws else report
        pairs = self.draw(report, PAIR_PICTURES) if report.language_pairs else {}
        if not draws:
            return pairs
        return self.draw(report, PICTURES) | self._draw_neurons(report) | pairs

    def of_last(self) -> tuple[dict[str, Any], int]:
        """The pictures of the last report if it has none yet, and its step."""
        last, self._not_drawn = self._not_drawn, None
        if last is None:
            return {}, 0
        return self.draw(last, PICTURES) | self._draw_neurons(last), last.step

    def draw(self, report: AlignmentReport, names: Iterable[str]) -> dict[str, Any]:
        """Charts of a report by their keys, without those that cannot be drawn."""
        drawn: dict[str, Any] = {}
        root = prefixed("neuronxa_charts", report)
        for metric in report.metrics:
            for name in names:
                with self._one_warning(name):
                    drawn[f"{root}/{metric}_{name}"] = self.charts[name](report, metric)
        return drawn

    def _draw_neurons(self, report: AlignmentReport) -> dict[str, Any]:
        """The picture of the neuron statistics by its key; empty without them."""
        drawn: dict[str, Any] = {}
        if any(report.diagnostics.get(name) for name in DRAWN_NEURONS):
            with self._one_warning(NEURONS):
                chart = self.charts.get(NEURONS, pixels_of_neurons)
                drawn[f"{prefixed('neuronxa_charts', report)}/{NEURONS}"] = chart(report, "")
        return drawn

    @contextmanager
    def _one_warning(self, name: str) -> Iterator[None]:
        """Make one warning per cause of a picture that cannot be drawn."""
        try:
            yield
        except Exception as error:
            message = f"{name}: {type(error).__name__}: {error}"
            if message not in self._warned:
                self._warned.add(message)
                log.warning("a picture is left out, its scores are logged: %s", message)


def prefixed(prefix: str, report: AlignmentReport) -> str:
    """The prefix, with the name of the callback if it has one."""
    return f"{prefix}/{report.run['name']}" if report.run.get("name") else prefix


def pixels_of(name: str, report: AlignmentReport, metric: str) -> Any:
    """A picture as an array of bytes [height, width, 4]."""
    from neuronxa_callback.show import charts

    return charts.pixels(getattr(charts, DRAWINGS[name])(report, metric))


def pixels_of_neurons(report: AlignmentReport, metric: str) -> Any:
    """The picture of the neuron statistics as an array of bytes [height, width, 4]."""
    from neuronxa_callback.show import charts
    from neuronxa_callback.show.drawing.neurons import neuron_curves

    return charts.pixels(neuron_curves(report))


def _is_last(report: AlignmentReport) -> bool:
    """Whether a report is that of the last step of its run."""
    last = report.run.get("max_steps")
    return isinstance(last, int) and report.step >= last
