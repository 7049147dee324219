"""Read the reports that a run wrote, and how the run measured itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuronxa_callback.cli.option_values import is_builtin
from neuronxa_callback.cli.output import echo
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.extend import known_names
from neuronxa_callback.history.records import Record, RunReports, read_record
from neuronxa_callback.report import AlignmentReport

if TYPE_CHECKING:
    from neuronxa_callback.cli.load_model import LoadOptions


def read_and_warn(path: str | Path, run: str | None = None) -> Sequence[AlignmentReport]:
    """The reports of a run, read when needed; prints what is left out on stderr.

    Raises:
        ConfigError: If there is no such record or no such run.
    """
    reports, messages = read_record(path, run)
    for message in messages:
        echo(f"neuronxa: {message}", err=True)
    return reports


def select_report(argument: str, metric: str | None = None) -> AlignmentReport:
    """The report that an argument such as ``runs/out@best`` selects.

    Args:
        argument: ``path``, ``path@STEP``, ``path@first``, ``path@best`` or ``path@last``. The
            default is the last report. ``path@RUN:STEP`` selects one run of several by its id.
        metric: The metric of ``@best``; None for the first one of the run.

    Raises:
        ConfigError: If there is no such report.
    """
    path, selector, run = argument, "", None
    if not Path(argument).exists() and "@" in argument:
        path, _, selector = argument.rpartition("@")
    if ":" in selector:
        run, _, selector = selector.rpartition(":")
    reports = read_and_warn(path, run)
    if not reports:
        raise ConfigError(f"a run must have at least one report, {path} has none")
    if selector == "best":
        return _best(reports, path, metric or next(iter(reports[0].metrics)))
    if selector in ("", "last"):
        return reports[-1]
    if selector == "first":
        return reports[0]
    steps = reports.steps if isinstance(reports, RunReports) else ()
    if selector not in map(str, steps):
        raise ConfigError(
            f"{path} must have a report of step {selector!r}, it has: {', '.join(map(str, steps))}"
        )
    return reports[steps.index(int(selector))]


def _best(reports: Sequence[AlignmentReport], path: str, metric: str) -> AlignmentReport:
    """The report with the highest score, the first one of equals; NaN is ignored."""
    if not any(metric in report.metrics for report in reports):
        raise ConfigError(unknown("metric", metric, reports[0].metrics))
    best: AlignmentReport | None = None
    for report in reports:
        score = report.score(metric) if metric in report.metrics else math.nan
        if not math.isnan(score) and (best is None or score > best.score(metric)):
            best = report
    if best is None:
        raise ConfigError(f"{path}@best needs a report with a {metric} score, all scores are NaN")
    return best


def read_curves(path: str) -> tuple[dict[str, Sequence[AlignmentReport]], list[str]]:
    """The curves of a record by the ids of their runs, and messages about the lines left out.

    Raises:
        ConfigError: If there is no such record.
    """
    record = Record.open(path)
    return {**record.runs}, record.messages()


def shortest_names(runs: Sequence[str]) -> list[str]:
    """Name runs by the last parts of their paths, as few as make the names distinct.

    >>> shortest_names(["/runs/a/out", "/runs/b/out"])
    ['a/out', 'b/out']
    """
    paths = [Path(run).resolve() for run in runs]
    names: list[str] = []
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


@dataclass(frozen=True)
class RunRecord:
    """How a run measured itself, according to its last report."""

    report: AlignmentReport

    @classmethod
    def read(cls, run: str) -> "RunRecord | None":
        """Read the last report of a run; None if the run has no reports."""
        try:
            reports = read_and_warn(run)
        except ConfigError:
            return None
        return cls(reports[-1]) if reports else None

    def config(self, overrides: Mapping[str, Any]) -> ProbeConfig:
        """The configuration of the run's probes, with some options replaced.

        Raises:
            ConfigError: If the record does not contain the run's sentences or its function that
                finds the neurons.
        """
        definition = self.report.fingerprint["definition"]
        names = {field.name for field in fields(ProbeConfig)}
        options = {name: value for name, value in definition.items() if name in names}
        options["batch_tokens"] = self.report.fingerprint["environment"]["batch_tokens"]
        options["metrics"] = tuple(definition["metrics"])
        for option, kind in (("diagnostics", "diagnostic"), ("neurons", "neuron statistic")):
            options[option] = tuple(
                name for name in known_names(kind) if name in self.report.diagnostics
            )
        if "languages" not in overrides:
            options["groups"] = dict(self.report.groups)
        options |= {**overrides, "corpus": self._corpus(overrides)}
        if isinstance(options["neuron_modules"], Mapping):
            function = options["neuron_modules"].get("function")
            raise ConfigError(
                f"this run found its neurons with a Python function {function!r}, which a record"
                " cannot contain; set neuron_modules in a file and pass it with --config"
            )
        return ProbeConfig(**options)

    def _corpus(self, overrides: Mapping[str, Any]) -> Any:
        definition = self.report.fingerprint["definition"]
        recorded, _, _ = str(definition["corpus"]).partition("@")
        corpus = overrides.get("corpus", recorded)
        if isinstance(corpus, str) and is_builtin(corpus):
            return corpus
        if "corpus" not in overrides:
            raise ConfigError(
                f"this run measured the sentences {corpus!r}, which are not built in;"
                " name their file or folder with --corpus or --config"
            )
        table = {"path": corpus} if isinstance(corpus, str) else corpus
        return {"pivot": definition["pivot"], **table}

    @property
    def firing_bar(self) -> float | None:
        """The bar of language neurons of the run; None if it did not count them."""
        bar: float | None = self.report.diagnostics.get("language_neurons", {}).get("bar")
        return bar

    def load_options(self, overrides: "LoadOptions") -> "LoadOptions":
        """The given options; dtype and attention are those of the run unless they are set."""
        model = self.report.fingerprint["model"]
        return replace(
            overrides,
            dtype=model["weights"] if overrides.dtype == "auto" else overrides.dtype,
            attention=overrides.attention or model["attention"],
        )

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype of autocast: that of the neurons' states if the weights have another."""
        model = self.report.fingerprint["model"]
        if model["states"] == model["weights"]:
            return None
        dtype = getattr(torch, str(model["states"]), None)
        return dtype if isinstance(dtype, torch.dtype) else None
