"""What words of the command line stand for: options, reports, runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus import sources
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.follow import history
from neuronxa_callback.measure.config import ProbeConfig
from neuronxa_callback.measure.report import AlignmentReport


def config_of(
    corpus: str | None,
    file: Path | None,
    languages: str | None,
    n_pairs: int | None,
    metrics: str | None,
) -> ProbeConfig:
    """The options of a file, with those of the command line before them."""
    made = ProbeConfig() if file is None else ProbeConfig.from_toml(file)
    given: dict[str, Any] = {
        "corpus": None if corpus is None else _sentences(corpus),
        "languages": listed(languages),
        "n_pairs": n_pairs,
        "metrics": listed(metrics),
    }
    return replace(made, **{key: value for key, value in given.items() if value is not None})


def _sentences(corpus: str) -> Any:
    if corpus.partition(":")[0] == "builtin":
        return corpus
    return {"reader": sources.guess(corpus), "path": corpus}


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


def report_of(text: str) -> AlignmentReport:
    """The report that ``path``, ``path@step``, ``path@first`` or ``path@best`` stands for."""
    path, _, which = (text, "", "") if Path(text).exists() else text.rpartition("@")
    reports = history.read(path or text)
    if not reports:
        raise ConfigError(f"a run must have at least one report, {path or text} has none")
    metric = next(iter(reports[0].metrics))
    if which in ("", "last"):
        return reports[-1]
    if which == "first":
        return reports[0]
    if which == "best":
        return max(reports, key=lambda each: (each.score(metric), -each.step))
    found = [each for each in reports if str(each.step) == which]
    if not found:
        steps = ", ".join(str(each.step) for each in reports)
        raise ConfigError(f"{path} must have a report at {which!r}, it has: {steps}")
    return found[0]


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
    reports = history.read(run, faults)
    for each in reports[1:]:
        history.refuse_mixing(reports[0].fingerprint, each.fingerprint, ("definition", "model"))
    return reports
