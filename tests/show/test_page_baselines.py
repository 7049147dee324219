"""Scores of spelling and length alone, on the page in a real browser."""

import pytest

from neuronxa_callback.show.page.page import write_page
from tests.helpers.reports import make_report

pytestmark = pytest.mark.browser


def baselines(tab):
    """(text, height) of the lines of the baselines."""
    shapes = "document.querySelector('#over-steps').layout.shapes.filter((s) => s.label?.text)"
    return [tuple(pair) for pair in tab.value(f"{shapes}.map((s) => [s.label.text, s.y0])")]


@pytest.fixture(scope="module")
def with_baselines(folder):
    """A page where German scores less than its spelling, Thai more; French has no baseline."""
    surface = {
        "deu_Latn": {"characters": 0.875, "length": 0.125},
        "tha_Thai": {"characters": 0.0, "length": 0.25},
    }
    scores = {"deu_Latn": 0.25, "fra_Latn": 0.5, "tha_Thai": 0.5}
    reports = [make_report(t, scores, diagnostics={"surface": surface}) for t in (0, 100)]
    write_page({"main": reports}, folder / "baselines.html")
    return folder / "baselines.html"


def test_the_only_language_shown_has_its_baselines_drawn(tab, with_baselines):
    tab.open(with_baselines)
    assert baselines(tab) == []
    tab.value("document.querySelector('[data-code=deu_Latn]').dispatchEvent("
              "new MouseEvent('click', {shiftKey: true, bubbles: true}))")  # fmt: skip
    tab.wait("document.querySelector('#heat').data[0].z.length === 1")
    assert baselines(tab) == [("deu_Latn: 3-grams 0.875", 0.875), ("deu_Latn: length 0.125", 0.125)]
    assert tab.value("document.querySelector('#over-steps').layout.yaxis.range")[1] > 0.875
    drawn = tab.value("document.querySelector('#over-steps').textContent")
    assert "deu_Latn: 3-grams 0.875" in drawn


def test_a_highlighted_language_has_its_baselines_drawn_on_the_same_scale(tab, with_baselines):
    tab.open(with_baselines)
    top = "document.querySelector('#over-steps').layout.yaxis.range[1]"
    before = tab.value(top)
    tab.value("document.querySelector('#chips [data-code=tha_Thai]').focus()")
    assert baselines(tab) == [("tha_Thai: 3-grams 0.000", 0.0), ("tha_Thai: length 0.250", 0.25)]
    tab.value("document.querySelector('#chips [data-code=deu_Latn]').focus()")
    above = ("deu_Latn: 3-grams 0.875 \u2191", before)
    assert baselines(tab) == [above, ("deu_Latn: length 0.125", 0.125)]
    assert tab.value(top) == before
    tab.value("document.querySelector('#chips [data-code=fra_Latn]').focus()")
    assert baselines(tab) == []


def test_the_baselines_are_in_the_table(tab, with_baselines):
    tab.open(with_baselines)
    cell = "document.querySelector('tr[data-code=%s]').cells"
    at = tab.value("[...document.querySelectorAll('#table th[data-key]')].map(e => e.dataset.key)")
    cells = {
        code: tuple(
            tab.value(f"{cell % code}[{at.index(key)}].innerText")
            for key in ("characters", "length")
        )
        for code in ("deu_Latn", "fra_Latn", "tha_Thai", "mean")
    }
    assert cells == {
        "deu_Latn": ("0.88", "0.13"),
        "fra_Latn": ("n/a", "n/a"),
        "tha_Thai": ("0.00", "0.25"),
        "mean": ("n/a", "n/a"),
    }
