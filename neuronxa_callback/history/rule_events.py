"""What several rules decide after a probe: a stop, and one alert per event.

An event begins at the probe at which the condition of a rule holds for the first time, and ends
when the condition no longer holds. A probe without a score (NaN) neither begins nor ends an event.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from neuronxa_callback import option_checks as checks
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from neuronxa_callback.history.stopping import StopRule


@dataclass(frozen=True)
class RuleOutcome:
    """The decisions of all rules after one probe."""

    stop: str | None = None
    """Why to stop, from the first rule of ``action="stop"`` whose condition holds."""
    stop_rule: str = ""
    """The label of that rule."""
    alerts: tuple[tuple[str, str], ...] = ()
    """(label of a rule, reason) of each event that begins."""
    holding: tuple[str, ...] = ()
    """Labels of the alert rules whose condition holds; pass them to the next ``apply_rules``."""

    @property
    def run_entries(self) -> dict[str, Any]:
        """The entry ``alerts`` of a report's ``run``; empty if no event begins."""
        alerts = [{"rule": label, "reason": reason} for label, reason in self.alerts]
        return {"alerts": alerts} if alerts else {}

    def alert_lines(self, step: int) -> list[str]:
        """A line for the terminal per event that begins.

        >>> RuleOutcome(alerts=(("swahili", "nasca of swh_Latn fell"),)).alert_lines(500)
        ['NeuronXA alert at step 500 (swahili): nasca of swh_Latn fell']
        """
        return [f"NeuronXA alert at step {step} ({label}): {text}" for label, text in self.alerts]


def apply_rules(
    rules: Sequence[StopRule], history: History, holding: Collection[str] = ()
) -> RuleOutcome:
    """Apply rules to the latest probe of a history.

    Args:
        rules: Stop rules and alert rules.
        history: The run up to the latest probe.
        holding: ``RuleOutcome.holding`` of the probe before.
    """
    reasons = [(rule, rule.reason(history)) for rule in rules]
    stops = [
        (reason, rule.label)
        for rule, reason in reasons
        if rule.action == "stop" and reason is not None
    ]
    stop, stop_rule = stops[0] if stops else (None, "")
    alerting = {rule.label: reason for rule, reason in reasons if rule.action == "alert"}
    known = {rule.label: _has_score(rule, history) for rule in rules}
    return RuleOutcome(
        stop=stop,
        stop_rule=stop_rule,
        alerts=tuple(
            (label, reason)
            for label, reason in alerting.items()
            if reason is not None and label not in holding
        ),
        holding=tuple(
            label
            for label, reason in alerting.items()
            if reason is not None or (label in holding and not known[label])
        ),
    )


def _has_score(rule: StopRule, history: History) -> bool:
    latest = history.points[-1]
    return not any(math.isnan(latest.score(rule.metric, names)) for names in rule.tested(history))


def can_stop(rules: Iterable[StopRule]) -> bool:
    """Whether one of the rules may stop the run.

    >>> can_stop([StopRule.target(0.5, action="alert")])
    False
    """
    return any(rule.action == "stop" for rule in rules)


def as_rules(stop: StopRule | Iterable[StopRule] | None) -> tuple[StopRule, ...]:
    """The rules of a callback: none, one or several.

    Raises:
        ConfigError: If it is something else, or two rules have the same name.
    """
    if stop is None or isinstance(stop, StopRule):
        return () if stop is None else (stop,)
    rules = checks.list_of("stop", "a StopRule, several of them or None", stop, StopRule)
    names = [rule.name for rule in rules if rule.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"rules must have different names, two have name={twice!r}; rename one of them"
        )
    return rules
