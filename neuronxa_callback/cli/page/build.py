"""``neuronxa page``: runs, groups of runs and downstream scores in one HTML file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neuronxa_callback.cli.compare import paths_of_group
from neuronxa_callback.cli.correlate import read_task_scores
from neuronxa_callback.cli.hubs import recorded_hub_sentences
from neuronxa_callback.cli.output import echo
from neuronxa_callback.cli.pairs.sides import recorded_sentences
from neuronxa_callback.cli.run_record import read_curves, shortest_names
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.agreement import Agreements, correlate
from neuronxa_callback.history.records import RunReports, find_record
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.page.comparable import definition_of, differences
from neuronxa_callback.show.page.page import write_page

Curves = dict[str, Sequence[AlignmentReport]]


def make_page(
    runs: Sequence[str],
    groups: Sequence[str],
    scores: tuple[Path | None, str | None],
    corpus: str | None,
    out: Path,
    with_text: bool = False,
) -> None:
    """Write the page and print its path; what is left out or not comparable goes to stderr.

    Args:
        runs: Folders of runs, or JSONL files.
        groups: Texts such as ``A=runs/a*``.
        scores: The file of downstream scores, and a part of a task's name.
        corpus: The corpus to read sentences from, if the page gets them.
        out: The HTML file.
        with_text: Whether the page gets the sentences of the pairs.

    Raises:
        ConfigError: If there is no run, or something cannot be read.
        FingerprintError: If the reports of one run or group do not measure the same thing.
    """
    members = dict(paths_of_group(group) for group in groups)
    if len(members) < len(groups):
        raise ConfigError(f"the groups must have names that differ, got {', '.join(groups)}")
    paths = [*runs, *(path for own in members.values() for path in own)]
    if not paths:
        raise ConfigError("page needs at least one run, or groups of runs: --group A=runs/a*")
    paths = list({Path(path).resolve(): path for path in reversed(paths)}.values())[::-1]
    curves, names, skipped = _read(paths)
    run_groups = {
        name: [names[Path(path).resolve()] for path in own] for name, own in members.items()
    }
    definitions = {name: definition_of(reports[0]) for name, reports in curves.items()}
    for note in differences(definitions):
        echo(f"neuronxa: {note}", err=True)
    own = corpus if with_text else None
    hubs = [text for found in curves.values() for text in recorded_hub_sentences(found[-1], own)]
    sentences, unknown = recorded_sentences(curves, corpus) if with_text else ({}, [])
    for message in unknown:
        echo(f"neuronxa: {message}", err=True)
    notes = [*skipped, *dict.fromkeys(hubs)]
    file, task = scores
    agreements = None if file is None else _agreements(curves, file, task)
    write_page(
        curves,
        out,
        notes=notes,
        run_groups=run_groups,
        agreements=agreements,
        sentences=sentences,
    )
    echo(str(out))


def _read(paths: Sequence[str]) -> tuple[Curves, dict[Path, str], list[str]]:
    """The curves by name, the name of each path's last run, and messages on lines left out."""
    curves: Curves = {}
    names: dict[Path, str] = {}
    skipped: list[str] = []
    for name, path in zip(shortest_names(paths), paths, strict=True):
        found, messages = read_curves(path)
        skipped += messages
        for message in messages:
            echo(f"neuronxa: {message}", err=True)
        if not found:
            raise ConfigError(f"a run must have at least one report, {find_record(path)} has none")
        several = len(found) > 1
        own = {f"{name} ({key})" if several else name: found[key] for key in found}
        curves |= own
        names[Path(path).resolve()] = list(own)[-1]
    return curves, names, skipped


def _agreements(curves: Curves, file: Path, task: str | None) -> Agreements:
    kept, notes = read_task_scores(file, task)
    steps = {score.step for score in kept}
    found = correlate({name: _at(reports, steps) for name, reports in curves.items()}, kept)
    return replace(found, notes=(*notes, *found.notes))


def _at(reports: Sequence[AlignmentReport], steps: set[int | None]) -> list[AlignmentReport]:
    """The reports at these steps and the last one: a large record does not fit into memory."""
    known = reports.steps if isinstance(reports, RunReports) else [each.step for each in reports]
    wanted = [k for k, step in enumerate(known) if step in steps or k == len(known) - 1]
    return [reports[k] for k in wanted]
