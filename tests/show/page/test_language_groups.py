"""Groups of languages on the page: their numbers, and how a browser shows them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.pages import EVIL, LANGUAGES, curves, gaps, rising, unpacked_page
from tests.helpers.reports import make_report

GROUPS = {"early": ("deu_Latn", "fra_Latn"), "Latin": ("deu_Latn", "fra_Latn", "swh_Latn")}
HEAT = "document.querySelector('#heat').data"


def grouped(groups=GROUPS, **options):
    """Rising reports with groups and the intervals of their means."""
    reports = []
    for report in rising(**options):
        hits = {
            metric: {
                name: [
                    [math.nan] * 20 if mask is None else [mask >> i & 1 for i in range(20)]
                    for mask in scores.hits[name]
                ]
                for name in LANGUAGES
            }
            for metric, scores in report.metrics.items()
        }
        reports.append(make_report(report.step, hits=hits, groups=groups))
    return reports


def group_rows(reports, metric="nasca"):
    """step -> group -> column -> packed number."""
    plain, array = unpacked_page(page({"main": reports}))
    run = plain["runs"][0]
    numbers = array(run["metrics"][metric]["numbers"])
    first = len(LANGUAGES) + 1
    return [
        {
            group["name"]: dict(zip(plain["columns"], row, strict=True))
            for group, row in zip(run["groups"], rows[first:], strict=True)
        }
        for rows in numbers
    ]


def test_the_numbers_of_groups_are_those_of_the_reports():
    reports = grouped()
    for report, rows in zip(reports, group_rows(reports), strict=True):
        assert list(rows) == list(GROUPS)
        for name, row in rows.items():
            group = f"group:{name}"
            low, high = report.interval("nasca", group)
            wanted = (low, high, *report.retrieval("nasca", group))
            keys = ("low", "high", "pivot_to_target", "target_to_pivot")
            assert [row[key] for key in keys] == pytest.approx(wanted, abs=1e-6, nan_ok=True)
            baseline = report.shuffled_baseline("nasca", group)
            assert row["shuffled_baseline"] == pytest.approx(baseline, abs=1e-6)


def test_changes_of_groups_are_paired_and_adjusted_over_groups():
    reports = grouped(gap=False)
    first, *others = (Point.of(report) for report in reports)
    for point, rows in zip(others, group_rows(reports)[1:], strict=True):
        changes = [change(first, point, "nasca", members) for members in GROUPS.values()]
        adjusted = statistics.holm([each.p for each in changes])
        for each, p, row in zip(changes, adjusted, rows.values(), strict=True):
            found = [row[key] for key in ("change", "change_low", "change_high")]
            assert found == pytest.approx((each.difference, each.low, each.high), abs=1e-6)
            assert row["p"] == pytest.approx(p, rel=1e-4)
            assert row["change"] == pytest.approx(
                np.mean([reports_change(reports, name, point.step) for name in members(row, rows)]),
                abs=1e-6,
            )


def members(row, rows):
    return GROUPS[next(name for name, each in rows.items() if each is row)]


def reports_change(reports, name, step):
    last = next(report for report in reports if report.step == step)
    return last.score("nasca", name) - reports[0].score("nasca", name)


def test_a_resumed_run_has_the_groups_of_its_last_report():
    reports = grouped()
    resumed = [replace(report, groups={}) for report in reports[:2]] + reports[2:]
    assert [list(rows) for rows in group_rows(resumed)] == [list(GROUPS)] * 4
    for mine, wanted in zip(group_rows(resumed), group_rows(reports), strict=True):
        for name, row in mine.items():
            assert list(row.values()) == pytest.approx(list(wanted[name].values()), nan_ok=True)
    without = group_rows([*reports[:3], replace(reports[3], groups={})])
    assert without == [{}] * 4


@pytest.fixture(scope="module")
def groups_page(folder):
    write_page({"main": grouped()}, folder / "groups.html")
    return folder / "groups.html"


@pytest.mark.browser
def test_groups_are_drawn_over_steps_by_layer_and_in_the_table(tab, groups_page):
    tab.open(groups_page)
    reports = grouped()
    line = "document.querySelector('#over-steps').data.find((t) => t.name === 'Latin')"
    wanted = gaps([report.score("nasca", "group:Latin") for report in reports])
    assert tab.value(f"{line}.y") == wanted
    ends = [report.interval("nasca", "group:Latin") for report in reports]
    found = tab.value(f"{line}.customdata")
    for pair, end in zip(found, ends, strict=True):
        assert pair == [pytest.approx(x, abs=1e-6) for x in end]
    assert curves(tab)["early"] == gaps(reports[-1].curve("nasca", "group:early"))
    foot = "[...document.querySelectorAll('#table tfoot tr')].map((r) => [...r.cells].slice(0, 3)"
    assert tab.value(f"{foot}.map((c) => c.innerText))") == [
        [name, f"of {len(codes)} languages", f"{reports[-1].score('nasca', f'group:{name}'):.3f}"]
        for name, codes in GROUPS.items()
    ] + [["mean", "of 4 languages", f"{reports[-1].score('nasca'):.3f}"]]
    tab.click("#groups")
    tab.wait(f"{line} === undefined")
    tab.wait("!document.querySelector('#curve').data.some((t) => t.name === 'early')")
    assert tab.complaints() == []


@pytest.mark.browser
def test_the_heat_map_is_ordered_by_group(tab, groups_page):
    tab.open(groups_page)
    tab.value("order.value = 'group'; order.dispatchEvent(new Event('change'))")
    tab.wait(f"{HEAT}[0].z.length > 4")
    ticks = tab.value("document.querySelector('#heat').layout.yaxis.ticktext")
    assert ticks == [
        "<b>early</b>", "deu_Latn", "fra_Latn",
        "<b>Latin</b>", "deu_Latn", "fra_Latn", "swh_Latn",
        "<b>no group</b>", "tha_Thai",
    ]  # fmt: skip
    report = grouped()[-1]
    rows = tab.value(f"{HEAT}[0].z")
    for tick, row in zip(ticks, rows, strict=True):
        wanted = [None] * 6 if tick.startswith("<b>") else gaps(report.curve("nasca", tick))
        assert row == wanted


@pytest.mark.browser
def test_a_button_shows_the_languages_of_a_group_only(tab, groups_page):
    tab.open(groups_page)
    tab.click("#chips .group:nth-child(2)")
    tab.wait(f"{HEAT}[0].z.length === 2")
    assert tab.value("[...neuronxa.state.shown]") == ["deu_Latn", "fra_Latn"]
    tab.click("#chips .group:nth-child(2)")
    tab.wait(f"{HEAT}[0].z.length === 4")


@pytest.mark.browser
def test_names_of_groups_are_text(tab, folder):
    write_page({"main": grouped({EVIL: ("deu_Latn",)})}, folder / "evil-group.html")
    tab.open(folder / "evil-group.html")
    tab.value("order.value = 'group'; order.dispatchEvent(new Event('change'))")
    tab.wait(f"{HEAT}[0].z.length > 4")
    assert tab.value("document.querySelector('#heat .ytick text').textContent") == EVIL
    assert tab.value("document.querySelector('#chips .group').textContent") == EVIL
    legend = "[...document.querySelectorAll('#over-steps .legendtext')].map((e) => e.textContent)"
    assert EVIL in tab.value(legend)
    assert tab.value("[document.title === 'owned', document.images.length]") == [False, 0]
    assert tab.complaints() == []
