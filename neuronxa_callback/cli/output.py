"""Output of commands: reports and progress bars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import typer
from rich import progress
from rich.console import Console

from neuronxa_callback.cli.scoring.cost_tables import cost_tables
from neuronxa_callback.probe.probe import ProgressCallback
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import tables, terminal
from neuronxa_callback.show.language_pairs.table import matrix_table
from neuronxa_callback.show.long_table import long_table


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print a text that may come from a file, without its control characters.

    Raises:
        NeuronXAError: If the text is a result and standard output fails; notes on stderr are none.
    """
    with suppress(OSError) if err else terminal.guard_result():
        typer.echo(terminal.strip_controls(text), err=err, nl=nl)


def echo_json(text: str) -> None:
    """Print a line of JSON, with escapes in place of control characters.

    Raises:
        NeuronXAError: If standard output fails.
    """
    with terminal.guard_result():
        typer.echo(terminal.escape_controls(text))


def print_report(
    report: AlignmentReport, as_json: bool, as_csv: bool, hubs: Sequence[str] = ()
) -> None:
    """Print one report as JSON, as CSV, or as a table followed by warnings, hubs and the order."""
    if as_json:
        echo_json(report.to_json())
    elif as_csv:
        echo(long_table([report]), nl=False)
    else:
        terminal.show(tables.one_report(report))
        for metric in list(report.language_pairs)[:1]:
            terminal.show(matrix_table(report, metric))
        for table in cost_tables(report):
            terminal.show(table)
        for warning in report.warnings:
            echo(f"warning: {warning}")
        for message in hubs:
            echo(message)
        if "order" in report.run:
            echo(f"pairs: {report.run['order']}")


@contextmanager
def progress_bar(
    enabled: bool, description: str, in_bytes: bool = False
) -> Iterator[ProgressCallback | None]:
    """Show a bar on stderr that disappears at the end.

    Args:
        enabled: False for no bar. There is none either if stderr is not a terminal.
        description: The text left of the bar.
        in_bytes: Whether the work is counted in bytes.

    Yields:
        A function of (done, total) that updates the bar; None if there is no bar.
    """
    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield None
        return
    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *([progress.DownloadColumn()] if in_bytes else []),
        progress.TimeRemainingColumn(),
    ]
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
