"""The panel of pairs in a browser: its rows, search, marks on the curve, no text unasked."""

import base64
import json
import math
import re
import zlib

import numpy as np
import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.reports import make_report

LANGUAGES = ("deu_Latn", "arb_Arab")
PAIRS, LAYERS = 20, 6
CORPUS = ParallelCorpus.builtin(languages=LANGUAGES)
SENTENCES = {"main": {name: CORPUS.pairs[name][:PAIRS] for name in LANGUAGES}}


def report(step, share, nan=False):
    """Verdicts and rivals by chance; the second language may have a layer with NaN."""
    draw = np.random.default_rng(step)
    hits = {name: (draw.random((LAYERS, PAIRS)) < share).astype(float) for name in LANGUAGES}
    if nan:
        hits["arb_Arab"][2] = math.nan
    rivals = {
        name: {
            "pair": [(i + 3) % PAIRS for i in range(PAIRS)],
            "by_pivot": [i % 2 for i in range(PAIRS)],
            "layers": [1 + i % 3 for i in range(PAIRS)],
        }
        for name in LANGUAGES
    }
    return make_report(step, hits=hits, diagnostics={"rivals": dict.fromkeys(("nasca",), rivals)})


REPORTS = [report(0, 0.1), report(100, 0.7), report(200, 0.4, nan=True)]


def expected(which, language):
    """(pair, aligned, known) of every pair, the least aligned first."""
    masks = [mask for mask in which.metrics["nasca"].hits[language] if mask is not None]
    counts = [sum(mask >> i & 1 for mask in masks) for i in range(PAIRS)]
    order = sorted(range(PAIRS), key=lambda i: (counts[i], i))
    return [[str(i + 1), f"{counts[i]}/{len(masks)}"] for i in order]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Paths of a page without and with sentences."""
    folder = tmp_path_factory.mktemp("pairs")
    write_page({"main": REPORTS}, folder / "bare.html")
    write_page({"main": REPORTS}, folder / "text.html", sentences=SENTENCES)
    return folder


def shown(tab):
    rows = "[...document.querySelectorAll('#panel-pairs tbody tr')]"
    return tab.value(f"{rows}.map((r) => [r.cells[0].innerText, r.cells[2].innerText])")


def choose(tab, k, value):
    """Choose a value in the k-th list of the panel."""
    select = f"document.querySelectorAll('#panel-pairs select')[{k}]"
    tab.value(f"({select}.value = '{value}', {select}.dispatchEvent(new Event('change')))")


@pytest.mark.browser
def test_its_rows_are_the_verdicts_of_the_chosen_probe_and_language(tab, pages):
    tab.open(pages / "bare.html")
    assert shown(tab) == expected(REPORTS[2], "deu_Latn")
    for name, which in (("first", REPORTS[0]), ("best", REPORTS[1]), ("last", REPORTS[2])):
        for language in LANGUAGES:
            choose(tab, 0, language)
            choose(tab, 1, name)
            wanted = json.dumps(expected(which, language))
            found = (
                "JSON.stringify([...document.querySelectorAll('#panel-pairs tbody tr')]"
                ".map((r) => [r.cells[0].innerText, r.cells[2].innerText]))"
            )
            tab.wait(f"{found} === JSON.stringify({wanted})")
    winner = tab.value("document.querySelector('#panel-pairs tbody tr').cells[3].innerText")
    i = int(expected(REPORTS[2], "arb_Arab")[0][0]) - 1
    side = "pivot" if i % 2 else "target"
    assert winner == f"{side} {(i + 3) % PAIRS + 1} in {1 + i % 3} layer{'s' * (i % 3 > 0)}"
    assert tab.complaints() == []


@pytest.mark.browser
def test_a_search_finds_numbers_and_sentences(tab, pages):
    tab.open(pages / "text.html")
    pivot, target = SENTENCES["main"]["deu_Latn"][7]
    field = "document.querySelector('#panel-pairs input')"
    for wanted in ("8", pivot[3:20].upper(), target[-12:]):
        tab.value(
            f"({field}.value = {json.dumps(wanted)}, {field}.dispatchEvent(new Event('input')))"
        )
        tab.wait("document.querySelectorAll('#panel-pairs tbody tr').length < 5")
        assert "8" in [number for number, _ in shown(tab)]
    tab.value(f"({field}.value = 'no such text', {field}.dispatchEvent(new Event('input')))")
    tab.wait("document.querySelectorAll('#panel-pairs tbody tr').length === 0")


@pytest.mark.browser
def test_a_pair_is_marked_on_the_curve_and_a_layer_filters_the_pairs(tab, pages):
    tab.open(pages / "bare.html")
    tab.click("#panel-pairs tbody tr:nth-child(5) button")
    number = int(shown(tab)[4][0])
    tab.wait(f"document.querySelector('#curve').data.at(-1).name === 'pair {number} fails'")
    masks = REPORTS[2].metrics["nasca"].hits["deu_Latn"]
    aligned = [layer for layer, mask in enumerate(masks) if mask >> number - 1 & 1]
    curve = REPORTS[2].curve("nasca", "deu_Latn")
    x, y = tab.value("(({ x, y }) => [x, y])(document.querySelector('#curve').data.at(-2))")
    assert (x, y) == (aligned, [pytest.approx(curve[layer]) for layer in aligned])
    assert tab.value("document.querySelector('#curve').data.at(-1).x") == [
        layer for layer in range(LAYERS) if layer not in aligned
    ]
    tab.value("document.querySelector('#curve').emit('plotly_click', {points: [{x: 4}]})")
    tab.wait(
        "document.querySelector('#panel-pairs .layer').innerText.startsWith('fails in layer 4')"
    )
    fails = [row for row in expected(REPORTS[2], "deu_Latn") if not masks[4] >> int(row[0]) - 1 & 1]
    assert shown(tab) == fails
    tab.click("#panel-pairs .layer")
    tab.wait(f"document.querySelectorAll('#panel-pairs tbody tr').length === {PAIRS}")
    assert tab.complaints() == []


def data_of(html):
    """The unpacked data of a page, as bytes."""
    packed = re.search(r'\{"zlib": "([^"]+)"\}', html)[1]
    return zlib.decompress(base64.b64decode(packed))


def test_a_page_has_sentences_only_if_they_are_given():
    text = SENTENCES["main"]["deu_Latn"][0][0].encode()
    assert text not in data_of(page({"main": REPORTS}))
    assert text in data_of(page({"main": REPORTS}, sentences=SENTENCES))
