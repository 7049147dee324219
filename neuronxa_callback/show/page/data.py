"""The data of the page: arrays of counts and numbers as bytes, the rest as JSON, zlib over both.

Scores are packed as counts of aligned pairs, one byte each for up to 254 pairs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.corpus import languages
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.agreement import Agreements
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import GROUP
from neuronxa_callback.scores import without_nan
from neuronxa_callback.show import palette
from neuronxa_callback.show.page import comparable
from neuronxa_callback.show.page.packer import Packer
from neuronxa_callback.show.page.panels.matrix import LastMatrix
from neuronxa_callback.show.page.panels.neurons import NeuronCurves
from neuronxa_callback.show.page.panels.pairs import PairHits, Sentences, sentences_entry
from neuronxa_callback.show.page.panels.run_groups import RunGroups, run_groups_entry
from neuronxa_callback.show.page.panels.scatter import scatter_entry

Runs = Mapping[str, Sequence[AlignmentReport]]
"""name -> the reports of a run, sorted by step."""

COLUMNS = (
    "low", "high", "pivot_to_target", "target_to_pivot", "shuffled_baseline",
    "change", "change_low", "change_high", "p",
)  # fmt: skip
"""The numbers of each language at each step; ``change`` is paired, since the first report."""

Groups = Mapping[str, tuple[str, ...]]
"""Name of a group -> its languages."""

PANELS: Mapping[str, Callable[[AlignmentReport, int], Any]] = {
    "neurons": NeuronCurves,
    "pairs": PairHits,
    "matrix": LastMatrix,
}
"""Name -> what a panel collects from the reports of a run, one after another."""


def pack(
    runs: Runs,
    notes: Sequence[str],
    run_groups: RunGroups | None = None,
    agreements: Agreements | None = None,
    sentences: Mapping[str, Sentences] | None = None,
) -> str:
    """The data of the page in base64.

    Args:
        runs: The runs to show.
        notes: Sentences to show at the top; notes on differences between runs are appended.
        run_groups: Name -> names of runs.
        agreements: Correlations with downstream scores.
        sentences: Name of a run -> the sentences of its pairs; they are readable in the page.

    Raises:
        ConfigError: If there is no run, or one without reports, or a group of runs is too small.
        FingerprintError: If the reports of one run or group do not measure the same thing.
    """
    if not runs:
        raise ConfigError("a page needs at least one run, got none")
    for name, reports in runs.items():
        if not reports:
            raise ConfigError(f"every run on a page needs at least one report, {name!r} has none")
    packer = Packer()
    codes = dict.fromkeys(code for reports in runs.values() for code in reports[0].languages)
    pivots = dict.fromkeys(reports[0].pivot for reports in runs.values())
    plain: dict[str, Any] = {
        "columns": COLUMNS,
        "palette": {"light": palette.LIGHT, "dark": palette.DARK},
        "names": {code: languages.name(code) for code in (*codes, *pivots)},
        "runs": [_run(packer, name, reports) for name, reports in runs.items()],
    }
    definitions = {run["name"]: run["fingerprint"].get("definition", {}) for run in plain["runs"]}
    numbers = comparable.measurement_numbers(list(definitions.values()))
    for run, number in zip(plain["runs"], numbers, strict=True):
        run["measurement"] = number
    plain["notes"] = [*notes, *comparable.differences(definitions)]
    if run_groups:
        plain["run_groups"] = run_groups_entry(packer, runs, run_groups)
    if agreements is not None:
        plain["scatter"] = scatter_entry(agreements, codes)
    if sentences:
        plain["sentences"] = sentences_entry(runs, sentences)
    return packer.finish(plain)


class _Curves:
    """The arrays of one run, filled by one report after another: a large run is read once."""

    def __init__(self, first: AlignmentReport, groups: Groups, steps: int) -> None:
        self.first, self.point, self.groups, self.filled = first, Point.of(first), groups, 0
        self.missing = missing = _missing(first.n_pairs)
        kind = np.min_scalar_type(missing)
        size = steps, len(first.languages)
        layers = {metric: len(first.layers(metric)) for metric in first.metrics}
        self.counts = {m: np.empty((*size, k), kind) for m, k in layers.items()}
        self.ends = {m: np.empty((*size, k, 2), "<u1") for m, k in layers.items()}
        shape = steps, size[1] + 1 + len(groups), len(COLUMNS)
        self.numbers = {metric: np.empty(shape, "<f4") for metric in layers}

    def add(self, report: AlignmentReport) -> None:
        """Fill the row of the next report."""
        point = self.point if self.filled == 0 else Point.of(report)
        for metric in self.counts:
            self.counts[metric][self.filled] = counts(report, metric, self.missing)
            self.ends[metric][self.filled] = layer_intervals(report, metric)
            rows = numbers(report, self.point, point, metric)
            rows += group_numbers(report, self.point, point, metric, self.groups)
            self.numbers[metric][self.filled] = rows
        self.filled += 1


def _run(packer: Packer, name: str, reports: Sequence[AlignmentReport]) -> dict[str, Any]:
    first = last = reports[0]
    groups = first.groups if len(reports) == 1 else reports[-1].groups
    curves = _Curves(first, groups, len(reports))
    panels = {key: collects(first, len(reports)) for key, collects in PANELS.items()}
    per_step: dict[str, list[Any]] = {"steps": [], "losses": [], "loss_steps": []}
    warnings: dict[str, Any] = {"texts": {}, "by_step": []}
    for last in reports:
        check_same_fingerprint(first.fingerprint, last.fingerprint, ("definition", "model"))
        curves.add(last)
        for panel in panels.values():
            panel.add(last)
        per_step["steps"].append(last.step)
        per_step["losses"].append(_loss(last))
        per_step["loss_steps"].append(loss_step(last))
        texts = warnings["texts"]
        warnings["by_step"].append([texts.setdefault(w, len(texts)) for w in last.warnings])
    return {
        "name": name,
        "pivot": first.pivot,
        "pairs": first.n_pairs,
        "chance": first.chance,
        "languages": first.languages,
        "groups": [{"name": key, "languages": members} for key, members in groups.items()],
        **per_step,
        "metrics": {
            metric: {
                "layers": [str(layer) for layer in first.layers(metric)],
                "counts": packer.put(curves.counts[metric]),
                "layer_intervals": packer.put(curves.ends[metric]),
                "numbers": packer.put(curves.numbers[metric]),
            }
            for metric in first.metrics
        },
        "panels": {key: panel.entry(packer) for key, panel in panels.items()},
        "warnings": {**warnings, "texts": list(warnings["texts"])},
        "diagnostics": without_nan(last.diagnostics),
        "fingerprint": without_nan(last.fingerprint),
        "run": without_nan(last.run),
    }


def _missing(pairs: int) -> int:
    """The largest number of the type of counts, which means NaN."""
    kind = "<u1" if pairs < 2**8 - 1 else "<u2" if pairs < 2**16 - 1 else "<u4"
    return int(np.iinfo(kind).max)


def counts(report: AlignmentReport, metric: str, missing: int) -> list[list[int]]:
    """Aligned pairs [languages, layers] of a report."""
    hits = report.metrics[metric].hits
    return [
        [missing if mask is None else mask.bit_count() for mask in hits[language]]
        for language in report.languages
    ]


def layer_intervals(report: AlignmentReport, metric: str) -> NDArray[Any]:
    """Ends of the intervals of layers [languages, layers, 2], in 1/250; 255 means NaN."""
    known = report.metrics[metric].layer_intervals
    ends = np.array([known[name] for name in report.languages])
    return np.where(np.isnan(ends), 255, np.round(np.nan_to_num(ends) * 250)).astype("<u1")


Numbers = list[tuple[float, ...]]


def numbers(report: AlignmentReport, first: Point, point: Point, metric: str) -> Numbers:
    """The numbers [languages and the mean, ``COLUMNS``] of a report; NaN if unknown.

    P-values of changes are adjusted by Holm over languages; the mean is a test of its own.
    """
    changes = _changes(first, point, metric, [(code,) for code in report.languages])
    changes += _changes(first, point, metric, [None])
    names = (*report.languages, None)
    return [
        (*report.interval(metric, name), *_accuracies(report, metric, name), *change_numbers)
        for name, change_numbers in zip(names, changes, strict=True)
    ]


def group_numbers(
    report: AlignmentReport, first: Point, point: Point, metric: str, groups: Groups
) -> Numbers:
    """The same [groups, ``COLUMNS``]; p-values are adjusted by Holm over groups.

    A resumed run may have other groups than at first, so intervals come from the point.
    """
    grouped = replace(report, groups=groups)
    changes = _changes(first, point, metric, list(groups.values()))
    return [
        (
            *point.interval(metric, members),
            *_accuracies(grouped, metric, f"{GROUP}{name}"),
            *change_numbers,
        )
        for (name, members), change_numbers in zip(groups.items(), changes, strict=True)
    ]


def _accuracies(
    report: AlignmentReport, metric: str, name: str | None
) -> tuple[float, float, float]:
    return *report.retrieval(metric, name), report.shuffled_baseline(metric, name)


def _changes(
    first: Point, point: Point, metric: str, names: Sequence[tuple[str, ...] | None]
) -> list[tuple[float, float, float, float]]:
    """(change, low, high, p by Holm) since the first point; NaN for the first point."""
    if point is first:
        return [(math.nan,) * 4] * len(names)
    changes = [change(first, point, metric, members) for members in names]
    adjusted = statistics.holm([one.p for one in changes])
    return [
        (one.difference, one.low, one.high, p) for one, p in zip(changes, adjusted, strict=True)
    ]


def _loss(report: AlignmentReport) -> float | None:
    loss = report.run.get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None


def loss_step(report: AlignmentReport) -> int:
    """The step at which the loss was logged, which may be before the step of the report."""
    step = report.run.get("loss_step")
    return step if isinstance(step, int) else report.step
