"""Stop rules: when they stop, and which reason they give."""

import numpy as np
import pytest

from neuronxa_callback import StopRule
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from tests.helpers.reports import history_of, make_report, resumed

NAN = float("nan")


def stops_at(rule, *scores):
    """The first probe at which a rule stops; None for never."""
    history = History()
    for k, each in enumerate(scores):
        by_language = each if isinstance(each, dict) else dict.fromkeys(("a", "b"), each)
        history.append(make_report(10 * k, by_language))
        if rule.reason(history) is not None:
            return k
    return None


def test_nothing_stops_before_the_first_probe():
    for rule in (StopRule.target(0.0), StopRule.plateau(1), StopRule.collapse(0.0)):
        assert rule.reason(History()) is None


def test_target_waits_for_the_lower_end():
    assert stops_at(StopRule.target(0.5), 0.4, 0.55, 0.7, 0.8) == 2
    assert stops_at(StopRule.target(0.5), 0.4, 0.55, 0.55) is None


def test_target_is_stricter_at_later_probes():
    rule = StopRule.target(0.5)
    assert stops_at(rule, 0.62) == 0
    assert stops_at(rule, *[0.4] * 20, 0.62) is None
    assert stops_at(rule, *[0.4] * 20, 0.72) == 20


def test_plateau_waits_for_its_patience():
    assert stops_at(StopRule.plateau(3, 0.02), *[0.5] * 9) == 3
    assert stops_at(StopRule.plateau(3, 0.02), *np.linspace(0.1, 0.9, 30)) is None


def test_plateau_looks_back_as_far_as_twice_its_patience():
    rule = StopRule.plateau(3, 0.02)
    scores = [*np.linspace(0.1, 0.7, 13), *[0.7] * 9]
    assert 12 + 3 < stops_at(rule, *scores) <= 12 + 6


def test_plateau_waits_for_the_upper_end_of_the_gain():
    half = np.arange(100) < 50
    flips, same = History(), History()
    for k, rows in enumerate((half, ~half)):
        flips.append(make_report(k, hits={"a": np.tile(rows, (8, 1))}))
        same.append(make_report(k, hits={"a": np.tile(half, (8, 1))}))
    assert flips.change("nasca").difference == 0
    assert StopRule.plateau(1, 0.02).reason(flips) is None
    assert StopRule.plateau(1, 0.02).reason(same) is not None


def test_a_falling_score_is_a_plateau_too():
    assert stops_at(StopRule.plateau(3, 0.02), 0.9, 0.8, 0.7, 0.6) == 3


def test_collapse_is_since_the_best_probe():
    rule = StopRule.collapse(0.10)
    assert stops_at(rule, 0.3, 0.6, 0.58, 0.35) == 3
    assert stops_at(rule, 0.3, 0.6, 0.58, 0.55) is None
    assert stops_at(StopRule.collapse(0.10, reference="first"), 0.3, 0.6, 0.35) is None
    assert stops_at(StopRule.collapse(0.10, reference="first"), 0.3, 0.6, 0.1) == 2


def test_a_language_collapses_since_its_own_best_probe():
    # The best mean is that of probe 1, the best of a that of probe 0.
    scores = {"a": 0.9, "b": 0.1}, {"a": 0.78, "b": 0.7}, {"a": 0.65, "b": 0.7}
    assert stops_at(StopRule.collapse(0.15, languages="a"), *scores) == 2
    assert stops_at(StopRule.collapse(0.15), *scores) is None


def test_a_drop_that_may_be_smaller_is_no_collapse():
    # 12 of 100 pairs fell: more than 10, but not significantly more.
    assert stops_at(StopRule.collapse(0.10), 0.50, 0.38) is None
    assert stops_at(StopRule.collapse(0.10), 0.50, 0.30) == 1


def test_a_rule_may_look_at_some_languages():
    scores = {"a": 0.6, "b": 0.6, "c": 0.6}, {"a": 0.6, "b": 0.6, "c": 0.1}
    assert stops_at(StopRule.collapse(0.3), *scores) is None
    assert stops_at(StopRule.collapse(0.3, languages="c"), *scores) == 1
    assert stops_at(StopRule.collapse(0.3, languages=["a", "b"]), *scores) is None
    assert stops_at(StopRule.collapse(0.1, languages=["a", "c"]), *scores) == 1


def test_one_language_that_collapses_is_enough_for_the_worst():
    before = {"a": 0.6, "b": 0.6, "c": 0.6}
    assert stops_at(StopRule.collapse(0.3, languages="worst"), before, before | {"c": 0.1}) == 1
    assert stops_at(StopRule.collapse(0.3, languages="worst"), before, before | {"c": 0.25}) is None


def test_the_worst_of_many_is_judged_by_holm():
    names = [f"l{k}" for k in range(20)]
    before = dict.fromkeys(names, 0.6)
    after = before | {"l7": 0.39}
    assert stops_at(StopRule.collapse(0.10, languages="l7"), before, after) == 1
    assert stops_at(StopRule.collapse(0.10, languages="worst"), before, after) is None
    beyond = before | {"l7": 0.32}
    assert stops_at(StopRule.collapse(0.10, languages="worst"), before, beyond) == 1


def test_all_languages_must_reach_a_target_and_stand_still():
    rule = StopRule.target(0.5, languages="worst")
    assert stops_at(rule, {"a": 0.9, "b": 0.4}, {"a": 0.9, "b": 0.8}) == 1
    rule = StopRule.plateau(2, 0.02, languages="worst")
    rising = [{"a": 0.5, "b": 0.1 * k} for k in range(6)]
    assert stops_at(rule, *rising) is None
    assert stops_at(rule, *[{"a": 0.5, "b": 0.5}] * 3) == 2


