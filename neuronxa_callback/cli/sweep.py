"""The checkpoints of a run, measured as the run measured itself, one after the other."""

import gc
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from neuronxa_callback.cli import load_model, options, taps
from neuronxa_callback.cli.run_record import RunRecord
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import ConfigError, FingerprintError, NeuronXAError
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.records import FOLDER
from neuronxa_callback.probe import fingerprint
from neuronxa_callback.probe.probe import Probe, ProgressCallback
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.sinks import JsonlSink

NUMBER = re.compile(r"(\d+)\D*$")
NOTED = "swept"
"""Where a report's ``run`` says which weights a sweep measured, and how they were loaded."""


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of a model."""

    step: int
    place: str
    revision: str | None = None

    @property
    def weights(self) -> str:
        """What tells its weights from others of the same step: names, sizes, times of files."""
        if self.revision is not None:
            return f"{self.place}@{self.revision}"
        files = sorted(file for each in load_model.WEIGHTS for file in Path(self.place).glob(each))
        seen = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files]
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def checkpoints(run: str, revisions: Sequence[str] = ()) -> list[Checkpoint]:
    """What there is to measure, by step.

    Args:
        run: A folder with ``checkpoint-<step>`` folders, or a name on the hub.
        revisions: Of a name on the hub: revisions whose last number is the step.

    Raises:
        ConfigError: If there is none, or a revision has no number or that of another.
    """
    if revisions:
        named = {each.step: each for each in (_revision(run, name) for name in revisions)}
        if len(named) < len(revisions):
            raise ConfigError(f"revisions must differ in their steps, got {', '.join(revisions)}")
        return [named[step] for step in sorted(named)]
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


def record_of(run: str) -> Path:
    """The file of reports that a sweep keeps where no other is asked for."""
    if Path(run).is_dir():
        return Path(run) / FOLDER / "sweep.jsonl"
    return Path(f"{run.replace('/', '--')}.sweep.jsonl")


def _revision(name: str, revision: str) -> Checkpoint:
    number = NUMBER.search(revision)
    if number is None:
        raise ConfigError(f"a revision must end in its step, such as step1000, got {revision!r}")
    return Checkpoint(int(number.group(1)), name, revision)


class Sweep:
    """Measures checkpoints, and keeps what it has in a file from which it goes on.

    Args:
        run: As for ``checkpoints``.
        found: What is measured.
        asked: Options of ``ProbeConfig``; the others are those of the run's own record, or the
            defaults.
        how: How models are loaded; what it leaves open is that of the record, too.
        record: The JSONL file that takes the reports.
    """

    def __init__(
        self,
        run: str,
        found: Sequence[Checkpoint],
        asked: Mapping[str, Any],
        how: load_model.LoadOptions,
        record: Path,
    ) -> None:
        self.run, self.found, self.asked, self.record = run, list(found), asked, record
        self.recorded = RunRecord.of(run)
        self.how = self.recorded.how(how) if self.recorded else how
        self.config = self.recorded.config(asked) if self.recorded else ProbeConfig(**asked)
        # A dtype that was asked for is the one to compute in.
        own = how.dtype != load_model.LoadOptions().dtype
        self.autocast = self.recorded.autocast if self.recorded and not own else None
        self.done = self._done()

    def reports(
        self, progress: ProgressCallback | None = None
    ) -> Iterator[tuple[AlignmentReport, bool]]:
        """Each checkpoint's report, and whether it was measured now.

        Raises:
            FingerprintError: If the file holds, or the run measured, something else.
        """
        probe = self._probe()
        self._refuse_others(probe)
        sink = JsonlSink(self.record)
        for each in self.found:
            known = self.done.get(each.step)
            if known is None:
                report = self._measure(probe, each, progress)
                self._refuse_mixing(report.fingerprint, ("definition", "model"))
                sink.write(report)
                self.done[each.step] = report
            yield self.done[each.step], known is None

    def _done(self) -> dict[int, AlignmentReport]:
        """What the file holds, but for checkpoints that have other weights by now."""
        if not self.record.is_file():
            return {}
        weights = {each.step: each.weights for each in self.found}
        return {
            report.step: report
            for report in options.reports_of(self.record)
            if weights.get(report.step) in (None, _noted(report).get("weights"))
        }

    def _probe(self) -> Probe:
        first = self.found[0]
        how = self._how(first)
        load_model.refuse_absent(first.place, how)
        made = Probe(self.config, load_model.tokenizer_of(first.place, how, self.run))
        if self.recorded is not None and "batch_tokens" not in self.asked:
            made.batch_tokens = self.recorded.batch_tokens
        return made

    def _refuse_others(self, probe: Probe) -> None:
        """Refuse, before anything is said or measured, what answers another question."""
        same = self.recorded is not None and not self.asked
        if not self.done and not same:
            return
        now = {"definition": self._definition(probe)}
        self._refuse_mixing(now, ("definition",))
        if self.recorded is not None and same:
            check_same_fingerprint(self.recorded.report.fingerprint, now, ("definition",))
        for report in self.done.values():
            self._refuse_other_loading(report, probe.tokenizer_digest)

    def _definition(self, probe: Probe) -> dict[str, Any]:
        first = self.found[0]
        how = self._how(first)
        try:
            # Enough to know which sentences are too long.
            model = taps.build_on_meta(load_model.base_of_adapters(first.place) or first.place, how)
        except NeuronXAError:
            model = load_model.load(first.place, how)
        sentences, _ = probe.tokenize(model)
        return fingerprint.definition(self.config, probe.corpus, sentences)

    def _refuse_mixing(self, now: Mapping[str, Any], parts: Sequence[str]) -> None:
        for known in self.done.values():
            with self._elsewhere():
                check_same_fingerprint(_telling(known.fingerprint), now, parts)

    def _refuse_other_loading(self, report: AlignmentReport, tokenizer: str) -> None:
        model, asked = report.fingerprint["model"], self._loading()
        noted = {**asked, **_noted(report)}
        found = {**noted, "dtype": model["weights"], "attention": model["attention"]}
        before = {key: found[key] for key in asked} | {"tokenizer": model["tokenizer"]}
        # As asked before, or by the name of what that came to.
        now = {key: before[key] if asked[key] == noted[key] else asked[key] for key in asked}
        now["tokenizer"] = tokenizer
        with self._elsewhere():
            check_same_fingerprint({"model": before}, {"model": now}, ("model",))

    @contextmanager
    def _elsewhere(self) -> Iterator[None]:
        try:
            yield
        except FingerprintError as cause:
            raise FingerprintError(f"{cause}; name another file than {self.record}") from None

    def _measure(
        self, probe: Probe, each: Checkpoint, progress: ProgressCallback | None
    ) -> AlignmentReport:
        noted = {"weights": each.weights, **self._loading()}
        model = load_model.load(each.place, self._how(each))
        cast = None if self.autocast is None else torch.autocast(_device(model), self.autocast)
        with cast or nullcontext():
            report = probe.run(model, each.step, progress)
        del model
        gc.collect()
        return replace(report, run={**report.run, NOTED: noted})

    def _how(self, each: Checkpoint) -> load_model.LoadOptions:
        return replace(self.how, revision=each.revision or self.how.revision)

    def _loading(self) -> dict[str, str | None]:
        wide = None if self.autocast is None else str(self.autocast).removeprefix("torch.")
        return {"dtype": self.how.dtype, "attention": self.how.attention, "autocast": wide}


def _telling(known: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The digest last: of all that differs it says least."""
    return {
        part: dict(sorted(each.items(), key=lambda pair: pair[0] == "digest"))
        for part, each in known.items()
    }


def _noted(report: AlignmentReport) -> Mapping[str, Any]:
    found: Mapping[str, Any] = report.run.get(NOTED, {})
    return found


def _device(model: torch.nn.Module) -> str:
    return next(model.parameters()).device.type
