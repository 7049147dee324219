"""``neuronxa compare``: differences of two reports or groups of runs, and which are drops."""

import glob
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from neuronxa_callback.cli.run_record import select_report
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.comparison import (
    compare_groups,
    compare_languages,
    note_on_sentences,
    note_on_tokens,
)
from neuronxa_callback.history.run_groups import compare_runs
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import without_nan
from neuronxa_callback.show import tables, terminal


def compared(
    reports: tuple[str | None, str | None],
    groups: Sequence[str],
    metric: str | None,
    at_n: int | None,
) -> "ReportDiff | RunDiff":
    """The differences that the arguments of the command name.

    Raises:
        ConfigError: If there are not two reports or two groups of runs, or they cannot be compared.
        FingerprintError: If they do not measure the same thing.
    """
    before, after = reports
    if before is not None and after is not None and not groups:
        both = select_report(before, metric), select_report(after, metric)
        return ReportDiff(*both, metric, at_n)
    if before is not None or after is not None or len(groups) != 2:
        raise ConfigError(
            "compare needs two reports, or two groups of runs: --group A=runs/a* --group B=runs/b*"
        )
    if at_n is not None:
        raise ConfigError("--at-n compares two reports, leave it out with --group")
    one, other = (_runs_of(group, metric) for group in groups)
    if one[0] == other[0]:
        raise ConfigError(f"the groups must have names that differ, got {one[0]!r} twice")
    return RunDiff(dict((one, other)), metric)


def _runs_of(group: str, metric: str | None) -> tuple[str, dict[str, AlignmentReport]]:
    """The name of a group and its runs: path -> report, from ``NAME=PATTERN[@STEP],...``."""
    name, selectors = paths_of_group(group)
    return name, {run: select_report(f"{run}{at}", metric) for run, at in selectors.items()}


def paths_of_group(group: str) -> tuple[str, dict[str, str]]:
    """The name of a group of runs, and path -> ``@STEP`` or nothing, from its text.

    A part that exists as it is written is a path: it may hold commas, ``@`` and brackets.

    Raises:
        ConfigError: If the text is not ``NAME=PATTERN[@STEP],...``, or a pattern matches no run.
    """
    name, equals, patterns = group.partition("=")
    if not (name and equals and patterns):
        raise ConfigError(f"--group must be a name and a pattern, such as A=runs/a*, got {group!r}")
    runs: dict[str, str] = {}
    parts = patterns.split(",")
    while parts:
        # The longest text that is a path; what is none is a pattern without commas.
        lengths = range(len(parts), 0, -1)
        used = next((n for n in lengths if _run_at(",".join(parts[:n]))), 1)
        found = _run_at(",".join(parts[:used])) or _runs_matching(parts[0])
        if not found:
            raise ConfigError(
                f"the group {name} must match at least one run, {parts[0]!r} matches none"
            )
        runs |= found
        parts = parts[used:]
    return name, runs


def _run_at(text: str) -> dict[str, str]:
    """A path -> ``@STEP`` or nothing, if the text is ``path`` or ``path@STEP``."""
    return next(({path: at} for path, at in _readings(text) if os.path.exists(path)), {})


def _runs_matching(pattern: str) -> dict[str, str]:
    """Each path that a pattern matches -> ``@STEP`` or nothing."""
    matches = ((sorted(glob.glob(path)), at) for path, at in _readings(pattern))
    return next((dict.fromkeys(paths, at) for paths, at in matches if paths), {})


def _readings(text: str) -> list[tuple[str, str]]:
    """What a text may mean, (path, selector), first without a selector: ``@`` may be in a path."""
    path, at, selector = text.rpartition("@")
    return [(text, ""), *([(path, at + selector)] if path and "," not in selector else [])]


