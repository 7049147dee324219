"""The charts of the page in a real browser: their numbers, gaps, controls and highlights."""

import math

import pytest

from neuronxa_callback.show.page.page import write_page
from tests.helpers.pages import LANGUAGES, curves, gaps, rising, shown_step
from tests.helpers.reports import make_report

pytestmark = pytest.mark.browser


def test_its_numbers_are_those_of_the_reports(tab, one):
    tab.open(one)
    for t, report in enumerate(rising()):
        for metric in report.metrics:
            for k, name in ((-1, None), *enumerate(LANGUAGES)):
                of = f"neuronxa.data.runs[0].%s('{metric}', {t}, {k}%s)"
                score = report.score(metric, name)
                assert [tab.value(of % ("score", ""))] == gaps([score])
                assert tab.value(of % ("curve", "")) == gaps(report.curve(metric, name))
                low, high = report.interval(metric, name)
                assert [tab.value(of % ("number", f", '{x}'")) for x in ("low", "high")] == [
                    None if math.isnan(x) else pytest.approx(x, abs=1e-6) for x in (low, high)
                ]


def test_the_slider_moves_the_curve_by_keyboard(tab, one):
    tab.open(one)
    shown_step(tab, 300)
    line = "#curve .scatterlayer .trace:nth-child(2) path.js-line"
    path = f"document.querySelector('{line}').getAttribute('d')"
    before = tab.value(path)
    tab.value("document.getElementById('step').focus()")
    tab.press("ArrowLeft", number=37)
    shown_step(tab, 200)
    assert tab.value(path) != before
    report = rising()[2]
    assert curves(tab)["German \u00b7 deu_Latn"] == gaps(report.curve("nasca", "deu_Latn"))
    assert tab.value("document.querySelector('#over-steps').layout.shapes[0].x0") == 200
    assert tab.value("document.getElementById('step').getAttribute('aria-valuetext')") == "step 200"
    tab.press("Home", number=36)
    shown_step(tab, 0)
    tab.value("document.activeElement.blur()")
    tab.press("ArrowRight", number=39)
    shown_step(tab, 100)


def test_the_loss_is_drawn_where_it_was_logged(tab, folder):
    runs = [{"loss": 5.0, "loss_step": 90}, {"loss": 4.0, "loss_step": 190}]
    reports = [make_report(100 * t, run=run) for t, run in enumerate(runs, start=1)]
    write_page({"main": reports}, folder / "loss.html")
    tab.open(folder / "loss.html")
    drawn = "document.querySelector('#over-steps')"
    line = tab.value(f"(({{ x, y }}) => [x, y])({drawn}.data.find((t) => t.name === 'loss'))")
    assert line == [[90, 190], [5, 4]]
    low, high = tab.value(f"{drawn}._fullLayout.xaxis.range")
    assert low < 90 < 200 < high
    assert "4.000\nat step 190" in tab.value("facts.innerText")


def test_another_metric_is_drawn(tab, one):
    tab.open(one)
    tab.click("#metrics label:nth-child(2)")
    report = rising()[-1]
    tab.wait("document.querySelector('.at').textContent.startsWith('navca')")
    assert curves(tab)["mean"] == gaps(report.curve("navca"))
    text = tab.value("document.querySelector('tr[data-code=deu_Latn]').cells[2].innerText")
    assert text == f"{report.score('navca', 'deu_Latn'):.3f}"


def test_languages_can_be_hidden(tab, one):
    tab.open(one)
    tab.click("#chips [data-code=fra_Latn]")
    tab.wait("document.querySelector('#heat').data[0].z.length === 3")
    assert [*curves(tab)] == [
        "German \u00b7 deu_Latn",
        "Swahili \u00b7 swh_Latn",
        "Thai \u00b7 tha_Thai",
        "mean",
    ]
    pressed = "document.querySelector('#chips [data-code=fra_Latn]').getAttribute('aria-pressed')"
    assert tab.value(pressed) == "false"


@pytest.mark.parametrize("id", ["over-steps", "curve", "heat"])
def test_labels_have_room_or_a_chart_is_drawn_twice(tab, one, id):
    tab.open(one)
    layout = f"document.getElementById('{id}')._fullLayout"
    size, margin = (
        [tab.value(f"{layout}.{name}.{side}") for side in "lrtb"] for name in ("_size", "margin")
    )
    assert size == margin


def test_a_language_that_is_pointed_at_stands_out(tab, one):
    tab.open(one)
    bright = (
        "[...document.querySelectorAll('#curve .scatterlayer .trace')]"
        ".filter((e) => e.style.opacity !== '0.12')"
        ".map((e) => e.getAttribute('class').split('trace').pop())"
    )
    assert len(tab.value(bright)) == 6
    tab.value("document.querySelector('#chips [data-code=fra_Latn]').focus()")
    assert tab.value(bright) == ["l1r0"]
    tab.value("document.getElementById('step').focus()")
    assert len(tab.value(bright)) == 6
