"""The checkpoints of a run, measured as the run measured itself, one after the other."""

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from neuronxa_callback.cli import models
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.follow import history
from neuronxa_callback.measure.config import ProbeConfig
from neuronxa_callback.measure.metrics import DIAGNOSTICS
from neuronxa_callback.measure.probe import Probe, Progress
from neuronxa_callback.measure.report import AlignmentReport
from neuronxa_callback.show.sinks import JsonlSink

NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of a model."""

    step: int
    place: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.revision or Path(self.place).name


def checkpoints(run: str, revisions: Sequence[str] = ()) -> list[Checkpoint]:
    """What there is to measure, by step.

    Args:
        run: A folder with ``checkpoint-<step>`` folders, or a name on the hub.
        revisions: Of a name on the hub: revisions whose last number is the step.

    Raises:
        ConfigError: If there is none, or a revision has no number.
    """
    if revisions:
        return sorted((_revision(run, each) for each in revisions), key=lambda each: each.step)
    folder = Path(run)
    found = [
        Checkpoint(int(each.name.removeprefix("checkpoint-")), str(each))
        for each in sorted(folder.glob("checkpoint-*"))
        if each.is_dir() and each.name.removeprefix("checkpoint-").isdigit()
    ]
    if not found:
        what = "holds none" if folder.is_dir() else "is no folder"
        raise ConfigError(
            f"a run must be a folder that holds checkpoint-<step> folders, {run!r} {what};"
            " for one model use `neuronxa score`, for the hub --revisions"
        )
    return sorted(found, key=lambda each: each.step)


def _revision(name: str, revision: str) -> Checkpoint:
    number = NUMBER.search(revision)
    if number is None:
        raise ConfigError(f"a revision must end in its step, such as step1000, got {revision!r}")
    return Checkpoint(int(number.group(1)), name, revision)


@dataclass(frozen=True)
class Recorded:
    """What a run's record says of how it measured itself."""

    report: AlignmentReport

    @classmethod
    def of(cls, run: str) -> "Recorded | None":
        """The last report of a run; None where it kept none."""
        try:
            reports = history.read(run)
        except ConfigError:
            return None
        return cls(reports[-1]) if reports else None

    def config(self) -> ProbeConfig:
        """The same measurement again.

        Raises:
            ConfigError: If the run's sentences, or a function of its own, cannot be known.
        """
        definition = self.report.fingerprint["definition"]
        corpus, _, _ = str(definition["corpus"]).partition("@")
        if corpus.partition(":")[0] != "builtin":
            raise ConfigError(
                f"this run measured the sentences {corpus!r}, which are not built in;"
                " name them with --config or --corpus"
            )
        known = {each.name for each in fields(ProbeConfig)}
        same = {key: value for key, value in definition.items() if key in known}
        same |= {
            "corpus": corpus,
            "metrics": tuple(definition["metrics"]),
            "diagnostics": _diagnostics(self.report),
        }
        return ProbeConfig(**same)

    def how(self, how: models.How) -> models.How:
        """As the run held its weights, where nothing else was asked for."""
        model = self.report.fingerprint["model"]
        asked = models.How()
        return replace(
            how,
            dtype=model["weights"] if how.dtype == asked.dtype else how.dtype,
            attention=how.attention or model["attention"],
        )

    @property
    def autocast(self) -> torch.dtype | None:
        """In what the neurons computed where that was not the dtype of the weights."""
        model = self.report.fingerprint["model"]
        if model["states"] == model["weights"]:
            return None
        found = getattr(torch, str(model["states"]), None)
        return found if isinstance(found, torch.dtype) else None

    @property
    def batch_tokens(self) -> int:
        """How many tokens it ran at a time."""
        return int(self.report.fingerprint["environment"]["batch_tokens"])


def _diagnostics(report: AlignmentReport) -> tuple[str, ...]:
    return tuple(name for name in DIAGNOSTICS if name in report.diagnostics)


class Sweep:
    """Measures checkpoints, and keeps what it has in a file from which it goes on.

    Args:
        run: As for ``checkpoints``.
        found: What is measured.
        config: How; None for what the run's own record says, or the defaults.
        how: How models are loaded.
        record: The JSONL file that takes the reports.
    """

    def __init__(
        self,
        run: str,
        found: Sequence[Checkpoint],
        config: ProbeConfig | None,
        how: models.How,
        record: Path,
    ) -> None:
        self.run, self.found, self.record = run, list(found), record
        self.recorded = Recorded.of(run) if config is None else None
        self.how = self.recorded.how(how) if self.recorded else how
        self.config = config or (self.recorded.config() if self.recorded else ProbeConfig())
        self.probe: Probe | None = None
        self.done = self._done()

    def _done(self) -> dict[int, AlignmentReport]:
        if not self.record.is_file():
            return {}
        return {report.step: report for report in history.read(self.record)}

    def reports(self, progress: Progress | None = None) -> Iterator[tuple[AlignmentReport, bool]]:
        """Each checkpoint's report, and whether it was measured now.

        Raises:
            FingerprintError: If the file holds, or the run measured, something else.
        """
        sink = JsonlSink(self.record)
        for each in self.found:
            if each.step in self.done:
                yield self.done[each.step], False
                continue
            report = self._measure(each, progress)
            for known in [*self.done.values()][:1]:
                history.refuse_mixing(known.fingerprint, report.fingerprint, ("definition",))
            sink.write(report)
            self.done[each.step] = report
            yield report, True

    def _measure(self, each: Checkpoint, progress: Progress | None) -> AlignmentReport:
        how = replace(self.how, revision=each.revision or self.how.revision)
        if self.probe is None:
            self.probe = Probe(self.config, models.tokenizer_of(each.place, how, self.run))
            if self.recorded is not None:
                self.probe.batch_tokens = self.recorded.batch_tokens
        model = models.load(each.place, how)
        wide = None if self.recorded is None else self.recorded.autocast
        cast = nullcontext() if wide is None else torch.autocast(_device(model), dtype=wide)
        with cast:
            report = self.probe.run(model, each.step, progress)
        if self.recorded is not None:
            same: Mapping[str, Any] = self.recorded.report.fingerprint
            history.refuse_mixing(same, report.fingerprint, ("definition",))
        del model
        gc.collect()
        return report


def _device(model: torch.nn.Module) -> str:
    return next(model.parameters()).device.type
