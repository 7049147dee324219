"""The page in a real browser: it is safe, makes no request, and shows several runs."""

from dataclasses import replace

import pytest

from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.pages import EVIL, NASTY, codes, curves, large, named, rising, shown_step
from tests.helpers.reports import make_report

pytestmark = pytest.mark.browser


def test_it_is_drawn_without_complaint_or_request(tab, one):
    tab.open(one)
    assert tab.complaints() == []
    assert tab.requests() == []
    assert tab.value("document.title") == "A run"
    assert int(tab.value("document.documentElement.dataset.drawnMs")) >= 0
    for id in ("over-steps", "curve", "heat"):
        assert tab.value(f"document.querySelectorAll('#{id} .main-svg').length") > 0
    assert "2 pairs were dropped; the first: deu.txt:17" in tab.value("notes.innerText")


def test_that_test_can_fail(tab, folder):
    text = page({"main": [make_report()]})
    policy = text[text.index("<meta http-equiv") : text.index('<meta name="viewport')]
    broken = (
        "<script>console.error('no'); fetch('http://127.0.0.1:9/').catch(() => {})</script></body>"
    )
    (folder / "bad.html").write_text(text.replace(policy, "").replace("</body>", broken))
    tab.open(folder / "bad.html")
    tab.wait("new Promise((done) => setTimeout(() => done(true), 100))")
    assert ["no"] in tab.complaints()
    assert tab.requests() == ["http://127.0.0.1:9/"]


def test_its_policy_lets_nothing_in_and_no_other_script_run(tab, one):
    tab.open(one)
    tab.value(
        "window.refused = []; document.addEventListener('securitypolicyviolation',"
        " (event) => refused.push(event.effectiveDirective));"
        " fetch('http://127.0.0.1:9/').catch(() => {}); new Image().src = 'http://127.0.0.1:9/';"
        " document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.owned = true'})); 0"
    )
    tab.wait("refused.length >= 3")
    assert sorted(tab.value("refused")) == ["connect-src", "img-src", "script-src-elem"]
    assert tab.value("window.owned") is None


@pytest.mark.parametrize("name", [EVIL, NASTY], ids=["image", "rest"])
def test_names_are_text(tab, folder, name):
    file = folder / "evil.html"
    twice = [named(name), replace(named(name), step=1)]
    write_page({name: twice, "b": [named(name)]}, file, title=name, notes=[name])
    tab.open(file)
    assert (tab.value("document.title"), tab.value("document.images.length")) == (name, 0)
    assert tab.value("document.querySelectorAll('main b:not(.facts b), main img').length") == 0
    tab.value("document.querySelectorAll('details').forEach((section) => { section.open = true; })")
    tab.value("document.getElementById('lines').click()")
    tab.wait("document.querySelectorAll('#over-steps .scatterlayer .trace').length > 6")
    for id in ("notes", "table", "diagnostics", "fingerprint", "chips"):
        words = tab.value(f"document.getElementById('{id}').textContent")
        assert name in words, id
    assert tab.value("document.querySelector('#heat .ytick text').textContent") == name
    legend = tab.value("document.querySelector('#over-steps .legendtext').textContent")
    assert legend == f"{name}: mean"
    tab.value("Plotly.Fx.hover('curve', [{curveNumber: 1, pointNumber: 1}])")
    tab.wait("document.querySelector('#curve .hovertext')")
    assert name in tab.value("document.querySelector('#curve .hovertext').textContent")
    assert tab.value("document.title") == name
    assert tab.complaints() == []
    assert tab.requests() == []


def test_runs_overlay_and_a_difference_is_said(tab, folder):
    other = [make_report(step, {"deu_Latn": 0.5}, n_pairs=50) for step in (0, 150)]
    write_page({"first": rising(), "second": other}, folder / "two.html", notes=["line 7 is cut"])
    tab.open(folder / "two.html")
    legend = "[...document.querySelectorAll('#over-steps .legendtext')].map((e) => e.textContent)"
    assert tab.value(legend) == [
        "first: mean",
        "second: mean",
        "chance 0.026",
        "chance 0.010",
        "loss, same dashes as its run",
    ]
    means = "document.querySelector('#over-steps').data.filter((t) => t.name?.endsWith(': mean'))"
    assert tab.value(f"{means}.map((t) => t.line.dash)") == ["solid", "dash"]
    notes = tab.value("document.getElementById('notes').innerText")
    assert "line 7 is cut" in notes
    assert "first and second do not measure the same thing" in notes
    assert "(different: languages, n_pairs)" in notes
    assert tab.value("document.querySelectorAll('#fingerprint .differs').length") >= 2
    tab.value("(() => { const e = document.getElementById('run'); e.value = 1;"
              " e.dispatchEvent(new Event('change')); })()")  # fmt: skip
    shown_step(tab, 150)
    assert codes(tab) == ["deu_Latn"]
    assert tab.complaints() == []


def test_runs_with_different_metrics(tab, folder):
    other = [make_report(step, {"deu_Latn": 0.5}, metrics=("mexa",)) for step in (0, 100)]
    write_page({"first": rising(), "second": other}, folder / "metrics.html")
    tab.open(folder / "metrics.html")
    assert tab.value("[...document.querySelectorAll('#metrics span')].map(e => e.innerText)") == [
        "nasca", "navca", "mexa",
    ]  # fmt: skip
    tab.click("#metrics label:nth-child(3)")
    tab.wait("document.querySelector('#curve .annotation-text')")
    text = "document.querySelector('#curve .annotation-text').textContent"
    assert tab.value(text) == "first has no mexa"
    assert codes(tab) == []
    assert tab.complaints() == []


def test_a_single_report_and_a_narrow_window(tab, folder):
    write_page({"main": rising()[:1]}, folder / "single.html")
    tab.resize(390, 844, mobile=True)
    tab.open(folder / "single.html")
    assert tab.value("document.getElementById('step').disabled") is True
    assert tab.value("document.documentElement.scrollWidth") == 390
    assert tab.complaints() == []


@pytest.fixture(scope="module")
def largest(folder):
    """The page of 40 languages, 80 layers and 200 probes."""
    write_page({"main": large()}, folder / "large.html")
    return folder / "large.html"


def test_a_large_run_is_a_small_file_with_few_traces_and_elements(tab, largest):
    tab.open(largest)
    assert tab.complaints() == []
    assert largest.stat().st_size < 10_000_000
    traces = "document.getElementById('%s').data.length"
    lines_mean_band_chance_loss = 40 + 1 + 1 + 1 + 1
    assert tab.value(traces % "over-steps") == lines_mean_band_chance_loss
    assert tab.value(traces % "curve") == 40 + 1 + 1
    assert tab.value(traces % "heat") == 1
    # Markers are thinned out: 200 probes of 41 lines would be 8,200.
    markers = tab.value("document.querySelectorAll('#over-steps .points path').length")
    assert 41 < markers < 1000
    assert tab.value("document.querySelectorAll('*').length") < 8000


def test_a_step_draws_the_curve_and_the_heat_map_once_and_the_other_chart_not(tab, largest):
    tab.open(largest)
    tab.value(
        "window.drawn = []; for (const id of ['over-steps', 'curve', 'heat'])"
        " document.getElementById(id).on('plotly_react', () => drawn.push(id)); 0"
    )
    tab.value("document.getElementById('step').focus()")
    tab.press("Home", number=36)
    shown_step(tab, 0)
    assert sorted(tab.value("drawn")) == ["curve", "heat"]
    assert len(curves(tab)) == 41
