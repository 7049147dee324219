"""The pictures, read from their axes."""

import dataclasses
import math

import pytest
from matplotlib.figure import Figure

from neuronxa_callback.show import charts, palette
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
    assert levels == ["chance", "shuffled baseline"]
    assert [report.chance] * 2 in lines.values()
    assert [report.shuffled_baseline("nasca")] * 2 in lines.values()


def test_bands_are_left_out_where_they_would_cover_each_other():
    many = {f"l{k}": 0.5 for k in range(len(palette.LIGHT) + 1)}
    axes, lines, _ = drawn(make_report(5, many))
    assert len(axes.collections) == 0
    assert set(many) <= set(lines)


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
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
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
