"""Alerts of several rules: one per event, also over a resume and probes without a score."""

import pytest

from neuronxa_callback import StopRule
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from neuronxa_callback.history.rule_events import apply_rules, as_rules
from tests.helpers.reports import make_report, resumed

NAN = float("nan")
HIGH = StopRule.target(0.5, action="alert", name="high")


def alerts_of(rules, scores, resume=False):
    """(probe, label) of every alert."""
    history, holding, found = History(), (), []
    for k, each in enumerate(scores):
        by_language = each if isinstance(each, dict) else dict.fromkeys(("a", "b"), each)
        history.append(make_report(10 * k, by_language))
        outcome = apply_rules(rules, history, holding)
        found += [(k, label) for label, _ in outcome.alerts]
        holding = outcome.holding
        history = resumed(history) if resume else history
    return found


@pytest.mark.parametrize("resume", [False, True])
def test_fifty_probes_of_three_events_are_three_alerts(resume):
    scores = [0.9 if 5 <= k < 12 or 20 <= k < 21 or k >= 30 else 0.2 for k in range(50)]
    assert alerts_of([HIGH], scores, resume) == [(5, "high"), (20, "high"), (30, "high")]


@pytest.mark.parametrize("resume", [False, True])
def test_each_rule_has_events_of_its_own(resume):
    fall = StopRule.collapse(0.2, languages="b", action="alert", name="b fell")
    still = StopRule.plateau(30, 0.02, languages="a", action="alert")
    scores = [{"a": 0.9, "b": 0.9 if k < 20 or k >= 40 else 0.3} for k in range(50)]
    alerts = alerts_of([fall, HIGH, still], scores, resume)
    assert alerts == [(0, "high"), (20, "b fell"), (30, "plateau 0.02 nasca a 30"), (40, "high")]


def test_probes_without_a_score_neither_begin_nor_end_an_event():
    assert alerts_of([HIGH], [NAN, 0.9, NAN, NAN, 0.9, 0.1, 0.9]) == [(1, "high"), (6, "high")]


def test_an_alert_never_stops_and_a_stop_is_no_alert():
    history = History()
    history.append(make_report(0, {"a": 0.9}))
    alert = apply_rules([HIGH], history)
    assert (alert.stop, len(alert.alerts)) == (None, 1)
    stop = apply_rules([StopRule.target(0.5)], history)
    assert (stop.alerts, stop.holding) == ((), ())
    assert stop.stop.startswith("nasca (mean over languages) is above the target 0.5")


def test_names_differ_and_actions_are_known():
    with pytest.raises(ConfigError, match="two have name='high'; rename one of them"):
        as_rules([HIGH, StopRule.collapse(0.1, name="high")])
    with pytest.raises(ConfigError, match="unknown action of a stop rule: 'alrt'; did you mean"):
        StopRule.plateau(action="alrt")
    with pytest.raises(ConfigError):
        StopRule.collapse(0.1, name=3)


def test_labels_of_rules_without_names_differ():
    rules = [
        make(action="alert", languages=languages, metric=metric)
        for make in (
            lambda **more: StopRule.target(0.1, **more),
            lambda **more: StopRule.plateau(2, **more),
            lambda **more: StopRule.plateau(3, **more),
            lambda **more: StopRule.collapse(0.1, **more),
            lambda **more: StopRule.collapse(0.1, reference="first", **more),
        )
        for languages in (None, "a", "worst", ("a", "b"))
        for metric in ("nasca", "navca")
    ]
    assert len({rule.label for rule in rules}) == len(rules) == 40
