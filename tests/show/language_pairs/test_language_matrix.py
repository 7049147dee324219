"""The matrix of all pairs of languages: its order, picture, table, and where pictures go."""

import math
from itertools import pairwise

import pytest
from rich.console import Console

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show import charts
from neuronxa_callback.show.language_pairs.order import cluster_order
from neuronxa_callback.show.language_pairs.table import matrix_table
from neuronxa_callback.show.pictures import Pictures
from tests.helpers.output import wandb_file
from tests.helpers.output.language_pairs import with_pairs
from tests.helpers.reports import make_report

FAMILIES = {"deu": 0, "hin": 1, "nld": 0, "urd": 1, "swe": 0, "ben": 1}


def alike(one, other):
    return 0.8 if FAMILIES[one] == FAMILIES[other] else 0.2


def report_of(step=5, metrics=("nasca",), **run):
    scores = {name: 0.5 - 0.3 * family for name, family in FAMILIES.items()}
    return with_pairs(make_report(step, scores, metrics=metrics, run=run), metrics, alike)


def test_similar_languages_are_neighbours_and_the_order_begins_with_the_earlier_end():
    table = report_of().language_pairs["nasca"]
    order = cluster_order(table)
    families = [FAMILIES.get(table.languages[k], 2) for k in order]
    assert sorted(order) == [*range(7)]
    assert sum(a != b for a, b in pairwise(families)) == 2
    assert order[0] < order[-1]
    # The pivot is nearer to the first family.
    assert abs(order.index(0) - order.index(1)) <= 3


def test_the_order_is_the_best_of_all_that_the_tree_allows():
    """By hand: of a chain a-b-c-d the neighbours stay neighbours."""
    place = {"a": 1, "b": 2, "c": 3, "d": 4}
    report = with_pairs(
        make_report(0, {name: 1 - 0.1 * k for name, k in place.items()}),
        ("nasca",),
        lambda one, other: 1 - 0.2 * abs(place[one] - place[other]),
    )
    order = cluster_order(report.language_pairs["nasca"])
    assert [k for k in order if k] in ([1, 2, 3, 4], [4, 3, 2, 1])


def test_nan_does_not_stop_the_order():
    report = with_pairs(make_report(0, {"a": math.nan, "b": 0.5, "c": 0.4}), ("nasca",))
    assert sorted(cluster_order(report.language_pairs["nasca"])) == [0, 1, 2, 3]


def test_the_picture_has_every_score_once_per_side_and_an_empty_diagonal():
    report = report_of()
    table = report.language_pairs["nasca"]
    figure = charts.language_matrix(report, "nasca")
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [label.get_text() for label in axes.get_xticklabels()]
    assert sorted(names) == sorted(table.languages)
    cells = axes.images[0].get_array()
    for i, one in enumerate(names):
        assert math.isnan(cells.filled(math.nan)[i][i])
        for j, other in enumerate(names):
            if i != j:
                assert cells[i][j] == table.score(one, other)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(written) == 42
    assert written[0, 1] == f"{100 * table.score(names[0], names[1]):.0f}"
    assert axes.images[0].get_clim() == (0, 1)


def test_many_languages_have_no_numbers_in_their_cells():
    scores = {f"l{k:02}": 0.01 * k for k in range(charts.MOST_NUMBERS)}
    report = with_pairs(make_report(0, scores, metrics=("nasca",)), ("nasca",))
    assert list(charts.language_matrix(report, "nasca").axes[0].texts) == []


def test_the_picture_file_is_that_of_the_last_report_with_a_table(tmp_path):
    file = tmp_path / "languages.svg"
    reports = [make_report(0), report_of(2), make_report(4)]
    charts.write_picture(reports, file, language_pairs=True)
    assert "step 2" in "".join(file.read_text(encoding="utf-8").split("<!--")[1:])
    with pytest.raises(ConfigError) as error:
        charts.write_picture([make_report()], file, language_pairs=True)
    assert str(error.value) == (
        "a picture of all pairs of languages needs a report that has measured them, these have"
        " not; measure them with `neuronxa score MODEL --pivot all`, or in training with"
        " language_pairs_every"
    )


def test_the_terminal_has_every_pair_once_in_percent():
    report = report_of()
    console = Console(width=120, record=True)
    console.print(matrix_table(report, "nasca"))
    rows = [line.split() for line in console.export_text().splitlines()]
    rows = {row[1]: row[2:] for row in rows if row and row[0].isdigit() and not row[1].isdigit()}
    table = report.language_pairs["nasca"]
    names = list(rows)
    for i, one in enumerate(names):
        assert rows[one] == [f"{100 * table.score(one, other):.0f}" for other in names[:i]]


def test_a_report_with_a_table_is_drawn_also_between_the_tenth_probes():
    pictures = Pictures(10)
    keys = [
        sorted(key.rsplit("/", 1)[-1] for key in pictures.due(report))
        for report in (report_of(0), make_report(1, metrics=("nasca",)), report_of(2))
    ]
    assert keys == [
        ["nasca_curve", "nasca_heat_map", "nasca_language_pairs"],
        [],
        ["nasca_language_pairs"],
    ]


def test_wandb_gets_the_matrix_as_a_picture(offline):
    wandb_file.log(report_of(0), make_report(1, metrics=("nasca",)), report_of(2))
    key = "neuronxa_charts/nasca_language_pairs"
    rows = wandb_file.history(offline())
    steps = [row["train/global_step"] for row in rows if f"{key}/sha256" in row]
    assert steps == [0, 2]
    first = next(row for row in rows if f"{key}/sha256" in row)
    assert first[f"{key}/caption"] == "nasca, step 0"
    assert wandb_file.media(offline(), first, key).read_bytes().startswith(b"\x89PNG")