class RunDiff:
    """The differences between two groups of runs.

    Args:
        groups: Name -> path -> report, of two groups.
        metric: The metric to compare; None for the first one.

    Raises:
        FingerprintError: If the reports do not measure the same thing.
        ConfigError: If a group has fewer than 2 runs, or the metric is unknown.
    """

    def __init__(
        self, groups: Mapping[str, Mapping[str, AlignmentReport]], metric: str | None
    ) -> None:
        first, second = ([*runs.values()] for runs in groups.values())
        self.groups = groups
        self.metric = metric or next(iter(first[0].metrics))
        self.differences = compare_runs(first, second, self.metric)

    @property
    def drops(self) -> dict[str, str]:
        """Language -> a message, for each language of which the second group is lower or NaN."""
        languages = next(iter(next(iter(self.groups.values())).values())).languages
        changes = {name: self.differences[name].change for name in languages}
        return _drops(changes, [name for name in languages if math.isnan(changes[name].difference)])

    def to_json(self) -> str:
        """One line of JSON; NaN becomes ``null``."""
        one, other = self.groups
        plain = {
            "metric": self.metric,
            "runs": {
                name: [{"run": path, "step": report.step} for path, report in runs.items()]
                for name, runs in self.groups.items()
            },
            "differences": {
                name: {
                    one: asdict(each.first),
                    other: asdict(each.second),
                    **_plain({"change": each.change})["change"],
                }
                for name, each in self.differences.items()
            },
            "dropped": list(self.drops),
        }
        return json.dumps(without_nan(plain), allow_nan=False)

    def show(self) -> None:
        """Print the runs of both groups and the table of differences."""
        for name, runs in self.groups.items():
            steps = ", ".join(f"{path} at step {report.step}" for path, report in runs.items())
            terminal.show_text(f"{name}: {steps}")
        terminal.show(tables.run_differences(self.metric, tuple(self.groups), self.differences))


class ReportDiff:
    """The differences between two reports on the same sentences.

    Args:
        before: The earlier report, or that of another model.
        after: The report to judge.
        metric: The metric to compare; None for the first one of ``before``.
        at_n: Compare the expected scores among this number of pairs; None for those as measured.

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric.
    """

    def __init__(
        self,
        before: AlignmentReport,
        after: AlignmentReport,
        metric: str | None,
        at_n: int | None = None,
    ) -> None:
        self.before, self.after = before, after
        self.metric = metric or next(iter(before.metrics))
        self.at_n = at_n
        self.changes = compare_languages(before, after, self.metric, at_n)
        self.groups = compare_groups(before, after, self.metric, at_n)
        notes = (note_on_tokens(before, after), note_on_sentences(before, after))
        self.note = "; ".join(filter(None, notes)) or None

    @property
    def drops(self) -> dict[str, str]:
        """Language -> a message, for each language whose score is significantly lower or NaN."""
        scores = {name: self.after.score(self.metric, name) for name in self.changes}
        return _drops(self.changes, [name for name in scores if math.isnan(scores[name])])

    @property
    def model_differences(self) -> dict[str, tuple[Any, Any]]:
        """Properties that differ between the models, such as dtype: key -> (before, after)."""
        before, after = (
            report.fingerprint.get("model", {}) for report in (self.before, self.after)
        )
        values = {
            key: (before.get(key), after.get(key)) for key in dict.fromkeys((*before, *after))
        }
        return {key: pair for key, pair in values.items() if pair[0] != pair[1]}

    def to_json(self) -> str:
        """One line of JSON; NaN becomes ``null``."""
        fields = {
            "metric": self.metric,
            "at_n": self.at_n,
            "languages": _plain(self.changes),
            "groups": _plain(self.groups),
            "dropped": list(self.drops),
            "model": self.model_differences,
            "note": self.note,
        }
        return json.dumps(fields, allow_nan=False)

    def show(self) -> None:
        """Print the table of languages, the differences between the models, and the note."""
        terminal.show(
            tables.differences(self.before, self.after, self.metric, self.changes, self.at_n)
        )
        if self.groups:
            terminal.show(tables.group_differences(self.metric, self.groups))
        for key, (before, after) in self.model_differences.items():
            terminal.show_text(f"the models differ in {key}: {before} before, {after} after")
        if self.note:
            terminal.show_text(f"note: {self.note}")


def _drops(changes: Mapping[str, Change], unknown: Sequence[str]) -> dict[str, str]:
    drops = {}
    for language, change in changes.items():
        if language in unknown:
            drops[language] = f"{language}: the new score is NaN, which counts as a drop"
        elif change.significant and change.difference < 0:
            drops[language] = f"{language}: significantly lower, by {-change.difference:.3f}"
    return drops


def _plain(changes: Mapping[str, Change]) -> dict[str, dict[str, Any]]:
    return {
        name: {**_null_for_nan(asdict(change)), "significant": change.significant}
        for name, change in changes.items()
    }


def _null_for_nan(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}
