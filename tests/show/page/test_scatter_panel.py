"""Alignment against downstream scores on the page."""

import numpy as np
import pytest
from scipy import stats

from neuronxa_callback.history.agreement import correlate
from neuronxa_callback.history.downstream import DownstreamScore
from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.pages import EVIL, unpacked
from tests.helpers.reports import make_report

CODES = (
    "arb_Arab", "ces_Latn", "deu_Latn", "fra_Latn", "hin_Deva", "jpn_Jpan", "spa_Latn",
    "swh_Latn", "tha_Thai", "tur_Latn",
)  # fmt: skip
GROUPS = {"most": CODES[:9], "few": CODES[:3]}


def runs():
    draw = np.random.default_rng(0)
    return {
        name: [
            make_report(
                step,
                hits={
                    metric: {
                        code: draw.random((2, 50)) < (k + 1) / 12 for k, code in enumerate(CODES)
                    }
                    for metric in ("nasca", "navca")
                },
                groups=GROUPS,
            )
            for step in (0, 100)
        ]
        for name in ("a", "b")
    }  # fmt: skip


def agreements(reports, tasks=("xnli", EVIL)):
    draw = np.random.default_rng(1)
    scores = [
        DownstreamScore(code, task, 40 + 3 * k + draw.normal())
        for task in tasks
        for k, code in enumerate(CODES)
    ]
    return correlate(reports, scores), scores


@pytest.fixture(scope="module")
def found():
    reports = runs()
    return reports, *agreements(reports)


@pytest.fixture(scope="module")
def scatter_page(folder, found):
    write_page(found[0], folder / "scatter.html", agreements=found[1])
    return folder / "scatter.html"


def test_the_correlations_are_in_the_data(found):
    reports, correlations, scores = found
    plain, _ = unpacked(page(reports, agreements=correlations))
    entries = plain["scatter"]["found"]
    assert [(each["run"], each["task"], each["metric"]) for each in entries] == [
        (run, task, metric)
        for run in ("a", "b")
        for task in ("xnli", EVIL)
        for metric in ("nasca", "navca")
    ]
    y = [score.score for score in scores if score.task == "xnli"]
    for each in entries:
        if each["task"] == "xnli":
            x = [reports[each["run"]][-1].score(each["metric"], code) for code in CODES]
            wanted = stats.pearsonr(x, y)
            assert each["r"] == pytest.approx(wanted.statistic)
            ends = wanted.confidence_interval()
            assert (each["low"], each["high"]) == pytest.approx((ends.low, ends.high), abs=1e-6)
    assert {each["group"] for each in plain["scatter"]["in_groups"]} == {"most"}
    assert plain["scatter"]["latin"] == [code for code in CODES if code.endswith("Latn")]
    assert "scatter" not in unpacked(page(reports))[0]


@pytest.mark.browser
def test_a_dot_per_language_and_r_with_its_interval(tab, found, scatter_page):
    reports, correlations, scores = found
    tab.open(scatter_page)
    dots = tab.value(
        "document.getElementById('scatter').data.flatMap((t) =>"
        " t.x.map((x, k) => [t.text[k], x, t.y[k]]))"
    )
    assert len(dots) == len(CODES)
    by_name = {name: (x, y) for name, x, y in dots}
    wanted = {score.language: score.score for score in scores if score.task == "xnli"}
    last = reports["a"][-1]
    german = (last.score("nasca", "deu_Latn"), wanted["deu_Latn"])
    assert by_name["German"] == pytest.approx(german)
    text = "document.querySelector('#panel-scatter .panel p').textContent"
    r = correlations.over_languages[0].pearson
    shown = (
        f"r = +{r.r:.2f} [{r.low:.2f}\u2009\u2013\u2009{r.high:.2f}] over 10 languages at step 100"
    )
    assert tab.value(text).startswith(shown)
    assert "in most +0." in tab.value(text)
    tab.click("#metrics label:nth-child(2)")
    second = correlations.over_languages[1].pearson
    tab.wait(f"{text}.startsWith('r = +{second.r:.2f}')")
    assert tab.complaints() == []


@pytest.mark.browser
def test_another_task_and_run_and_no_markup(tab, found, scatter_page):
    _, correlations, _ = found
    tab.open(scatter_page)
    tab.value("(() => { const e = document.querySelector('#panel-scatter select');"
              " e.selectedIndex = 1; e.dispatchEvent(new Event('change')); })()")  # fmt: skip
    text = "document.querySelector('#panel-scatter .panel p').textContent"
    chosen = next(
        each for each in correlations.over_languages
        if (each.model, each.task, each.metric) == ("a", EVIL, "nasca")
    )  # fmt: skip
    tab.wait(f"{text}.startsWith('r = +{chosen.pearson.r:.2f}')")
    title = "document.querySelector('#scatter .ytitle').textContent"
    tab.wait(f"{title} !== 'xnli'")
    assert tab.value(title) == EVIL
    assert tab.value("[document.images.length, document.title === 'owned']") == [0, False]
    assert tab.complaints() == []


@pytest.mark.browser
def test_a_run_without_scores_says_so(tab, folder):
    reports = runs()
    found, _ = agreements({"a": reports["a"]}, tasks=("xnli",))
    write_page(reports, folder / "partly.html", agreements=found)
    tab.open(folder / "partly.html")
    tab.value("document.getElementById('run').value = 1;"
              "document.getElementById('run').dispatchEvent(new Event('change'))")  # fmt: skip
    text = "document.querySelector('#panel-scatter .panel p').textContent"
    tab.wait(f"{text} === 'There is no correlation of b and nasca with this task.'")
    assert tab.value("document.getElementById('scatter').checkVisibility()") is False
    assert tab.complaints() == []
