"""Rules that stop a run or alert on alignment: off by default, each a function of the history.

A rule is applied at every probe, so noise has many chances to trigger it.
``benchmarks/stopping.py`` measures how often each rule stops a run wrongly or too late.

Stopping on alignment is an extrapolation: its published correlation with ability is across
languages and models, not across the checkpoints of one run. Watch the loss too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

from neuronxa_callback import option_checks as checks
from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.history import History
from neuronxa_callback.history.points import Names
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import LEVEL
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import GROUP

KINDS = ("target", "plateau", "collapse")
ACTIONS = ("stop", "alert")
WORST = "worst"
ONE_SIDED = 0.80
"""Level of a two-sided interval whose upper end alone holds with 90 %; chosen by
``benchmarks/stopping.py``."""


@dataclass(frozen=True)
class StopRule:
    """When to stop a run or to alert. Use ``target``, ``plateau`` or ``collapse`` to make one.

    With ``action="alert"``, the run goes on: one line in the terminal, one alert in W&B and an
    entry of the report's ``run["alerts"]`` when the condition begins to hold; again only after it
    has ceased to hold.

    Example:
        >>> rule = StopRule.collapse(drop=0.10, languages=["deu_Latn", "swh_Latn"])
        >>> rule.kind, rule.amount, rule.languages, rule.reference
        ('collapse', 0.1, ('deu_Latn', 'swh_Latn'), 'best')
    """

    kind: str
    amount: float
    metric: str = "nasca"
    languages: str | tuple[str, ...] | None = None
    """None for the macro-mean, a language, several (their mean), ``"group:<name>"`` for a group of
    ``ProbeConfig.groups``, or ``"worst"``: each language by itself. Then all must reach a target or
    a plateau, but any one may collapse (by Holm)."""
    patience: int = 0
    reference: str = "best"
    action: str = "stop"
    """``"stop"`` or ``"alert"``."""
    name: str = ""
    """What alerts call the rule; the default names its kind, its metric and its options."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(unknown("kind of a stop rule", self.kind, KINDS))
        checks.require_share("amount", self.amount, zero=True)
        checks.require_text("metric", self.metric)
        checks.require_integer("patience", self.patience, least=0)
        checks.require_text("action", self.action)
        if self.action not in ACTIONS:
            raise ConfigError(unknown("action of a stop rule", self.action, ACTIONS))
        checks.require_text("name", self.name)

    @property
    def label(self) -> str:
        """The name of the rule, else a description that differs from that of any other rule.

        >>> StopRule.collapse(drop=0.1, languages="swh_Latn", action="alert").label
        'collapse 0.1 nasca swh_Latn best'
        """
        chosen = (self.languages,) if isinstance(self.languages, str) else self.languages or ()
        more = {"plateau": self.patience, "collapse": self.reference}.get(self.kind, "")
        parts = (self.kind, f"{self.amount:g}", self.metric, ",".join(chosen), str(more))
        return self.name or " ".join(part for part in parts if part)

    @classmethod
    def target(
        cls,
        score: float,
        metric: str = "nasca",
        languages: str | Sequence[str] | None = None,
        action: str = "stop",
        name: str = "",
    ) -> Self:
        """Stop when the score is above a target, with 95 % confidence.

        The lower end of the interval must be above the target. Its level is corrected for the
        number of probes so far: 95 % at the first probe, 99.9 % at the fiftieth.

        Args:
            score: The target, in [0, 1).
            metric: A metric of the report.
            languages: See ``StopRule.languages``.
            action: ``"stop"`` or ``"alert"``.
            name: See ``StopRule.name``.

        Raises:
            ConfigError: If ``score`` is not in [0, 1), or ``languages`` is empty.
        """
        names = _names(languages)
        return cls("target", _share("score", score), metric, names, action=action, name=name)

    @classmethod
    def plateau(
        cls,
        patience: int = 5,
        min_delta: float = 0.02,
        metric: str = "nasca",
        languages: str | Sequence[str] | None = None,
        action: str = "stop",
        name: str = "",
    ) -> Self:
        """Stop when the score rises by less than ``min_delta`` in ``patience`` probes.

        The rise is the slope of a line through the latest probes, ``patience`` + 1 to
        2 x ``patience`` + 1 of them. The upper end of its one-sided 90 % interval must be below
        ``min_delta``.

        Args:
            patience: A number of probes, at least 1.
            min_delta: The rise of the score, in [0, 1).
            metric: A metric of the report.
            languages: See ``StopRule.languages``.
            action: ``"stop"`` or ``"alert"``.
            name: See ``StopRule.name``.

        Raises:
            ConfigError: If a value is out of range, or ``languages`` is empty.
        """
        checks.require_integer("patience", patience, least=1)
        share, names = _share("min_delta", min_delta), _names(languages)
        return cls("plateau", share, metric, names, patience, action=action, name=name)

    @classmethod
    def collapse(
        cls,
        drop: float = 0.10,
        metric: str = "nasca",
        languages: str | Sequence[str] | None = None,
        reference: str = "best",
        action: str = "stop",
        name: str = "",
    ) -> Self:
        """Stop when the score has fallen by significantly more than ``drop``.

        The whole paired 95 % interval of the fall must be above ``drop``. This is strict because
        the best of many probes is partly luck, so a fall from it looks larger than it is.

        Args:
            drop: The fall of the score, in [0, 1).
            metric: A metric of the report.
            languages: See ``StopRule.languages``.
            action: ``"stop"`` or ``"alert"``.
            name: See ``StopRule.name``.
            reference: The ``"best"`` or the ``"first"`` probe of the run.

        Raises:
            ConfigError: If a value is out of range or unknown, or ``languages`` is empty.
        """
        checks.require_text("reference", reference)
        if reference not in ("best", "first"):
            raise ConfigError(unknown("reference", reference, ("best", "first")))
        share, names = _share("drop", drop), _names(languages)
        return cls("collapse", share, metric, names, 0, reference, action, name)

    def check(self, report: AlignmentReport) -> None:
        """Raise an error at the first probe if the rule cannot be applied to its reports.

        Raises:
            ConfigError: If the metric or a language is not in the report.
        """
        if self.metric not in report.metrics:
            raise ConfigError(unknown("metric of a stop rule", self.metric, report.metrics))
        known = (*report.languages, *(f"{GROUP}{name}" for name in report.groups))
        for language in self._named():
            if language not in known:
                raise ConfigError(unknown("language of a stop rule", language, known))

    def reason(self, history: History) -> str | None:
        """Why to stop after the latest probe, in one line; None to continue. NaN never stops."""
        if not history.points:
            return None
        return {"target": self._target, "plateau": self._plateau, "collapse": self._collapse}[
            self.kind
        ](history)

    def _target(self, history: History) -> str | None:
        now = history.points[-1]
        level = 1 - (1 - LEVEL) / (now.number + 1)
        ends = {names: now.interval(self.metric, names, level) for names in self.tested(history)}
        if not all(low > self.amount for low, _ in ends.values()):
            return None
        nearest = min(ends, key=lambda names: ends[names])
        low, high = ends[nearest]
        return (
            f"{self._label(nearest)} is above the target {self.amount:g}: it is"
            f" {now.score(self.metric, nearest):.3f}, in [{low:.3f}, {high:.3f}]"
            f" after {_counted(now.number + 1, 'probe')}"
        )

    def _plateau(self, history: History) -> str | None:
        window = history.window(2 * self.patience)
        if len(window) <= self.patience:
            return None
        trends = {
            names: statistics.paired_trend(
                [point.sums(self.metric, names) for point in window],
                self.patience,
                window[-1].shared,
                ONE_SIDED,
            )
            for names in self.tested(history)
        }
        if not all(trend.high < self.amount for trend in trends.values()):
            return None
        fastest = max(trends, key=lambda names: trends[names].high)
        return (
            f"{self._label(fastest)} rises by at most {trends[fastest].high:+.3f} in"
            f" {_counted(self.patience, 'probe')}, less than {self.amount:g}"
        )

    def _collapse(self, history: History) -> str | None:
        tested = self.tested(history)
        before = {names: history.earlier(self.metric, self.reference, names) for names in tested}
        now = history.points[-1]
        falls = {
            names: statistics.paired_change(
                point.sums(self.metric, names),
                now.sums(self.metric, names),
                now.shared,
                null=-self.amount,
            )
            for names, point in before.items()
            if point is not None
        }
        # One-sided, so that Holm does not count languages that rose as significant.
        tails = [f.p / 2 if f.difference < -self.amount else 1 - f.p / 2 for f in falls.values()]
        significant = [
            (fall.difference, names)
            for (names, fall), p in zip(falls.items(), statistics.holm(tails), strict=True)
            if p < (1 - LEVEL) / 2
        ]
        if not significant:
            return None
        difference, which = min(significant, key=lambda names: names[0])
        point = before[which]
        assert point is not None
        return (
            f"{self._label(which)} fell by {-difference:.3f} since the {self.reference} probe (step"
            f" {point.step}), by more than {self.amount:g} (p < 0.025, one-sided, Holm)"
        )

    def tested(self, history: History) -> tuple[Names, ...]:
        """The scores that are tested: one mean, or each language."""
        if self.languages == WORST:
            return tuple((name,) for name in history.points[-1].counts[self.metric])
        groups = history.points[-1].groups
        named = (groups.get(name.removeprefix(GROUP), (name,)) for name in self._named())
        return (tuple(dict.fromkeys(chain.from_iterable(named))) or None,)

    def lacks(self, history: History) -> bool:
        """Whether it needs the best score of a resumed run that the saved history does not hold."""
        last = history.points[-1].counts if history.points else {}
        asks = self.kind == "collapse" and self.reference == "best" and self.metric in last
        return asks and not all(history.knows(self.metric, each) for each in self.tested(history))

    def _named(self) -> tuple[str, ...]:
        if self.languages is None or self.languages == WORST:
            return ()
        return (self.languages,) if isinstance(self.languages, str) else self.languages

    def _label(self, names: Names) -> str:
        if names is None:
            return f"{self.metric} (mean over languages)"
        return f"{self.metric} of {', '.join(self._named() or names)}"


def _names(languages: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    if languages is None or isinstance(languages, str):
        return languages
    names = checks.list_of_names("languages", languages)
    if not names:
        raise ConfigError("languages must have at least one language, or be None for all")
    return names


def _share(name: str, value: float) -> float:
    checks.require_share(name, value, zero=True)
    return float(value)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
