"""All pairs of languages on the page: their numbers, and how a browser shows them."""

import numpy as np
import pytest

from neuronxa_callback.show.language_pairs.order import cluster_order
from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.output.language_pairs import with_pairs
from tests.helpers.pages import LANGUAGES, gaps, rising, unpacked_page

NAMES = ("eng_Latn", *LANGUAGES)


def reports():
    """The second probe has a layer with NaN; the last one has no table."""
    scores = {("fra_Latn", "swh_Latn"): 0.9, ("deu_Latn", "tha_Thai"): 0.8}
    first, second, third, last = rising()
    score = lambda one, other: scores.get((one, other), 0.1)  # noqa: E731
    return [first, with_pairs(second, ("nasca",)), with_pairs(third, ("nasca",), score), last]


def numbers(values):
    return [None if value is None else pytest.approx(value, abs=1e-4) for value in values]


def wanted(table, order, layer=None):
    rows = table.matrix(layer)
    return [
        [None if i == j else gaps([rows[i][j]])[0] if rows[i][j] != rows[i][j] else
         pytest.approx(rows[i][j], abs=1e-4) for j in order]
        for i in order
    ]  # fmt: skip


def test_the_last_table_is_packed():
    plain, array = unpacked_page(page({"main": reports()}))
    entry = plain["runs"][0]["panels"]["matrix"]
    table = reports()[2].language_pairs["nasca"]
    assert (entry["step"], list(entry["metrics"])) == (200, ["nasca"])
    packed = entry["metrics"]["nasca"]
    assert packed["languages"] == list(NAMES)
    assert packed["clustered"] == cluster_order(table)
    shares = array(packed["shares"]) / 65534
    assert shares == pytest.approx(np.array(table.counts) / table.n_pairs, abs=1e-5)
    assert array(packed["intervals"]) / 65534 == pytest.approx(np.array(table.intervals), abs=1e-5)
    assert unpacked_page(page({"main": rising()}))[0]["runs"][0]["panels"]["matrix"] == {}


@pytest.mark.browser
def test_the_matrix_is_drawn_by_clusters_by_layer_and_for_the_languages_shown(tab, folder):
    write_page({"main": reports(), "without": rising()}, folder / "matrix.html")
    tab.open(folder / "matrix.html")
    table = reports()[2].language_pairs["nasca"]
    data = "document.getElementById('matrix').data[0]"
    order = cluster_order(table)
    assert order != sorted(order)
    assert tab.value(f"{data}.z") == wanted(table, order)
    selects = "[...document.querySelectorAll('#panel-matrix select')]"
    tab.value(f"(() => {{ const [layer, order] = {selects}; layer.value = '3'; order.value ="
              " 'corpus'; layer.dispatchEvent(new Event('change'));"
              " order.dispatchEvent(new Event('change')); })()")  # fmt: skip
    corpus = list(range(len(NAMES)))
    one = tab.value
    tab.wait(f"{data}.z[0][1] !== null && document.getElementById('matrix').layout"
             ".xaxis.ticktext[1] === 'deu_Latn'")  # fmt: skip
    assert one(f"{data}.z") == wanted(table, corpus, layer=3)
    tab.click("#chips [data-code=fra_Latn]")
    tab.wait(f"{data}.z.length === 4")
    assert tab.value(f"{data}.z") == wanted(table, [0, 1, 3, 4], layer=3)
    panel = "document.getElementById('panel-matrix').checkVisibility()"
    tab.click("#metrics label:nth-child(2)")
    tab.wait(f"{panel} === false")
    tab.click("#metrics label:nth-child(1)")
    tab.wait(panel)
    tab.value("document.getElementById('run').value = 1;"
              "document.getElementById('run').dispatchEvent(new Event('change'))")  # fmt: skip
    tab.wait(f"{panel} === false")
    assert tab.complaints() == []


@pytest.mark.browser
def test_a_layer_of_nan_is_a_gap(tab, folder):
    write_page({"main": reports()[:2]}, folder / "matrix-nan.html")
    tab.open(folder / "matrix-nan.html")
    table = reports()[1].language_pairs["nasca"]
    z = tab.value("document.getElementById('matrix').data[0].z")
    assert z == wanted(table, cluster_order(table))
    at = cluster_order(table).index(NAMES.index("tha_Thai"))
    assert z[at] == [None] * len(NAMES)
    assert tab.complaints() == []
