"""``neuronxa correlate``: alignment per language against downstream scores per language."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuronxa_callback.cli.output import echo
from neuronxa_callback.cli.run_record import read_and_warn, select_report, shortest_names
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.agreement import Agreement, Agreements, correlate
from neuronxa_callback.history.downstream import DownstreamScore, read_scores
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import correlation_tables as tables
from neuronxa_callback.show import terminal
from neuronxa_callback.show.long_table import plain_cell
from neuronxa_callback.whole_file import whole_file

CSV_COLUMNS = (
    "model", "step", "task", "metric", "statistic", "n", "r", "low", "high", "p",
    "bootstrap_low", "bootstrap_high",
)  # fmt: skip


@dataclass(frozen=True)
class FoundCorrelations:
    """The correlations of a command, and what was taken from the files, in words."""

    agreements: Agreements
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """One line of JSON; NaN becomes ``null``."""
        plain = self.agreements.to_dict()
        plain["notes"] = [*self.notes, *plain["notes"]]
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """One row per model, task, metric and kind of correlation."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for each in self.agreements.over_languages:
            writer.writerows(map(plain_cell, row) for row in _csv_rows(each))
        return text.getvalue()

    def show(self) -> None:
        """Print the notes, then one table per kind of correlation."""
        for note in self.notes + self.agreements.notes:
            echo(f"note: {note}")
        for table in tables.correlations(self.agreements.over_languages):
            terminal.show(table)
        for group, found in self.agreements.in_groups.items():
            echo(f"in the group {group}:")
            for table in tables.correlations(found):
                terminal.show(table)
        if self.agreements.differences:
            terminal.show(tables.correlation_differences(self.agreements.differences))
        if self.agreements.over_models:
            terminal.show(tables.correlations_over_models(self.agreements.over_models))
        if self.agreements.over_steps:
            terminal.show(tables.step_correlations(self.agreements.over_steps))


def correlate_files(
    runs: Sequence[str], scores: Path, metrics: Sequence[str] | None, task: str | None
) -> FoundCorrelations:
    """Read reports and scores, and correlate them.

    Raises:
        ConfigError: If a file cannot be read, or the scores cannot be correlated.
    """
    kept, notes = read_task_scores(scores, task)
    names = shortest_names(runs)
    curves = {name: _reports(run) for name, run in zip(names, runs, strict=True)}
    return FoundCorrelations(correlate(curves, kept, metrics), notes)


def read_task_scores(file: Path, task: str | None) -> tuple[list[DownstreamScore], tuple[str, ...]]:
    """The scores of a file, only of tasks whose name contains ``task``, and what was matched.

    Raises:
        ConfigError: If the file cannot be read, or has no such task.
    """
    downstream = read_scores(file)
    kept = [score for score in downstream.scores if task is None or task in score.task]
    if not kept:
        tasks = ", ".join(dict.fromkeys(score.task for score in downstream.scores))
        raise ConfigError(f"--task must be part of a task's name, got {task!r} (known: {tasks})")
    return kept, downstream.notes


def _reports(run: str) -> list[AlignmentReport]:
    """All reports of a run, or the one that ``@STEP`` selects."""
    if not Path(run).exists() and "@" in run:
        return [select_report(run)]
    reports = list(read_and_warn(run))
    if not reports:
        raise ConfigError(f"a run must have at least one report, {run} has none")
    return reports


def write_plot(agreements: Agreements, path: Path) -> None:
    """Save the scatter plots of alignment against downstream scores.

    Raises:
        ConfigError: If the file type is unknown.
    """
    from neuronxa_callback.show.scatter import scatter

    figure = scatter(agreements.over_languages)
    try:
        with whole_file(path) as beside:
            figure.savefig(beside)
    except ValueError as cause:
        raise ConfigError(f"--plot must end in .png, .svg or .pdf: {cause}") from None


def _csv_rows(each: Agreement) -> Iterator[tuple[object, ...]]:
    kinds = {"pearson": each.pearson, "spearman": each.spearman}
    kinds |= {f"partial_{name}": found for name, found in each.partial.items()}
    for kind, found in kinds.items():
        yield (
            each.model, each.step, each.task, each.metric, kind, found.n, found.r, found.low,
            found.high, found.p, *found.bootstrap,
        )  # fmt: skip