@pytest.mark.parametrize("rule", [StopRule.target(0.0), StopRule.plateau(1), StopRule.collapse(0)])
@pytest.mark.parametrize("languages", [None, "worst"])
def test_nan_never_stops(rule, languages):
    rule = type(rule)(rule.kind, rule.amount, languages=languages, patience=rule.patience)
    assert stops_at(rule, NAN, NAN, NAN) is None


def test_a_probe_of_nan_does_not_hide_the_best():
    assert stops_at(StopRule.collapse(0.10), 0.6, NAN, 0.3) == 2


@pytest.mark.parametrize(
    ("rule", "scores", "words"),
    [
        (
            StopRule.target(0.5),
            (0.4, 0.8),
            "nasca (mean over languages) is above the target 0.5: it is 0.800, in [0.694, 0.876]"
            " after 2 probes",
        ),
        (
            StopRule.target(0.5, languages="worst"),
            ({"a": 0.7, "b": 0.9},),
            "nasca of a is above the target 0.5: it is 0.700, in [0.602, 0.782] after 1 probe",
        ),
        (
            StopRule.plateau(2, 0.02, metric="navca", languages=["a", "b"]),
            (0.5, 0.5, 0.5),
            "navca of a, b rises by at most +0.001 in 2 probes, less than 0.02",
        ),
        (
            StopRule.plateau(1, 0.02, languages="a"),
            (0.5, 0.3),
            "nasca of a rises by at most -0.148 in 1 probe, less than 0.02",
        ),
        (
            StopRule.collapse(0.1),
            (0.2, 0.6, 0.3),
            "nasca (mean over languages) fell by 0.300 since the best probe (step 10), by more"
            " than 0.1 (p < 0.025, one-sided, Holm)",
        ),
        (
            StopRule.collapse(0.1, languages="worst", reference="first"),
            ({"a": 0.9, "b": 0.6}, {"a": 0.1, "b": 0.2}),
            "nasca of a fell by 0.800 since the first probe (step 0), by more than 0.1"
            " (p < 0.025, one-sided, Holm)",
        ),
    ],
)
def test_a_rule_says_in_one_line_why(rule, scores, words):
    assert rule.reason(history_of(*scores)) == words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            StopRule.target(0.5, metric="nsca"),
            "unknown metric of a stop rule: 'nsca'; did you mean 'nasca' or 'navca'? (known:"
            " nasca, navca)",
        ),
        (
            StopRule.collapse(languages="swh"),
            "unknown language of a stop rule: 'swh'; did you mean 'swh_Latn'? (known: deu_Latn,"
            " swh_Latn)",
        ),
        (
            StopRule.plateau(languages=("deu_Latn", "xx")),
            "unknown language of a stop rule: 'xx' (known: deu_Latn, swh_Latn)",
        ),
    ],
)
def test_what_no_report_has_is_an_error_at_the_first_probe(rule, words):
    with pytest.raises(ConfigError) as error:
        rule.check(make_report(0))
    assert str(error.value) == words


@pytest.mark.parametrize("languages", [None, "deu_Latn", ["deu_Latn", "swh_Latn"], "worst"])
def test_what_a_report_has_is_no_error(languages):
    StopRule.target(0.5, metric="navca", languages=languages).check(make_report(0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StopRule.target(1.0), "score must be in [0, 1), got 1.0"),
        (lambda: StopRule.target(NAN), "score must be in [0, 1), got nan"),
        (lambda: StopRule.collapse(-0.1), "drop must be in [0, 1), got -0.1"),
        (lambda: StopRule.plateau(min_delta=2), "min_delta must be in [0, 1), got 2"),
        (lambda: StopRule.plateau(0), "patience must be an integer of at least 1, got 0"),
        (lambda: StopRule.plateau(2.5), "patience must be an integer of at least 1, got 2.5"),
        (
            lambda: StopRule.collapse(reference="last"),
            "unknown reference: 'last'; did you mean 'best'? (known: best, first)",
        ),
        (
            lambda: StopRule.target(0.5, languages=[]),
            "languages must have at least one language, or be None for all",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == words


RULES = [
    *(StopRule.target(0.45, languages=languages) for languages in (None, "l00", "worst")),
    *(
        StopRule.plateau(p, 0.02, languages=languages)
        for p, languages in ((2, None), (5, None), (3, ("l00", "l01")))
    ),
    *(
        StopRule.collapse(0.04, languages=languages)
        for languages in (None, "l00", ("l01", "l02"), "worst")
    ),
    StopRule.collapse(0.04, reference="first"),
]


def test_decisions_are_the_same_after_a_resume_at_any_probe():
    names, rng = ("l00", "l01", "l02"), np.random.default_rng(3)
    truth = 0.5 + 0.08 * np.sin(np.arange(24) / 3)
    # Each pair has an ease of its own that stays, so changes are paired.
    ease = rng.normal(0, 0.15, (3, 100))
    counts = rng.binomial(12, np.clip(truth[:, None, None] + ease, 0, 1))
    whole, broken, seen = History(), History(), set()
    for k, rows in enumerate(counts):
        hits = {name: np.arange(12)[:, None] < row for name, row in zip(names, rows, strict=True)}
        report = make_report(10 * k, hits=hits, metrics=("nasca",))
        reasons = []
        for history in (whole, broken):
            history.append(report)
            reasons.append([rule.reason(history) for rule in RULES])
        assert reasons[0] == reasons[1]
        seen |= {number for number, reason in enumerate(reasons[0]) if reason}
        broken = resumed(broken)
    assert {RULES[number].kind for number in seen} == {"target", "plateau", "collapse"}
