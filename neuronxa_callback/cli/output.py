"""What commands print: a report, a bar while something runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from neuronxa_callback.probe import probe
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import terminal
from neuronxa_callback.show.sinks import long_table


def say(report: AlignmentReport, as_json: bool, as_csv: bool) -> None:
    """One report: as a table with its warnings, as JSON, or as CSV."""
    if as_json:
        typer.echo(report.to_json())
    elif as_csv:
        typer.echo(long_table([report]), nl=False)
    else:
        terminal.show(terminal.table(report))
        for words in report.warnings:
            typer.echo(f"warning: {words}")


@contextmanager
def progress(wanted: bool, what: str, unit: str = "") -> Iterator["probe.ProgressCallback | None"]:
    """A bar on stderr, which goes away when all is done; none where nobody looks."""
    console = Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    text, bar = TextColumn("{task.description}"), BarColumn()
    columns = (text, bar, *((DownloadColumn(),) if unit else ()), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
