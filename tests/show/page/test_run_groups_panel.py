"""Groups of runs on the page: means, spreads, and differences."""

from dataclasses import replace

import numpy as np
import pytest

from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history.run_groups import compare_runs
from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.pages import EVIL, unpacked_page
from tests.helpers.reports import make_report

NAMES = ("deu_Latn", "fra_Latn", "swh_Latn")
GROUPS = {"two": NAMES[:2]}
RUN_GROUPS = {"A": ("a0", "a1", "a2"), "B": ("b0", "b1")}


def run(seed, level, steps=(0, 100, 200), groups=GROUPS):
    draw = np.random.default_rng(seed)
    return [
        make_report(
            step,
            hits={name: draw.random((4, 30)) < level * (t + 1) / 3 for name in NAMES},
            groups=groups,
        )
        for t, step in enumerate(steps)
    ]


@pytest.fixture(scope="module")
def runs():
    reports = {f"a{k}": run(k, 0.8) for k in range(3)}
    return reports | {
        "b0": run(10, 0.5, (0, 100, 150, 200)),
        "b1": run(11, 0.5, (0, 200)),
        "other": run(12, 0.1),
    }


def at(reports, step):
    return next(report for report in reports if report.step == step)


def test_means_and_spreads_are_those_of_the_runs(runs):
    plain, array = unpacked_page(page(runs, run_groups=RUN_GROUPS))
    entry = plain["run_groups"]
    assert entry["rows"] == [*NAMES, "group:two", "mean"]
    assert [group["steps"] for group in entry["groups"]] == [[0, 100, 200], [0, 200]]
    for group in entry["groups"]:
        for metric in ("nasca", "navca"):
            means = array(group["means"][metric])
            for t, step in enumerate(group["steps"]):
                for k, row in enumerate(entry["rows"]):
                    name = None if row == "mean" else row
                    scores = [
                        at(runs[run], step).score(metric, name) for run in RUN_GROUPS[group["name"]]
                    ]
                    mean = sum(scores) / len(scores)
                    squares = sum((score - mean) ** 2 for score in scores)
                    spread = (squares / (len(scores) - 1)) ** 0.5
                    assert means[t, k, :2] == pytest.approx((mean, spread), abs=1e-6)
                    low, high = means[t, k, 2:]
                    assert low <= mean + 1e-6
                    assert mean <= high + 1e-6


def test_differences_are_those_of_compare_at_the_last_common_step(runs):
    plain, array = unpacked_page(page(runs, run_groups=RUN_GROUPS))
    (entry,) = plain["run_groups"]["differences"]
    assert (entry["groups"], entry["step"]) == (["A", "B"], 200)
    sides = [[at(runs[run], 200) for run in RUN_GROUPS[name]] for name in "AB"]
    for metric, packed in entry["metrics"].items():
        changes = compare_runs(*sides, metric)
        for row, found in zip(plain["run_groups"]["rows"], array(packed), strict=True):
            change = changes[row].change
            wanted = (change.difference, change.low, change.high, change.p)
            assert found == pytest.approx(wanted, abs=1e-6)


def test_a_page_without_groups_has_no_entry(runs):
    assert "run_groups" not in unpacked_page(page(runs))[0]
    assert "run_groups" not in unpacked_page(page(runs, run_groups={}))[0]


def test_groups_that_cannot_be_averaged_are_refused(runs):
    with pytest.raises(ConfigError) as error:
        page(runs, run_groups={"A": ("a0",), "B": ("b0", "b1")})
    assert str(error.value) == "a group needs at least 2 runs to know how runs differ, got 1"
    apart = runs | {"late": run(1, 0.5, (300, 400))}
    with pytest.raises(ConfigError) as error:
        page(apart, run_groups={"A": ("a0", "late")})
    assert str(error.value) == (
        "the runs of the group A must have a probe at a common step, they have none"
    )
    strange = [
        replace(report, fingerprint={**report.fingerprint, "definition": {"n_pairs": 7}})
        for report in runs["a1"]
    ]
    with pytest.raises(FingerprintError):
        page(runs | {"a1": strange}, run_groups=RUN_GROUPS)


@pytest.mark.browser
def test_the_panel_in_a_browser(tab, folder, runs):
    named = {EVIL: RUN_GROUPS["A"], "B": RUN_GROUPS["B"]}
    write_page(runs, folder / "run-groups.html", run_groups=named)
    tab.open(folder / "run-groups.html")
    data = "document.getElementById('run-groups').data"
    means = f"{data}.filter((t) => t.error_y)"
    scores = [[at(runs[run], step).score("nasca") for run in named[EVIL]] for step in (0, 100, 200)]
    assert tab.value(f"{means}[0].y") == [pytest.approx(np.mean(x), abs=1e-6) for x in scores]
    assert tab.value(f"{means}[0].error_y.array") == [
        pytest.approx(np.std(x, ddof=1), abs=1e-6) for x in scores
    ]
    assert tab.value(f"{data}.length") == 2 * 2 + 5, "a band and a mean per group, a line per run"
    names = tab.value("[...document.querySelectorAll('#run-groups .legendtext')]"
                      ".map((e) => e.textContent)")  # fmt: skip
    assert names == [f"{EVIL}: mean of 3 runs", "B: mean of 2 runs"]
    lines = "[...document.querySelectorAll('#panel-run-groups tbody tr')].map((r) => r.innerText)"
    text = tab.value(lines)
    assert len(text) == 5
    wanted = np.mean([at(runs[run], 200).score("nasca", "deu_Latn") for run in named[EVIL]])
    assert f"{wanted:.3f} \u00b1 " in text[0]
    tab.value("(() => { const e = document.querySelector('#panel-run-groups select');"
              " e.value = 'swh_Latn'; e.dispatchEvent(new Event('change')); })()")  # fmt: skip
    swahili = np.mean([at(runs[run], 200).score("nasca", "swh_Latn") for run in named[EVIL]])
    tab.wait(f"Math.abs({means}[0].y[2] - {swahili}) < 1e-6")
    assert tab.value("[document.images.length, document.title === 'owned']") == [0, False]
    assert tab.complaints() == []
