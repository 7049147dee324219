"""Pictures in W&B: which probes are drawn, and that a failed drawing costs no score."""

import sys

import pytest

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show import sinks
from tests.helpers.output import wandb_file
from tests.helpers.reports import make_report

PICTURES = ("nasca_curve", "nasca_heat_map", "navca_curve", "navca_heat_map")


def test_curve_and_heat_map_are_pictures_of_every_step_that_is_drawn(offline):
    reports = [make_report(step, {"l0": 0.1, "l1": 0.01 * step}) for step in (0, 10, 20)]
    wandb_file.log(*reports, pictures_every=1)
    path = offline()
    for name in PICTURES:
        key, rows = f"neuronxa_charts/{name}", wandb_file.history(path)
        for row, report in zip(rows, reports, strict=True):
            assert row[f"{key}/_type"] == "image-file"
            assert row[f"{key}/caption"] == f"{name.split('_')[0]}, step {report.step}"
            assert wandb_file.media(path, row, key).read_bytes().startswith(b"\x89PNG")
        assert len({row[f"{key}/sha256"] for row in rows}) == len(reports)


def drawn_steps(path):
    """The steps of the rows with pictures of a run."""
    keys = [f"neuronxa_charts/{name}/sha256" for name in PICTURES]
    found = [[key in row for key in keys] for row in wandb_file.history(path)]
    assert all(len({*row}) == 1 for row in found)
    rows = zip(wandb_file.history(path), found, strict=True)
    return [row["train/global_step"] for row, drawn in rows if drawn[0]]


@pytest.mark.parametrize(
    ("probes", "run", "drawn"),
    [
        (13, {}, [0, 10, 12]),
        (11, {}, [0, 10]),
        (1, {}, [0]),
        (13, {"max_steps": 12}, [0, 10, 12]),
        (5, {"max_steps": 99}, [0, 4]),
    ],
)
def test_every_tenth_probe_and_the_last_one_are_drawn(offline, probes, run, drawn):
    wandb_file.log(*[make_report(step, {"l0": 0.1}, run=run) for step in range(probes)])
    assert drawn_steps(offline()) == drawn
    rows = [row for row in wandb_file.history(offline()) if "neuronxa/nasca/mean" in row]
    assert [row["train/global_step"] for row in rows] == list(range(probes))
    assert all("neuronxa_charts/nasca_by_layer_table/sha256" in row for row in rows)


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", True])
def test_pictures_are_drawn_every_so_many_probes(every):
    with pytest.raises(ConfigError, match="pictures_every must be a number of probes"):
        sinks.WandbSink(pictures_every=every)


@pytest.mark.parametrize("broken", ["by_layer", "heat_map", "pixels", None])
def test_a_picture_that_cannot_be_drawn_costs_no_score(offline, monkeypatch, caplog, broken):
    def fail(*_):
        raise RuntimeError("planned")

    if broken is None:
        monkeypatch.setitem(sys.modules, "neuronxa_callback.show.charts", None)
        monkeypatch.delattr("neuronxa_callback.show.charts", raising=False)
    else:
        monkeypatch.setattr(f"neuronxa_callback.show.charts.{broken}", fail)
    reports = [make_report(step, metrics=("nasca",)) for step in range(3)]
    wandb_file.log(*reports, pictures_every=1)
    rows = wandb_file.history(offline())
    for row, report in zip(rows, reports, strict=True):
        assert {key: row[key] for key in report.scalars()} == pytest.approx(report.scalars())
    names = {"by_layer": {"heat_map"}, "heat_map": {"curve"}}.get(broken, set())
    for name in ("curve", "heat_map"):
        assert all(
            (f"neuronxa_charts/nasca_{name}/sha256" in row) == (name in names) for row in rows
        )
    messages = [r.getMessage() for r in caplog.records if "a picture is left out" in r.getMessage()]
    assert len(messages) == 2 - len(names)
