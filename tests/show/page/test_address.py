"""The state of the page in the fragment of its address, in a real browser."""

from urllib.parse import parse_qs

import pytest

from neuronxa_callback.show.page.page import write_page
from tests.helpers.pages import EVIL, LANGUAGES, named, rising, shown_step

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def two(folder):
    write_page({"a": rising(), "b & c": rising(seed=1)}, folder / "address.html")
    return folder / "address.html"


def open_at(tab, path, fragment):
    tab.events.clear()
    tab.send("Page.navigate", url="about:blank")
    tab.wait("location.href === 'about:blank'")
    tab.events.clear()
    tab.send("Page.navigate", url=f"{path.resolve().as_uri()}#{fragment}")
    tab.wait("document.documentElement?.dataset.drawnMs")


def fields(tab):
    """The fields of the address, once it is written."""
    return parse_qs(tab.value("location.hash.slice(1)"), keep_blank_values=True)


def test_an_untouched_page_has_no_fragment(tab, two):
    tab.open(two)
    assert tab.value("neuronxa.fragmentOf(neuronxa.state)") == ""
    tab.value("neuronxa.update({}, [])")
    tab.wait("new Promise((done) => setTimeout(() => done(true), 400))")
    assert tab.value("location.hash") == ""


def test_every_control_is_written_and_a_link_restores_it(tab, two):
    tab.open(two)
    tab.click("#metrics label:nth-child(2)")
    for id, value in (("run", 1), ("minus", 0), ("order", "score")):
        tab.value(f"(() => {{ const e = document.getElementById('{id}'); e.value = '{value}';"
                  " e.dispatchEvent(new Event('change')); })()")  # fmt: skip
        tab.wait("new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true))))")
    tab.click("#lines")
    tab.click("#losses")
    tab.click("#chips [data-code=fra_Latn]")
    tab.click("#before")
    tab.click("th[data-key=code] button")
    shown_step(tab, 200)
    tab.wait("location.hash.includes('sort')")
    wanted = {
        "metric": ["navca"],
        "run": ["b & c"],
        "step": ["200"],
        "minus_run": ["a"],
        "order": ["score"],
        "lines": ["1"],
        "losses": ["0"],
        "sort": ["code"],
        "without": ["fra_Latn"],
    }
    assert fields(tab) == wanted
    fragment = tab.value("location.hash.slice(1)")
    what = (
        "[document.querySelector('#heat').data[0].z, neuronxa.state.metric, step.value,"
        " run.selectedOptions[0].text, minus.selectedOptions[0].text, order.value, lines.checked,"
        " losses.checked,"
        " [...document.querySelectorAll('#table tbody tr')].map((row) => row.dataset.code),"
        " document.querySelector('#metrics input:checked').value]"
    )
    before = tab.value(what)
    open_at(tab, two, fragment)
    assert tab.value(what) == before
    assert before[1:8] == ["navca", "2", "b & c", "a", "score", True, False]
    assert before[8] == sorted(LANGUAGES)
    assert tab.complaints() == []


def test_a_link_is_followed_on_an_open_page(tab, two):
    tab.open(two)
    tab.value("location.hash = 'step=100&only=deu_Latn&only=tha_Thai&minus=first'")
    shown_step(tab, 100)
    assert tab.value("[...neuronxa.state.shown]") == ["deu_Latn", "tha_Thai"]
    assert tab.value("minus.value") == "first"
    tab.value("location.hash = ''")
    shown_step(tab, 300)
    assert tab.value("[neuronxa.state.shown.size, minus.value]") == [4, ""]
    # The link to a part of the page is none to a state.
    tab.value("location.hash = 'step=100'")
    shown_step(tab, 100)
    tab.value("location.hash = 'languages'")
    tab.wait("new Promise((done) => setTimeout(() => done(true), 100))")
    assert tab.value("neuronxa.state.step") == 1


@pytest.mark.parametrize(
    "fragment",
    [
        "metric=mexa&run=none&step=x&minus=last&minus_run=none&order=toString&lines=2&sort=-x",
        "metric=%00&only=nowhere&without=deu_Latn&step=-5&task=none&rule=",
        "=&&metric&%E0%A4%A",
    ],
)
def test_what_is_unknown_is_ignored(tab, two, fragment):
    open_at(tab, two, fragment)
    state = "[metric, run.name, step, minus, order, lines]"
    read = f"(({{ metric, run, step, minus, order, lines }}) => {state})(neuronxa.state)"
    assert tab.value(read) == ["nasca", "a", 3, None, "corpus", False]
    assert tab.complaints() == []


def test_the_nearest_probe_of_a_step_is_shown(tab, two):
    open_at(tab, two, "step=160")
    shown_step(tab, 200)


def test_names_from_an_address_are_text(tab, folder):
    write_page({EVIL: [named(EVIL)], "b": [named(EVIL)]}, folder / "evil-address.html")
    open_at(tab, folder / "evil-address.html", f"run={EVIL.replace(' ', '%20')}&metric={EVIL}")
    assert tab.value("document.images.length") == 0
    assert tab.value("document.title") != "owned"
    assert tab.complaints() == []
