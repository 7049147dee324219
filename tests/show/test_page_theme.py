"""Light, dark and printed: the page in a real browser."""

import pytest

pytestmark = pytest.mark.browser


def test_dark_and_light(tab, one):
    back = "getComputedStyle(document.body).backgroundColor"
    line = "document.querySelector('#curve').data[1].line.color"
    seen = {}
    for scheme in ("light", "dark"):
        tab.prefer(scheme)
        tab.open(one)
        seen[scheme] = (tab.value(back), tab.value(line))
    assert seen["light"][0] != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]
    tab.click("#theme")
    tab.wait(f"{line} === '{seen['light'][1]}'")
    assert tab.value(back) == seen["light"][0]


def test_the_theme_that_was_chosen_is_remembered(tab, one):
    tab.open(one)
    tab.click("#theme")
    assert tab.value("neuronxa.dark()") is True
    tab.open(one)
    assert tab.value("[neuronxa.dark(), theme.textContent]") == [True, "Light"]
    tab.click("#theme")
    tab.prefer("dark")
    tab.open(one)
    assert tab.value("neuronxa.dark()") is False
    tab.forget()
    tab.open(one)
    assert tab.value("neuronxa.dark()") is True


def test_a_page_that_may_keep_nothing_is_drawn_all_the_same(tab, one):
    """A document without an origin of its own is refused `localStorage`, as some files are."""
    tab.send("Page.navigate", url="about:blank")
    tab.wait("location.href === 'about:blank'")
    refused = "(() => { try { return !localStorage; } catch (error) { return error.name; } })()"
    assert tab.value(refused) == "SecurityError"
    frame = tab.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
    tab.send("Page.setDocumentContent", frameId=frame, html=one.read_text(encoding="utf-8"))
    tab.wait("document.documentElement?.dataset.drawnMs")
    tab.click("#theme")
    assert tab.value("neuronxa.dark()") is True
    assert tab.complaints() == []


def test_paper_is_white_and_the_screen_is_as_before(tab, one):
    tab.prefer("dark")
    tab.open(one)
    state = "[neuronxa.dark(), document.querySelector('#curve').clientWidth,"
    state += " document.querySelector('#curve')._fullLayout.width]"
    before = tab.value(state)
    tab.value("dispatchEvent(new Event('beforeprint'))")
    assert tab.value("neuronxa.dark()") is False
    assert tab.value("document.querySelector('#over-steps')._fullLayout.width") < 720
    tab.value("dispatchEvent(new Event('afterprint'))")
    assert tab.value(state) == before
    assert before[0] is True
