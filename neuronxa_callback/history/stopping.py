"""Rules that stop a run on alignment: off by default, each a pure function of the run's history.

A rule looks at every probe, and noise has as many chances to fool it. How often each one stops a
run that it should not, and misses what it should see, is measured by ``benchmarks/stopping.py``.

Stopping on alignment is an extrapolation: the published correlation with ability is across
languages and models, not across checkpoints of one run. Keep the loss beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.history import History
from neuronxa_callback.history.points import Names
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import LEVEL
from neuronxa_callback.report import AlignmentReport

WORST = "worst"
ONE_SIDED = 2 * LEVEL - 1
"""Level of an interval each end of which alone is exceeded in 5 %."""


@dataclass(frozen=True)
class StopRule:
    """When to stop. Made by ``target``, ``plateau`` or ``collapse``."""

    kind: str
    amount: float
    metric: str = "nasca"
    on: str | tuple[str, ...] | None = None
    """None for the macro-mean, a language, several (their mean), or ``"worst"``: each language by
    itself. All must reach a target or stand still; any one may collapse, judged by Holm."""
    patience: int = 0
    since: str = "best"

    @classmethod
    def target(
        cls, score: float, metric: str = "nasca", on: str | Sequence[str] | None = None
    ) -> Self:
        """Stop once the score is above a target, whatever pairs had been drawn.

        That is the lower end of its interval, at a level for as many looks as there have been:
        95 % at the first probe, 99.9 % at the fiftieth.
        """
        return cls("target", _share("score", score), metric, _names(on))

    @classmethod
    def plateau(
        cls,
        patience: int = 5,
        gain: float = 0.02,
        metric: str = "nasca",
        on: str | Sequence[str] | None = None,
    ) -> Self:
        """Stop once the gain over ``patience`` probes is below ``gain``.

        The gain is that of a line through all probes there are, the latest one with 2 x
        ``patience`` before it at most and ``patience`` at least; what must be below is its upper
        end at one-sided 95 %.
        """
        if not isinstance(patience, int) or patience < 1:
            raise ConfigError(f"patience must be at least 1 probe, got {patience!r}")
        return cls("plateau", _share("gain", gain), metric, _names(on), patience=patience)

    @classmethod
    def collapse(
        cls,
        drop: float = 0.10,
        metric: str = "nasca",
        on: str | Sequence[str] | None = None,
        since: str = "best",
    ) -> Self:
        """Stop once the score has fallen by more than ``drop`` beyond doubt.

        The whole paired 95 % interval of the fall must be beyond ``drop``: the best of many
        probes is partly so by chance, and a fall from it always looks larger than it is.

        Args:
            drop: Fall of the score, such as 0.10.
            metric: Which metric.
            on: See ``StopRule.on``.
            since: ``"best"`` or ``"first"`` probe of the run.
        """
        if since not in ("best", "first"):
            raise ConfigError(unknown("since", since, ("best", "first")))
        return cls("collapse", _share("drop", drop), metric, _names(on), since=since)

    def check(self, report: AlignmentReport) -> None:
        """Refuse, at the first probe, what no report will ever have.

        Raises:
            ConfigError: If the metric or a language is not in the report.
        """
        if self.metric not in report.metrics:
            raise ConfigError(unknown("metric of a stop rule", self.metric, report.metrics))
        for language in self._named():
            if language not in report.languages:
                raise ConfigError(unknown("language of a stop rule", language, report.languages))

    def reason(self, history: History) -> str | None:
        """Why to stop now, in one line; None to go on. NaN never stops."""
        if not history.points:
            return None
        return {"target": self._target, "plateau": self._plateau, "collapse": self._collapse}[
            self.kind
        ](history)

    def _target(self, history: History) -> str | None:
        now = history.points[-1]
        level = 1 - (1 - LEVEL) / (now.number + 1)
        ends = {each: now.interval(self.metric, each, level) for each in self._judged(history)}
        if not all(low > self.amount for low, _ in ends.values()):
            return None
        nearest = min(ends, key=lambda each: ends[each])
        low, high = ends[nearest]
        return (
            f"{self._what(nearest)} is above the target {self.amount:g}: it is"
            f" {now.score(self.metric, nearest):.3f}, in [{low:.3f}, {high:.3f}]"
            f" for {_counted(now.number + 1, 'look')}"
        )

    def _plateau(self, history: History) -> str | None:
        window = history.window(2 * self.patience)
        if len(window) <= self.patience:
            return None
        gains = {
            each: statistics.paired_trend(
                [point.shares(self.metric, each) for point in window],
                self.patience,
                window[-1].shared,
                ONE_SIDED,
            )
            for each in self._judged(history)
        }
        if not all(gain.high < self.amount for gain in gains.values()):
            return None
        fastest = max(gains, key=lambda each: gains[each].high)
        return (
            f"{self._what(fastest)} gains at most {gains[fastest].high:+.3f} in"
            f" {_counted(self.patience, 'probe')}, less than {self.amount:g}"
        )

    def _collapse(self, history: History) -> str | None:
        judged = self._judged(history)
        before = {each: history.earlier(self.metric, self.since, each) for each in judged}
        now = history.points[-1]
        falls = {
            each: statistics.paired_change(
                point.shares(self.metric, each),
                now.shares(self.metric, each),
                now.shared,
                null=-self.amount,
            )
            for each, point in before.items()
            if point is not None
        }
        # One-sided: languages that did not fall must not count as settled looks.
        tails = [f.p / 2 if f.difference < -self.amount else 1 - f.p / 2 for f in falls.values()]
        beyond = [
            (fall.difference, each)
            for (each, fall), p in zip(falls.items(), statistics.holm(tails), strict=True)
            if p < (1 - LEVEL) / 2
        ]
        if not beyond:
            return None
        difference, which = min(beyond, key=lambda each: each[0])
        point = before[which]
        assert point is not None
        return (
            f"{self._what(which)} fell by {-difference:.3f} since the {self.since} probe (step"
            f" {point.step}), by more than {self.amount:g} beyond doubt"
        )

    def _judged(self, history: History) -> tuple[Names, ...]:
        """What is judged by itself: one mean, or each language."""
        if self.on == WORST:
            return tuple((name,) for name in history.points[-1].counts[self.metric])
        return (self._named() or None,)

    def _named(self) -> tuple[str, ...]:
        if self.on is None or self.on == WORST:
            return ()
        return (self.on,) if isinstance(self.on, str) else self.on

    def _what(self, names: Names) -> str:
        if names is None:
            return f"{self.metric} (mean over languages)"
        return f"{self.metric} of {', '.join(names)}"


def _names(on: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    if on is None or isinstance(on, str):
        return on
    if not on:
        raise ConfigError("on must name at least one language, got none; leave it out for all")
    return tuple(on)


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}")
    return float(value)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
