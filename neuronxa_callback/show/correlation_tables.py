"""Tables for the terminal: correlations over languages, metrics, models and steps."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from neuronxa_callback.history.agreement import Agreement, MetricDifference, StepAgreement
from neuronxa_callback.show.tables import numeric_table, p_value


def correlations(agreements: Sequence[Agreement]) -> list[Table]:
    """A table per model and task: Pearson, Spearman and partial correlations of each metric."""
    return [_correlations(list(group)) for _, group in groupby(agreements, key=_model_and_task)]


def _model_and_task(each: Agreement) -> tuple[str, str]:
    return each.model, each.task


def _correlations(agreements: Sequence[Agreement]) -> Table:
    first = agreements[0]
    table = numeric_table(
        f"{first.task} and alignment over {first.pearson.n} languages, {first.model} at step"
        f" {first.step}",
        "95 % by Fisher's z; p by permutation",
        ("metric", "correlation"),
        ("r", "95 %", "p"),
    )
    for each in agreements:
        kinds = {"Pearson": each.pearson, "Spearman": each.spearman}
        kinds |= {f"Pearson given {name}": found for name, found in each.partial.items()}
        for kind, found in kinds.items():
            name = Text(each.metric if kind == "Pearson" else "")
            table.add_row(
                name, kind, f"{found.r:+.2f}", _ends(found.low, found.high), p_value(found.p)
            )
        without = each.without_one
        table.add_row(
            "",
            f"without one language; most by {without.language}",
            "",
            _ends(without.low, without.high),
            "",
            end_section=True,
        )
    return table


def correlation_differences(differences: Sequence[MetricDifference]) -> Table:
    """One row per pair of metrics: Pearson's r of the first minus that of the second."""
    table = numeric_table(
        "Differences between metrics on the same languages",
        "95 % by a paired bootstrap over languages",
        ("model", "task", "metrics"),
        ("difference", "95 %"),
    )
    for each in differences:
        names = (each.model, each.task, " - ".join(each.metrics))
        table.add_row(*map(Text, names), f"{each.difference:+.2f}", _ends(each.low, each.high))
    return table


def correlations_over_models(
    means: Mapping[tuple[str, str], tuple[float, float, float]],
) -> Table:
    """One row per task and metric: the mean of one Pearson's r per model."""
    table = numeric_table(
        "Mean over models of Pearson's r",
        "95 % by t over models, from 3 models on",
        ("task", "metric"),
        ("mean", "95 %"),
    )
    for (task, metric), (mean, low, high) in means.items():
        table.add_row(Text(task), Text(metric), f"{mean:+.2f}", _ends(low, high))
    return table


def step_correlations(agreements: Sequence[StepAgreement]) -> Table:
    """One row per model, task and metric: correlation of the changes from step to step."""
    table = numeric_table(
        "Changes from step to step, within languages",
        "95 % by resampling steps; 'together' is the share of changes with the same sign",
        ("task", "metric"),
        ("steps", "r", "95 %", "p", "together", "95 %"),
    )
    for each in agreements:
        found = each.changes
        table.add_row(
            *map(Text, (each.task, each.metric)),
            str(len(each.steps)),
            f"{found.correlation.r:+.2f}",
            _ends(found.correlation.low, found.correlation.high),
            p_value(found.correlation.p),
            f"{found.together:.2f}",
            "-".join(f"{end:.2f}" for end in found.together_interval),
        )
    return table


def _ends(low: float, high: float) -> str:
    return "unknown" if math.isnan(low) else f"{low:+.2f} to {high:+.2f}"
