"""The pictures, read from their axes."""

import dataclasses
import itertools
import math

import pytest
from matplotlib.figure import Figure

from neuronxa_callback.show import charts
from tests.helpers.reports import TWO, make_report


def drawn(report, metric="nasca"):
    axes = Figure().add_subplot()
    charts.curve_by_layer(axes, report, metric)
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    return axes, lines, [text.get_text() for text in axes.texts]


def test_the_curve_by_layer_holds_scores_bands_and_both_levels():
    report = make_report(5, {"deu_Latn": [0.1, 0.5, 0.9], "swh_Latn": [0.0, 0.2, 0.4]})
    axes, lines, levels = drawn(report)
    for language, band in zip(report.languages, axes.collections, strict=True):
        assert lines[language] == list(report.curve("nasca", language))
        cells = [
            (row["low"], row["high"])
            for row in report.rows()
            if (row["metric"], row["language"]) == ("nasca", language)
        ]
        edges = band.get_paths()[0].vertices.tolist()
        for layer, (low, high) in enumerate(cells):
            assert [layer, low] in edges
            assert [layer, high] in edges
    assert sorted(levels) == ["chance", "shuffled baseline"]
    assert [report.chance] * 2 in lines.values()
    assert [report.shuffled_baseline("nasca")] * 2 in lines.values()


def test_many_languages_are_a_mean_a_quartile_band_and_six_names():
    many = {f"l{k:02}": 0.04 * k for k in range(25)}
    axes, lines, names = drawn(make_report(5, many))
    assert set(many) | {"mean"} <= set(lines)
    assert lines["mean"] == pytest.approx([0.48] * 8)
    (band,) = axes.collections
    heights = [y for _, y in band.get_paths()[0].vertices]
    assert (min(heights), max(heights)) == pytest.approx((0.24, 0.72))
    ends = {"l24", "l23", "l22", "l02", "l01", "l00", "mean", "chance", "shuffled baseline"}
    assert set(names) == ends
    heights = sorted(text.xyann[1] for text in axes.texts)
    assert all(text.xyann[0] > 1 for text in axes.texts)
    assert all(b - a > 0.044 for a, b in itertools.pairwise(heights))
    assert -0.01 < heights[0] < heights[-1] < 1.01


def test_a_score_of_one_percent_is_a_tenth_of_the_axis():
    axes = charts.by_layer(make_report(5, TWO), "nasca").axes[0]
    place = axes.transData.transform((0, 0.01)) - axes.transData.transform((0, 0))
    whole = axes.transData.transform((0, 1)) - axes.transData.transform((0, 0))
    assert place[1] / whole[1] == pytest.approx(0.1)
    assert "square-root scale" in axes.get_ylabel()
    image, bar = charts.heat_map(make_report(5, TWO), "nasca").axes
    assert image.images[0].norm(0.01) == pytest.approx(0.1)
    assert "square-root scale" in bar.get_ylabel()


def test_the_rows_of_a_heat_map_stay_or_follow_the_score():
    scores = {"a": 0.1, "b": math.nan, "c": 0.9, "d": 0.5}
    for by_score, order in ((False, list("abcd")), (True, list("cdab"))):
        figure = charts.heat_map(make_report(5, scores), "nasca", by_score=by_score)
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == order
        cells = figure.axes[0].images[0].get_array()
        assert cells[order.index("d")].tolist() == [0.5] * 8


def test_an_unknown_level_is_not_drawn():
    report = make_report(5, {"deu_Latn": [math.nan, 0.5]})
    assert math.isnan(report.shuffled_baseline("nasca"))
    assert drawn(report)[2] == ["chance"]


def test_layers_carry_their_own_numbers():
    report = make_report(5, TWO, layers=3)
    scores = dataclasses.replace(report.metrics["nasca"], layers=(3, 7, 11))
    report = dataclasses.replace(report, metrics={"nasca": scores})
    labels = [label.get_text() for label in drawn(report)[0].get_xticklabels()]
    assert labels == ["3", "7", "11"]


@pytest.mark.parametrize("languages", [1, 40])
def test_the_picture_of_one_step_has_one_scale_and_every_language(languages):
    names = [f"l{k}" for k in range(languages)]
    figure = charts.by_layer(make_report(5, dict.fromkeys(names, 0.05)), "nasca")
    assert figure.axes[0].get_ylim() == (0, 1)
    legends = [text.get_text() for each in figure.legends for text in each.get_texts()]
    assert legends == (names if languages == 1 else [])
    assert charts.pixels(figure).shape[2] == 4


def test_the_loss_is_below_the_alignment_of_its_step():
    runs = [{"loss": 3.0, "loss_step": 10}, {"loss": 2.0, "loss_step": 20}]
    reports = [
        make_report(step, run=run) for step, run in zip((0, 20, 40), ({}, *runs), strict=True)
    ]
    above, below, _ = charts.picture(reports).axes
    assert above.get_xlim() == below.get_xlim()
    (line,) = below.get_lines()
    assert list(map(tuple, line.get_xydata())) == [(10, 3.0), (20, 2.0)]
