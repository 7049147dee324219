"""Groups of runs on the page, such as seeds: means over runs at the steps that all of them have."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.points import Names, Point
from neuronxa_callback.history.run_groups import compare_runs, mean_of_runs
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import GROUP, MEAN
from neuronxa_callback.show.page.packer import Packer

RunGroups = Mapping[str, Sequence[str]]
"""Name of a group -> names of its runs, at least 2."""

MEANS = ("mean", "spread", "low", "high")
DIFFERENCES = ("difference", "low", "high", "p")

Runs = Mapping[str, Sequence[AlignmentReport]]
Rows = Mapping[str, Names]
"""Name of a row -> the languages to average: each language, each group, the mean."""


def run_groups_entry(packer: Packer, runs: Runs, groups: RunGroups) -> dict[str, Any]:
    """Means and spreads of groups of runs, and the differences from the first group.

    Raises:
        ConfigError: If runs have no step in common, or a group has fewer than 2 runs.
        FingerprintError: If the runs do not measure the same thing.
    """
    members = {name: [runs[run] for run in own] for name, own in groups.items()}
    first = next(iter(members.values()))[0][-1]
    rows = _rows(first)
    metrics = tuple(first.metrics)
    common = {name: _common_steps(name, own) for name, own in members.items()}
    entries = []
    for name, own in members.items():
        means = _means(own, common[name], metrics, rows, first)
        entries.append(
            {
                "name": name,
                "runs": list(groups[name]),
                "steps": common[name],
                "means": {metric: packer.put(array) for metric, array in means.items()},
            }
        )
    return {
        "rows": list(rows),
        "columns": MEANS,
        "difference_columns": DIFFERENCES,
        "groups": entries,
        "differences": [
            _difference(packer, members, (next(iter(members)), other), common, metrics, rows)
            for other in list(members)[1:]
        ],
    }


def _rows(report: AlignmentReport) -> Rows:
    rows: dict[str, Names] = {name: (name,) for name in report.languages}
    rows |= {f"{GROUP}{name}": members for name, members in report.groups.items()}
    return {**rows, MEAN: None}


def _steps(reports: Sequence[AlignmentReport]) -> list[int]:
    steps = getattr(reports, "steps", None)  # a record knows them without reading its reports
    return [report.step for report in reports] if steps is None else list(steps)


def _common_steps(name: str, runs: Sequence[Sequence[AlignmentReport]]) -> list[int]:
    steps = sorted(set.intersection(*(set(_steps(reports)) for reports in runs)))
    if not steps:
        raise ConfigError(
            f"the runs of the group {name} must have a probe at a common step, they have none"
        )
    return steps


def _at(reports: Sequence[AlignmentReport], step: int) -> AlignmentReport:
    return reports[_steps(reports).index(step)]


def _means(
    runs: Sequence[Sequence[AlignmentReport]],
    steps: Sequence[int],
    metrics: Sequence[str],
    rows: Rows,
    first: AlignmentReport,
) -> dict[str, NDArray[Any]]:
    """Metric -> [steps, rows, ``MEANS``]; the reports of one step are in memory at a time."""
    means = {metric: np.empty((len(steps), len(rows), len(MEANS)), "<f4") for metric in metrics}
    for t, step in enumerate(steps):
        points = []
        for reports in runs:
            report = _at(reports, step)
            check_same_fingerprint(first.fingerprint, report.fingerprint, ("definition",))
            points.append(Point.of(report))
        for metric in metrics:
            found = [mean_of_runs(points, metric, names) for names in rows.values()]
            means[metric][t] = [[getattr(each, key) for key in MEANS] for each in found]
    return means


def _difference(
    packer: Packer,
    members: Mapping[str, Sequence[Sequence[AlignmentReport]]],
    names: tuple[str, str],
    common: Mapping[str, Sequence[int]],
    metrics: Sequence[str],
    rows: Rows,
) -> dict[str, Any]:
    """The second group minus the first at their last common step; without one, no numbers."""
    shared = sorted(set(common[names[0]]) & set(common[names[1]]))
    if not shared:
        return {"groups": names, "step": None, "metrics": {}}
    one, other = ([_at(reports, shared[-1]) for reports in members[name]] for name in names)
    found: dict[str, Any] = {}
    for metric in metrics:
        differences = compare_runs(one, other, metric)
        changes = [differences[row].change if row in differences else None for row in rows]
        numbers = [
            [math.nan if each is None else getattr(each, key) for key in DIFFERENCES]
            for each in changes
        ]
        found[metric] = packer.put(np.array(numbers, dtype="<f4"))
    return {"groups": names, "step": shared[-1], "metrics": found}
