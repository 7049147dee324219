"""Means over groups of languages: in reports, scalars, tables, stop rules and comparisons."""

import json
import math

import numpy as np
import pytest

from neuronxa_callback import AlignmentReport, Probe, StopRule
from neuronxa_callback.errors import ConfigError, ReportError
from neuronxa_callback.history.comparison import compare_groups
from neuronxa_callback.history.history import History
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics.statistics import interval
from neuronxa_callback.show import tables
from neuronxa_callback.show.charts import by_group, heat_map
from tests.helpers.probes import config_of
from tests.helpers.reports import make_report, resumed
from tests.helpers.tiny import llama, parallel, tokenizer_of

GROUPS = {"mine": ("c", "a"), "one": ("b",)}


def drawn(rng, means, n, layers=4, shared=0.6):
    """Verdicts [layers, pairs] per language; pair i is as hard in all languages as ``shared``."""
    ease = rng.normal(size=n)
    found = {}
    for name, mean in means.items():
        noise = shared * ease + math.sqrt(1 - shared**2) * rng.normal(size=(layers, n))
        found[name] = noise < mean
    return found


def test_a_group_has_the_mean_of_its_languages_and_their_interval():
    report = make_report(0, {"a": 0.5, "b": 0.3, "c": 0.8}, groups=GROUPS)
    assert report.score("nasca", "group:mine") == pytest.approx((0.5 + 0.8) / 2)
    assert report.curve("nasca", "group:mine") == pytest.approx([0.65] * 8)
    assert report.interval("nasca", "group:one") == report.interval("nasca", "b")
    expected = interval(Point.of(report).sums("nasca", ("c", "a")), shared=True)
    assert report.interval("nasca", "group:mine") == pytest.approx(expected)
    scalars = report.scalars()
    assert scalars["neuronxa/nasca/group/mine"] == report.score("nasca", "group:mine")
    assert scalars["neuronxa/navca/group/mine/low"] == report.interval("navca", "group:mine")[0]
    assert scalars["neuronxa/navca/group/one/high"] == report.interval("navca", "b")[1]
    with pytest.raises(KeyError, match=r"no language 'group:other'.*group:mine, group:one"):
        report.score("nasca", "group:other")
    with pytest.raises(KeyError):
        report.layer_interval("nasca", "group:mine", 0)


def test_groups_survive_json_and_a_report_without_groups_does_not_name_them():
    report = make_report(0, {"a": 0.5, "b": math.nan, "c": 0.8}, groups=GROUPS)
    again = AlignmentReport.from_json(report.to_json())
    assert again == report
    assert again.groups == GROUPS
    assert math.isnan(again.score("nasca", "group:one"))
    plain = make_report(0, {"a": 0.5})
    assert "groups" not in plain.to_dict()
    assert not [key for key in plain.scalars() if "/group/" in key]
    for members in (["x"], [], ["a", "a"], "a"):
        damaged = report.to_dict() | {"groups": {"mine": members, "one": ["b"]}}
        with pytest.raises(ReportError, match=r"groups\.mine"):
            AlignmentReport.from_json(json.dumps(damaged))


def test_a_probe_measures_groups_and_they_move_no_other_number():
    corpus = parallel(10, ("deu_Latn", "fra_Latn", "spa_Latn"))
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    tokenizer, model = tokenizer_of(texts), llama()
    groups = ["resource", "script", {"mine": ["German", "es"]}]
    with_groups, without = (
        Probe(config_of(corpus, **options), tokenizer).run(model)
        for options in ({"groups": groups}, {})
    )
    assert with_groups.groups == {
        "class-5": corpus.languages,
        "Latn": corpus.languages,
        "mine": ("deu_Latn", "spa_Latn"),
    }
    assert with_groups.interval("nasca", "group:Latn") == with_groups.interval("nasca")
    assert with_groups.fingerprint == without.fingerprint
    scalars = {k: v for k, v in with_groups.scalars().items() if "/group/" not in k}
    assert {k: v for k, v in scalars.items() if "seconds" not in k} == {
        k: v for k, v in without.scalars().items() if "seconds" not in k
    }


def test_groups_are_rows_of_the_table_and_order_the_heat_map():
    report = make_report(0, {"a": 0.5, "b": 0.3, "c": 0.8}, groups=GROUPS)
    names = [str(cell) for cell in tables.one_report(report).columns[0].cells]
    assert names == ["c", "a", "b", "group:mine", "group:one", "mean"]
    assert by_group(report) == ("c", "a", "b")
    labels = [label.get_text() for label in heat_map(report, "nasca").axes[0].get_yticklabels()]
    assert labels == ["c", "a", "b"]


def history(*scores):
    found = History()
    for step, by_language in enumerate(scores):
        found.append(make_report(step, by_language, groups=GROUPS))
    return found


def test_a_stop_rule_watches_a_group():
    rule = StopRule.collapse(drop=0.1, languages="group:mine")
    before, after = {"a": 0.9, "b": 0.5, "c": 0.9}, {"a": 0.5, "b": 0.5, "c": 0.5}
    run = history(before, after)
    rule.check(make_report(groups=GROUPS, scores=before))
    assert "nasca of group:mine fell by 0.400" in rule.reason(run)
    assert rule.reason(resumed(run)) == rule.reason(run)
    assert StopRule.collapse(drop=0.1, languages="group:one").reason(run) is None
    assert StopRule.target(0.6, languages=["group:mine", "b"]).reason(history(before)) is not None
    with pytest.raises(ConfigError, match="group:mine"):
        rule.check(make_report(scores=before))


def test_groups_are_compared_pair_by_pair():
    rng = np.random.default_rng(0)
    reports = [
        make_report(
            k, hits=drawn(rng, {"a": mean, "b": 0.0, "c": mean}, 200), groups=GROUPS, n_pairs=200
        )
        for k, mean in enumerate((-0.5, 0.5))
    ]
    changes = compare_groups(*reports, "nasca")
    assert [*changes] == ["mine", "one"]
    expected = change(*map(Point.of, reports), "nasca", ("c", "a"))
    assert changes["mine"].difference == pytest.approx(expected.difference)
    assert (changes["mine"].low, changes["mine"].high) == (expected.low, expected.high)
    assert changes["mine"].significant
    at_100 = compare_groups(*reports, "nasca", at_n=100)
    assert at_100["one"].difference == pytest.approx(
        reports[1].score_at(100, "nasca", "b") - reports[0].score_at(100, "nasca", "b")
    )


@pytest.mark.slow
def test_the_interval_of_a_group_holds():
    rng = np.random.default_rng(7)
    means = {"a": -0.4, "b": 0.2, "c": 0.5, "d": 0.0}
    truth = drawn(rng, means, 200_000, layers=4)
    expected = np.mean([truth[name].mean() for name in ("a", "c")])
    for shared in (0.3, 0.9):
        inside = 0
        for _ in range(400):
            report = make_report(
                hits=drawn(rng, means, 60, shared=shared), groups={"mine": ("a", "c")}
            )
            low, high = report.interval("nasca", "group:mine")
            inside += low <= expected <= high
        # 95 % of 400 is 380; its standard error is 4.4.
        assert 366 <= inside <= 394
