"""Pages without curves over steps: every run has one probe. In a real browser."""

import pytest

from neuronxa_callback.show.page.page import write_page
from tests.helpers.pages import codes, rising
from tests.helpers.reports import make_report

pytestmark = pytest.mark.browser


def hidden(tab, *ids):
    return [tab.value(f"document.getElementById('{id}').checkVisibility() === false") for id in ids]


def test_a_single_probe_has_no_empty_chart_over_steps(tab, folder):
    surface = {name: {"characters": 0.5, "length": 0.1} for name in ("deu_Latn", "swh_Latn")}
    write_page({"main": [make_report(diagnostics={"surface": surface})]}, folder / "alone.html")
    tab.open(folder / "alone.html")
    assert hidden(tab, "over-steps", "step", "lines", "bands", "minus-field") == [True] * 5
    assert tab.value("document.querySelectorAll('#over-steps .main-svg').length") == 0
    assert tab.value("document.getElementById('over-steps-title').textContent") == (
        "Languages to show"
    )
    facts = tab.value("[...document.querySelectorAll('#facts dt')].map((e) => e.textContent)")
    assert facts == ["Mean score", "Highest", "Lowest", "Loss"]
    keys = "[...document.querySelectorAll('#table th[data-key]')].map((e) => e.dataset.key)"
    assert "change" not in tab.value(keys)
    assert len(tab.value(keys)) == len(
        tab.value("[...document.querySelector('#table tbody tr').cells].map(() => 0)")
    )
    # The chips still choose languages, and pointing at one draws nothing that is not there.
    tab.value("document.querySelector('#chips [data-code=swh_Latn]').focus()")
    tab.click("#chips [data-code=deu_Latn]")
    tab.wait("document.querySelector('#heat').data[0].z.length === 1")
    assert codes(tab) == ["deu_Latn", "swh_Latn"]
    assert tab.complaints() == []


def test_one_run_with_several_probes_keeps_the_chart(tab, folder):
    write_page({"alone": rising()[:1], "main": rising()}, folder / "mixed.html")
    tab.open(folder / "mixed.html")
    assert hidden(tab, "over-steps", "step") == [False, False]
    options = "[...document.getElementById('minus').options].map((e) => e.textContent)"
    assert tab.value(options) == ["nothing", "main"]
    assert tab.value("[...document.querySelectorAll('#facts dt')].length") == 6
    assert tab.complaints() == []
