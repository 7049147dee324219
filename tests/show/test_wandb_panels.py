"""How many keys and panels a W&B run gets, read back from its file."""

import pytest

from neuronxa_callback.show import sinks
from tests.helpers.output import wandb_file
from tests.helpers.reports import make_report


def log(*reports, **options):
    """Log reports to a W&B run."""
    import wandb

    with wandb.init(project="p"):
        sink = sinks.WandbSink(**options)
        for report in reports:
            sink.write(report)
        sink.close()
    wandb.teardown()


def test_the_number_of_keys_is_bounded(offline):
    many = tuple(f"l{k}" for k in range(40))
    reports = [make_report(step, dict.fromkeys(many, 0.01 * step), layers=8) for step in (10, 20)]
    assert len(reports[0].metrics) == 2
    log(*reports)
    keys = dict.fromkeys(key for row in wandb_file.history(offline()) for key in row)
    assert set(reports[0].scalars()) < set(keys)
    assert 300 < len(keys | wandb_file.summary(offline())) <= 400


@pytest.mark.parametrize(
    ("choice", "panels", "hidden"), [("mean", 13, 4), ("languages", 63, 104), ("all", 167, 0)]
)
def test_the_ends_of_intervals_are_logged_without_panels(offline, choice, panels, hidden):
    report = make_report(5, {f"lan{k:02}_Latn": 0.02 * k for k in range(25)})
    log(report, scalars=choice)
    path = offline()
    (row,) = wandb_file.history(path)
    keys = {key for key in row if key.startswith("neuronxa/")}
    assert {key: row[key] for key in keys}.items() <= report.scalars().items()
    ends = wandb_file.hidden_metrics(path)
    assert {key.rpartition("/")[2] for key in ends} == ({"low", "high"} if hidden else set())
    assert ends <= keys
    assert (len(keys - ends), len(ends)) == (panels, hidden)
    assert {wandb_file.metrics(path)[key] for key in keys} == {"train/global_step"}
