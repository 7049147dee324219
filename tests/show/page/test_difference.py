"""Differences between probes and runs, in the heat map and by layer, in a real browser."""

import math

import numpy as np
import pytest

from neuronxa_callback.show.page.page import write_page
from tests.helpers.pages import LANGUAGES, curves, rising
from tests.helpers.reports import make_report

pytestmark = pytest.mark.browser
HEAT = "document.querySelector('#heat').data"


@pytest.fixture(scope="module")
def three(folder):
    """Two runs on the same sentences, and one on fewer pairs."""
    runs = {
        "a": rising(),
        "b": [each for each in rising(seed=1, gap=False) if each.step != 200],
        "fewer": [make_report(scores=dict.fromkeys(LANGUAGES, 0.5), n_pairs=10, layers=6)],
    }
    write_page(runs, folder / "three.html")
    return folder / "three.html", runs


def choose(tab, id, value):
    tab.value(f"(() => {{ const e = document.getElementById('{id}'); e.value = '{value}';"
              " e.dispatchEvent(new Event('change')); })()")  # fmt: skip


def difference(one, other, metric="nasca"):
    """Differences [languages, layers] by the verdicts of every pair; None for NaN."""
    rows = []
    for name in one.languages:
        row = []
        for mask, less in zip(
            one.metrics[metric].hits[name], other.metrics[metric].hits[name], strict=True
        ):
            if mask is None or less is None:
                row.append(None)
                continue
            gained = [(mask >> i & 1) - (less >> i & 1) for i in range(one.n_pairs)]
            row.append(pytest.approx(sum(gained) / one.n_pairs))
        rows.append(row)
    return rows


def test_a_step_minus_the_first(tab, three):
    path, runs = three
    tab.open(path)
    choose(tab, "minus", "first")
    tab.wait(f"{HEAT}.length === 2")
    assert tab.value(f"{HEAT}[0].z") == difference(runs["a"][3], runs["a"][0])
    assert tab.value(f"[{HEAT}[0].zmin, {HEAT}[0].zmax].map(Math.abs)")[0] == pytest.approx(
        tab.value(f"{HEAT}[0].zmax")
    )
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '200'")
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '100'")
    wanted = difference(runs["a"][1], runs["a"][0])
    assert None in wanted[3]
    assert tab.value(f"{HEAT}[0].z") == wanted
    assert curves(tab)["Thai \u00b7 tha_Thai"] == wanted[3]
    head = "document.querySelector('#heat-title').nextElementSibling.textContent"
    assert tab.value(head) == "a, nasca, step 100 minus step 0"
    assert tab.complaints() == []


def test_a_run_minus_another_run_at_its_nearest_step(tab, three):
    path, runs = three
    tab.open(path)
    choose(tab, "minus", 1)
    tab.wait(f"{HEAT}.length === 2")
    assert tab.value(f"{HEAT}[0].z") == difference(runs["a"][3], runs["b"][2])
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '200'")
    assert [each.step for each in runs["b"]] == [0, 100, 300]
    assert tab.value(f"{HEAT}[0].z") == difference(runs["a"][2], runs["b"][1])
    head = "document.querySelector('#curve-title').nextElementSibling.textContent"
    assert tab.value(head) == "a, nasca, step 200 minus b, step 100"
    mean = runs["a"][2].curve("nasca"), runs["b"][1].curve("nasca")
    wanted = [pytest.approx(x - y) for x, y in zip(*mean, strict=True)]
    assert curves(tab)["mean"] == wanted
    choose(tab, "minus", "")
    tab.wait(f"{HEAT}.length === 1")
    assert tab.value(f"{HEAT}[0].zmin") == 0


def test_a_veil_covers_differences_whose_interval_holds_nought(tab, three):
    path, runs = three
    tab.open(path)
    choose(tab, "minus", "first")
    tab.wait(f"{HEAT}.length === 2")
    first, last = runs["a"][0], runs["a"][3]
    wanted = []
    for name in LANGUAGES:
        row = []
        for layer, x, y in zip(
            first.layers("nasca"), last.curve("nasca", name), first.curve("nasca", name),
            strict=True,
        ):  # fmt: skip
            # Zou and Donner: the distance of each limit from its score, combined.
            (l1, u1), (l2, u2) = (r.layer_interval("nasca", name, layer) for r in (last, first))
            low = x - y - math.sqrt((x - l1) ** 2 + (u2 - y) ** 2)
            high = x - y + math.sqrt((u1 - x) ** 2 + (y - l2) ** 2)
            assert min(abs(low), abs(high)) > 0.005, "the page rounds the ends to 1/250"
            row.append(1 if low <= 0 <= high else None)
        wanted.append(row)
    kinds = {cell for row in wanted for cell in row}
    assert kinds == {1, None}
    assert tab.value(f"{HEAT}[1].z") == wanted


def test_a_run_on_other_sentences_cannot_be_subtracted(tab, three):
    path, _ = three
    tab.open(path)
    options = "[...document.getElementById('minus').options]"
    assert tab.value(f"{options}.map((e) => [e.textContent, e.disabled])") == [
        ["nothing", False],
        ["its first probe (step 0)", False],
        ["b", False],
        ["fewer", True],
    ]
    choose(tab, "run", 2)
    tab.wait("document.getElementById('run').value === '2'")
    tab.wait(f"{options}.length === 3")
    assert tab.value(f"{options}.map((e) => e.disabled)") == [False, True, True]


def test_rows_are_sorted_by_the_last_probe_at_every_step(tab, three):
    path, runs = three
    tab.open(path)
    ticks = "document.querySelector('#heat').layout.yaxis.ticktext"
    assert tab.value(ticks) == list(LANGUAGES)
    choose(tab, "order", "score")
    last = runs["a"][-1]
    by_score = sorted(LANGUAGES, key=lambda name: -last.score("nasca", name))
    choose(tab, "minus", "first")
    tab.wait(f"{HEAT}.length === 2")
    gains = {name: np.mean(difference_numbers(last, runs["a"][0], name)) for name in LANGUAGES}
    by_gain = sorted(LANGUAGES, key=lambda name: -gains[name])
    assert tab.value(ticks) == by_gain
    choose(tab, "minus", "")
    tab.wait(f"{HEAT}.length === 1")
    assert tab.value(ticks) == by_score
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '200'")
    assert tab.value(ticks) == by_score
    choose(tab, "order", "name")
    names = ["fra_Latn", "deu_Latn", "swh_Latn", "tha_Thai"]
    tab.wait(f"String({ticks}) === '{','.join(names)}'")


def difference_numbers(one, other, name):
    return np.subtract(one.curve("nasca", name), other.curve("nasca", name))


def test_runs_keep_their_colours_with_and_without_lines_of_languages(tab, three):
    path, _ = three
    tab.open(path)
    means = "document.querySelector('#over-steps').data.filter((t) => t.name?.endsWith(': mean'))"
    colours = tab.value(f"{means}.map((t) => t.line.color)")
    assert len(set(colours)) == 3
    tab.click("#lines")
    tab.wait("document.querySelectorAll('#over-steps .scatterlayer .trace').length > 12")
    assert tab.value(f"{means}.map((t) => t.line.color)") == colours
    assert tab.value("document.querySelector('#curve').data.at(-1).line.color") == colours[0]
