"""What words of the command line stand for: options, reports, runs."""

import json
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.records import read_record
from neuronxa_callback.report import AlignmentReport


def options_of(
    corpus: str | None,
    file: Path | None,
    languages: str | None,
    n_pairs: int | None,
    metrics: str | None,
) -> dict[str, Any]:
    """Options of ``ProbeConfig``: those of the command line, and of a file where it has others."""
    given: dict[str, Any] = {
        "corpus": None if corpus is None else _sentences(corpus),
        "languages": listed(languages),
        "n_pairs": n_pairs,
        "metrics": listed(metrics),
    }
    written: dict[str, Any] = {}
    if file is not None:
        made = ProbeConfig.from_toml(file)
        names = tomllib.loads(file.read_text(encoding="utf-8"))
        written = {name: getattr(made, name) for name in names}
    return {**written, **{key: value for key, value in given.items() if value is not None}}


def _sentences(corpus: str) -> Any:
    if corpus.partition(":")[0] == "builtin":
        return corpus
    return {"reader": detect.guess(corpus), "path": corpus}


def listed(names: str | None) -> tuple[str, ...] | None:
    """Names that stand between commas; None where nothing was said."""
    if names is None:
        return None
    return tuple(each.strip() for each in names.split(",") if each.strip())


def step_of(model: str) -> int:
    """The step at which the Trainer saved a checkpoint; 0 where it does not say."""
    file = Path(model) / "trainer_state.json"
    if not file.is_file():
        return 0
    return int(json.loads(file.read_text(encoding="utf-8")).get("global_step", 0))


def reports_of(path: str | Path) -> list[AlignmentReport]:
    """The reports of a run; what can not be read is named on stderr and left out."""
    reports, skipped = read_record(path)
    for words in skipped:
        typer.echo(f"neuronxa: {words}", err=True)
    return reports


def report_of(text: str, metric: str | None = None) -> AlignmentReport:
    """The report that ``path``, ``path@step``, ``path@first`` or ``path@best`` stands for.

    Args:
        text: What stands on the command line.
        metric: By which the best is meant; None for the first one of the run.

    Raises:
        ConfigError: If there is none.
    """
    path, _, which = (text, "", "") if Path(text).exists() else text.rpartition("@")
    path = path or text
    reports = reports_of(path)
    if not reports:
        raise ConfigError(f"a run must have at least one report, {path} has none")
    if which == "best":
        return _best(reports, path, metric or next(iter(reports[0].metrics)))
    named = {"": reports[-1], "last": reports[-1], "first": reports[0]}
    found = named.get(which) or next((each for each in reports if str(each.step) == which), None)
    if found is None:
        steps = ", ".join(str(each.step) for each in reports)
        raise ConfigError(f"{path} must have a report at {which!r}, it has: {steps}")
    return found


def _best(reports: Sequence[AlignmentReport], path: str, metric: str) -> AlignmentReport:
    """The highest score, the earliest of equals; a NaN is no score."""
    having = [each for each in reports if metric in each.metrics]
    if not having:
        raise ConfigError(unknown("metric", metric, reports[0].metrics))
    known = [each for each in having if not math.isnan(each.score(metric))]
    if not known:
        raise ConfigError(f"the best of {path} needs a report whose {metric} is known, all are NaN")
    return max(known, key=lambda each: each.score(metric))


def require_parent(out: Path) -> None:
    """Refuse a file without a folder, before anything is computed for it.

    Raises:
        ConfigError: If its folder does not exist.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"the folder of --out must exist, there is no {str(out.parent)!r}")


def named(runs: Sequence[str]) -> dict[str, str]:
    """Runs by the shortest names that tell them apart."""
    paths = [Path(run).resolve() for run in runs]
    for depth in range(1, max(len(each.parts) for each in paths) + 1):
        names = ["/".join(each.parts[-depth:]) for each in paths]
        if len({*names}) == len(names):
            break
    return dict(zip(names, runs, strict=True))


def curve_of(run: str, faults: list[str]) -> list[AlignmentReport]:
    """The reports of a run, which must be one curve."""
    reports, skipped = read_record(run)
    faults += skipped
    for each in reports[1:]:
        check_same_fingerprint(reports[0].fingerprint, each.fingerprint, ("definition", "model"))
    return reports
