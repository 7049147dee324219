"""The language table of the page in a real browser: order, and NaN."""

import math

import pytest

from tests.helpers.pages import LANGUAGES, codes, curves, gaps, rising, shown_step

pytestmark = pytest.mark.browser


def test_a_layer_of_nan_is_a_gap_and_never_nought(tab, one):
    tab.open(one)
    tab.value("document.getElementById('step').focus()")
    tab.press("Home", number=36)
    tab.press("ArrowRight", number=39)
    shown_step(tab, 100)
    curve = rising()[1].curve("nasca", "tha_Thai")
    assert math.isnan(curve[2])
    assert curves(tab)["Thai \u00b7 tha_Thai"] == gaps(curve)
    assert tab.value("document.querySelector('#heat').data[0].z[3]") == gaps(curve)
    cells = "[...document.querySelector('tr[data-code=%s]').cells].map((e) => e.innerText)"
    assert tab.value(cells % "tha_Thai")[2:5] == ["n/a", "n/a", "n/a"]
    assert tab.value(cells % "mean")[2] == "n/a"
    y = tab.value("document.querySelector('#over-steps').data.find((t) => t.name === 'mean').y")
    assert [score is None for score in y] == [False, True, False, False]
    assert "1 of 6 layers of nasca hold NaN" in tab.value(cells % "tha_Thai")[-1]
    # It stays last, whichever way the table is sorted.
    assert codes(tab)[-1] == "tha_Thai"
    tab.click("th[data-key=score] button")
    assert codes(tab)[-1] == "tha_Thai"


def test_the_table_is_sorted_by_click_and_by_keyboard(tab, one):
    tab.open(one)
    report = rising()[-1]
    by_score = sorted(LANGUAGES, key=lambda name: -report.score("nasca", name))
    sort = "document.querySelector('th[data-key=%s]').getAttribute('aria-sort')"
    assert (codes(tab), tab.value(sort % "score")) == (by_score, "descending")
    tab.click("th[data-key=score] button")
    assert (codes(tab), tab.value(sort % "score")) == (by_score[::-1], "ascending")
    tab.value("document.querySelector('th[data-key=code] button').focus()")
    tab.press("Enter", number=13, text="\r")
    assert (codes(tab), tab.value(sort % "code")) == (sorted(LANGUAGES), "ascending")
    assert tab.value(sort % "score") == "none"
    tab.press(" ", code="Space", number=32, text=" ")
    assert codes(tab) == sorted(LANGUAGES)[::-1]
