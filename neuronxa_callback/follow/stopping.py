"""Rules that stop a run on alignment: off by default, each a pure function of the run's history.

Stopping on alignment is an extrapolation: the published correlation with ability is across
languages and models, not across checkpoints of one run. Keep the loss beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.follow.history import History, Point, change
from neuronxa_callback.measure import statistics
from neuronxa_callback.measure.report import AlignmentReport

WORST = "worst"
KINDS = ("target", "plateau", "collapse")


@dataclass(frozen=True)
class StopRule:
    """When to stop. Made by ``target``, ``plateau`` or ``collapse``."""

    kind: str
    amount: float
    metric: str = "nasca"
    on: str | tuple[str, ...] | None = None
    """None for the macro-mean, a language, several (their mean), or ``"worst"``: any one language,
    judged by Holm over all of them."""
    patience: int = 0
    since: str = "best"

    @classmethod
    def target(
        cls, score: float, metric: str = "nasca", on: str | Sequence[str] | None = None
    ) -> Self:
        """Stop once the lower end of the 95 % interval is above ``score``."""
        return cls("target", _share("score", score), metric, _names(on))

    @classmethod
    def plateau(
        cls,
        patience: int = 5,
        gain: float = 0.02,
        metric: str = "nasca",
        on: str | Sequence[str] | None = None,
    ) -> Self:
        """Stop once the upper end of the paired gain over ``patience`` probes is below ``gain``."""
        if patience < 1:
            raise ConfigError(f"patience must be at least 1 probe, got {patience}")
        return cls("plateau", _share("gain", gain), metric, _names(on), patience=patience)

    @classmethod
    def collapse(
        cls,
        drop: float = 0.10,
        metric: str = "nasca",
        on: str | Sequence[str] | None = None,
        since: str = "best",
    ) -> Self:
        """Stop once the score has fallen by more than ``drop``, and not by chance.

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
        for language in self._named(report.languages):
            if language not in report.languages:
                raise ConfigError(unknown("language of a stop rule", language, report.languages))

    def reason(self, history: History) -> str | None:
        """Why to stop now, in one line; None to go on."""
        if not history.points:
            return None
        found: str | None = getattr(self, f"_{self.kind}")(history)
        return found

    def _target(self, history: History) -> str | None:
        low = self._low(history.points[-1])
        if not low > self.amount:
            return None
        return (
            f"{self._what()} is above the target {self.amount:g}: the lower end of its interval is"
            f" {low:.3f}"
        )

    def _low(self, point: Point) -> float:
        """The lowest end of all intervals that must be above the target."""
        if self.on is None:
            return point.interval(self.metric)[0]
        if self.on == WORST:
            return min(point.interval(self.metric, name)[0] for name in point.counts[self.metric])
        shares = point.shares(self.metric, self._named(()))
        return statistics.interval(shares, point.shared)[0]

    def _plateau(self, history: History) -> str | None:
        if len(history.points) <= self.patience:
            return None
        before, now = history.points[-1 - self.patience], history.points[-1]
        if self.on == WORST:
            highs = [
                change(before, now, self.metric, name).high for name in now.counts[self.metric]
            ]
            high = max(highs)
        else:
            high = change(before, now, self.metric, self._one()).high
        if not high < self.amount:
            return None
        return (
            f"{self._what()} gained at most {high:.3f} over {self.patience} probes, less than"
            f" {self.amount:g}"
        )

    def _collapse(self, history: History) -> str | None:
        now = history.points[-1]
        before = history.earlier(self.metric, self.since)
        if before is None:
            return None
        if self.on == WORST:
            names = list(now.counts[self.metric])
            found = [change(before, now, self.metric, name) for name in names]
            p = statistics.holm([each.p for each in found])
            fallen = [
                (each.difference, name)
                for each, level, name in zip(found, p, names, strict=True)
                if level < 0.05 and -each.difference > self.amount
            ]
            if not fallen:
                return None
            difference, what = min(fallen)
            what = f"{self.metric} of {what}"
        else:
            one = change(before, now, self.metric, self._one())
            if not (one.high < 0 and -one.difference > self.amount):
                return None
            difference, what = one.difference, self._what()
        return (
            f"{what} fell by {-difference:.3f} since the {self.since} probe (step {before.step}),"
            f" more than {self.amount:g}, and its paired interval leaves out zero"
        )

    def _named(self, every: Sequence[str]) -> tuple[str, ...]:
        if self.on is None or self.on == WORST:
            return tuple(every)
        return (self.on,) if isinstance(self.on, str) else self.on

    def _one(self) -> tuple[str, ...] | None:
        return None if self.on is None else self._named(())

    def _what(self) -> str:
        if self.on is None:
            return f"{self.metric} (mean over languages)"
        if self.on == WORST:
            return f"{self.metric} of every language"
        return f"{self.metric} of {', '.join(self._named(()))}"


def _names(on: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    return on if on is None or isinstance(on, str) else tuple(on)


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}")
    return float(value)
