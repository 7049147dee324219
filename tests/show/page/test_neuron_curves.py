"""Overlap, sharing and language neurons over steps on the page, beside alignment."""

import math

import numpy as np
import pytest

from neuronxa_callback.show.page.page import page, write_page
from tests.helpers.pages import LANGUAGES, gaps, rising, unpacked_page
from tests.helpers.reports import make_report

LAYERS = 3
KINDS = ("all", "partial", "specific", "silent")
NEURONS = ("specific", "related", "agnostic", "silent")


def diagnostics(t, gap=False):
    """Neuron statistics of step t, with numbers that differ everywhere; a NaN layer if asked."""
    draw = np.random.default_rng(t)
    share = lambda: [None if gap and k == 1 else float(draw.random()) for k in range(LAYERS)]  # noqa: E731
    counts = {kind: [int(draw.integers(1, 500)) for _ in range(LAYERS)] for kind in NEURONS}
    return {
        "overlap": {
            "with_pivot": {name: share() for name in LANGUAGES},
            "ceiling": {name: share() for name in ("eng_Latn", *LANGUAGES)},
            "tied": {name: [0] * LAYERS for name in ("eng_Latn", *LANGUAGES)},
            "chance": [0.05] * LAYERS,
            "selected": [5] * LAYERS,
        },
        "sharing": {
            rule: {part: {kind: share() for kind in KINDS} for part in ("shares", "null", "errors")}
            for rule in ("any", "last")
        },
        "language_neurons": {
            "bar": 0.5,
            "neurons": counts,
            "specific": {name: [1] * LAYERS for name in ("eng_Latn", *LANGUAGES)},
            "related": {name: [1] * LAYERS for name in ("eng_Latn", *LANGUAGES)},
            "design_effect": dict.fromkeys(LANGUAGES, 2.0),
            "stability": 0.9,
        },
    }


def run(steps=3, missing=(), gap=()):
    scores = dict.fromkeys(LANGUAGES, 0.5)
    return [
        make_report(
            100 * t,
            scores,
            layers=LAYERS,
            diagnostics={} if t in missing else diagnostics(t, gap=t in gap),
        )
        for t in range(steps)
    ]


def packed(reports):
    plain, array = unpacked_page(page({"main": reports}))
    entries = plain["runs"][0]["panels"]["neurons"]
    return {
        name: np.where(array(entry) == 65535, np.nan, array(entry) / 65534)
        for name, entry in entries.items()
    }


def numbers(values):
    return [math.nan if value is None else value for value in values]


def test_statistics_are_packed_by_step():
    reports = run(gap=(1,))
    found = packed(reports)
    for t, report in enumerate(reports):
        overlap, sharing, neurons = (
            report.diagnostics[key] for key in ("overlap", "sharing", "language_neurons")
        )
        near = {"abs": 1e-5, "nan_ok": True}
        for k, name in enumerate(LANGUAGES):
            wanted = numbers(overlap["with_pivot"][name])
            assert found["overlap_with_pivot"][t, k] == pytest.approx(wanted, **near)
        for layer in range(LAYERS):
            column = numbers(values[layer] for values in overlap["ceiling"].values())
            mean = sum(column) / len(column)
            assert found["overlap_ceiling"][t, layer] == pytest.approx(mean, **near)
            total = sum(neurons["neurons"][kind][layer] for kind in NEURONS)
            for k, kind in enumerate(NEURONS):
                share = neurons["neurons"][kind][layer] / total
                assert found["language_neurons_kinds"][t, k, layer] == pytest.approx(share, **near)
        for rule in ("any", "last"):
            for p, part in enumerate(("shares", "null", "errors")):
                for k, kind in enumerate(KINDS):
                    wanted = numbers(sharing[rule][part][kind])
                    assert found[f"sharing_{rule}"][t, p, k] == pytest.approx(wanted, **near)


def test_a_step_without_statistics_is_unknown_and_a_run_without_them_has_none():
    found = packed(run(missing=(1,)))
    assert np.isnan(found["overlap_with_pivot"][1]).all()
    assert not np.isnan(found["overlap_with_pivot"][[0, 2]]).any()
    assert packed(rising()) == {}
    assert packed(run(missing=(0, 1, 2))) == {}


@pytest.fixture(scope="module")
def neurons_page(folder):
    write_page({"main": run(gap=(1,)), "without": rising()}, folder / "neurons.html")
    return folder / "neurons.html"


def line(tab, chart, name):
    """y of a line of a chart of the panel."""
    data = f"document.getElementById('neurons-{chart}').data"
    return tab.value(f"{data}.find((t) => t.name === '{name}').y")


def over_layers(values):
    return math.nan if None in values else sum(values) / len(values)


@pytest.mark.browser
def test_curves_over_steps_are_means_over_layers(tab, neurons_page):
    tab.open(neurons_page)
    reports = run(gap=(1,))
    near = {"abs": 1e-4}

    def wanted(values):
        return [None if math.isnan(x) else pytest.approx(x, **near) for x in values]

    found = [report.diagnostics["overlap"]["with_pivot"] for report in reports]
    means = [np.mean([over_layers(each[name]) for name in LANGUAGES]) for each in found]
    assert line(tab, "overlap", "mean") == wanted(means)
    assert line(tab, "overlap", "chance") == wanted([0.05] * 3)
    sharing = [report.diagnostics["sharing"]["any"] for report in reports]
    excess = [
        over_layers(each["shares"]["all"]) - over_layers(each["null"]["all"]) for each in sharing
    ]
    assert line(tab, "sharing", "in all languages") == wanted(excess)
    counts = [report.diagnostics["language_neurons"]["neurons"] for report in reports]
    shares = [
        np.mean([
            each["specific"][k] / sum(each[kind][k] for kind in NEURONS) for k in range(LAYERS)
        ])
        for each in counts
    ]  # fmt: skip
    assert line(tab, "languages", "specific") == wanted(shares)
    assert line(tab, "alignment", "mean") == gaps([report.score("nasca") for report in reports])
    assert tab.complaints() == []


@pytest.mark.browser
def test_another_rule_view_step_and_language(tab, neurons_page):
    tab.open(neurons_page)
    reports = run(gap=(1,))
    selects = "[...document.querySelectorAll('#panel-neurons select')]"
    tab.value(f"(() => {{ const [view, rule] = {selects}; rule.value = 'last';"
              " rule.dispatchEvent(new Event('change')); view.value = 'layers';"
              " view.dispatchEvent(new Event('change')); })()")  # fmt: skip
    tab.wait("document.getElementById('neurons-sharing').layout.xaxis.title.text === 'layer'")
    found = reports[2].diagnostics["sharing"]["last"]
    wanted = [
        pytest.approx(share - null, abs=1e-4)
        for share, null in zip(found["shares"]["all"], found["null"]["all"], strict=True)
    ]
    assert line(tab, "sharing", "in all languages") == wanted
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '100'")
    assert line(tab, "sharing", "in all languages")[1] is None
    tab.click("#lines")
    tab.wait("document.getElementById('neurons-overlap').data.length === 7")
    german = reports[1].diagnostics["overlap"]["with_pivot"]["deu_Latn"]
    assert line(tab, "overlap", "German \u00b7 deu_Latn") == [
        None if value is None else pytest.approx(value, abs=1e-4) for value in german
    ]
    tab.wait("location.hash.includes('neurons=layers')")
    assert tab.value("location.hash.includes('rule=last')")


@pytest.mark.browser
def test_a_run_without_statistics_has_no_panel(tab, neurons_page):
    tab.open(neurons_page)
    panel = "document.getElementById('panel-neurons').checkVisibility()"
    assert tab.value(panel) is True
    tab.value("document.getElementById('run').value = 1;"
              "document.getElementById('run').dispatchEvent(new Event('change'))")  # fmt: skip
    tab.wait(f"{panel} === false")
    assert tab.complaints() == []


@pytest.mark.browser
def test_a_step_moves_a_line_and_draws_no_chart_anew(tab, neurons_page):
    tab.open(neurons_page)
    tab.value(
        "window.drawn = 0; for (const chart of document.querySelectorAll('#panel-neurons .chart'))"
        " chart.on('plotly_react', () => { drawn += 1; }); 0"
    )
    tab.click("#before")
    tab.wait("document.documentElement.dataset.drawnStep === '100'")
    assert tab.value("drawn") == 0
    assert tab.value("document.getElementById('neurons-overlap').layout.shapes[0].x0") == 100
