"""``neuronxa sweep``: measure the checkpoints of a run as the run measured itself."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from neuronxa_callback.cli.checkpoints.folders import Checkpoint
from neuronxa_callback.cli.load_model import (
    BaseModels,
    LoadOptions,
    load_model,
    load_tokenizer,
    require_model,
)
from neuronxa_callback.cli.loading.adapters import adapter_base
from neuronxa_callback.cli.loading.meta_model import build_on_meta
from neuronxa_callback.cli.run_record import RunRecord, read_and_warn
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import FingerprintError, NeuronXAError
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.records import FOLDER, SWEEP, SWEPT
from neuronxa_callback.probe import fingerprint
from neuronxa_callback.probe.probe import Probe, ProgressCallback
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.jsonl import JsonlSink


def default_record(run: str) -> Path:
    """The JSONL file that a sweep writes without ``--out``."""
    if Path(run).is_dir():
        return Path(run) / FOLDER / SWEEP
    return Path(f"{run.replace('/', '--')}.sweep.jsonl")


class Sweep:
    """Measures checkpoints and writes each report to a file; it resumes from that file.

    Args:
        run: A folder or a name on the hub, as for ``find_checkpoints``.
        checkpoints: The checkpoints to measure.
        overrides: Options of ``ProbeConfig``. The others are those of the run's own record; if
            there is none, the defaults.
        load_options: How models are loaded; dtype and attention default to those of the record.
        record: The JSONL file of the reports.

    Raises:
        ConfigError: If an option cannot be used, or the run's own record is not sufficient.
    """

    def __init__(
        self,
        run: str,
        checkpoints: Sequence[Checkpoint],
        overrides: Mapping[str, Any],
        load_options: LoadOptions,
        record: Path,
    ) -> None:
        self.run, self.checkpoints = run, list(checkpoints)
        self.overrides, self.load_options, self.record = overrides, load_options, record
        self.config, self.autocast = ProbeConfig(), None
        self.recorded = RunRecord.read(run)
        if self.recorded is None:
            self.config = ProbeConfig(**overrides)
        else:
            self.config = self.recorded.config(overrides)
            self.load_options = self.recorded.load_options(load_options)
            # With --dtype, the model computes in that dtype.
            self.autocast = self.recorded.autocast if load_options.dtype == "auto" else None
        self.measured = self._read_measured()
        self._bases: BaseModels = {}

    def reports(
        self, progress: ProgressCallback | None = None
    ) -> Iterator[tuple[AlignmentReport, bool]]:
        """Measure the checkpoints that the file lacks.

        Yields:
            The report of each checkpoint, and whether it is new.

        Raises:
            ConfigError: If a checkpoint or its tokenizer cannot be loaded.
            FingerprintError: If the reports of the file or of the run do not measure the same.
        """
        probe = self.prepare()
        for checkpoint in self.checkpoints:
            is_new = checkpoint.step not in self.measured
            if is_new:
                self.write(self.measure(probe, checkpoint, progress))
            yield self.measured[checkpoint.step], is_new

    def prepare(self) -> Probe:
        """The probe of all checkpoints.

        Raises:
            ConfigError: If the first checkpoint or its tokenizer cannot be loaded.
            FingerprintError: If the reports of the file or of the run do not measure the same.
        """
        first = self.checkpoints[0]
        load_options = self._load_options_of(first)
        require_model(first.location, load_options)
        probe = Probe(self.config, load_tokenizer(first.location, load_options, self.run))
        if self.recorded is not None:
            probe.neurons.bar = self.recorded.firing_bar
        self._require_same_measurement(probe)
        return probe

    def write(self, report: AlignmentReport) -> None:
        """Append a report to the file."""
        JsonlSink(self.record).write(report)
        self.measured[report.step] = report

    def _read_measured(self) -> dict[int, AlignmentReport]:
        """Step -> report of the file, without checkpoints whose weights changed since."""
        if not self.record.is_file():
            return {}
        weights = {checkpoint.step: checkpoint.weights_id for checkpoint in self.checkpoints}
        return {
            report.step: report
            for report in read_and_warn(self.record)
            if weights.get(report.step) in (None, swept_weights(report))
        }

    def _require_same_measurement(self, probe: Probe) -> None:
        """Compare definition and loading with known reports before anything is measured."""
        repeats_run = self.recorded is not None and not self.overrides
        if not self.measured and not repeats_run:
            return
        planned = {"definition": self._definition(probe)}
        self._require_same(planned, ("definition",))
        if self.recorded is not None and repeats_run:
            check_same_fingerprint(self.recorded.report.fingerprint, planned, ("definition",))
        for report in self.measured.values():
            self._require_same_loading(report, probe.tokenizer.digest())

    def _definition(self, probe: Probe) -> dict[str, Any]:
        first = self.checkpoints[0]
        load_options = self._load_options_of(first)
        try:
            # Its configuration is enough to know the longest sentence that it takes.
            model = build_on_meta(adapter_base(first.location) or first.location, load_options)
        except NeuronXAError:
            model = load_model(first.location, load_options)
        sentences, _ = probe.tokenize(model)
        return fingerprint.definition(self.config, probe.corpus, sentences, probe.tokenizer.chat)

    def _require_same(self, planned: Mapping[str, Any], parts: Sequence[str]) -> None:
        for report in self.measured.values():
            with self._suggest_other_file():
                check_same_fingerprint(_digest_last(report.fingerprint), planned, parts)

    def _require_same_loading(self, report: AlignmentReport, tokenizer_digest: str) -> None:
        model, requested = report.fingerprint["model"], self._loading()
        before = {**requested, **_swept(report)}
        actual = {**before, "dtype": model["weights"], "attention": model["attention"]}
        recorded = {key: actual[key] for key in requested} | {"tokenizer": model["tokenizer"]}
        # The same request, such as dtype `auto`, gives the same actual value.
        planned = {
            key: recorded[key] if requested[key] == before[key] else requested[key]
            for key in requested
        } | {"tokenizer": tokenizer_digest}
        with self._suggest_other_file():
            check_same_fingerprint({"model": recorded}, {"model": planned}, ("model",))

    @contextmanager
    def _suggest_other_file(self) -> Iterator[None]:
        try:
            yield
        except FingerprintError as cause:
            raise FingerprintError(
                f"{cause}; write to another file than {self.record} with --out"
            ) from None

    def measure(
        self, probe: Probe, checkpoint: Checkpoint, progress: ProgressCallback | None = None
    ) -> AlignmentReport:
        """The report of a checkpoint, which is not written yet.

        Raises:
            ConfigError: If the checkpoint cannot be loaded.
            FingerprintError: If it does not measure the same as the reports of the file.
        """
        swept = {"weights": checkpoint.weights_id, **self._loading()}
        model = load_model(checkpoint.location, self._load_options_of(checkpoint), self._bases)
        device = next(model.parameters()).device.type
        autocast = None if self.autocast is None else torch.autocast(device, self.autocast)
        with autocast or nullcontext():
            report = probe.run(model, checkpoint.step, progress)
        # Else the memory of two models is in use while the next one is loaded.
        del model
        gc.collect()
        self._require_same(report.fingerprint, ("definition", "model"))
        return report.with_run(**{SWEPT: swept})

    def _load_options_of(self, checkpoint: Checkpoint) -> LoadOptions:
        revision = checkpoint.revision or self.load_options.revision
        return replace(self.load_options, revision=revision)

    def _loading(self) -> dict[str, str | None]:
        """How checkpoints are loaded, as far as scores depend on it."""
        autocast = None if self.autocast is None else str(self.autocast).removeprefix("torch.")
        return {
            "dtype": self.load_options.dtype,
            "attention": self.load_options.attention,
            "autocast": autocast,
        }


def _digest_last(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A fingerprint whose corpus digest comes last: any other difference explains more."""
    return {
        part: dict(sorted(entries.items(), key=lambda entry: entry[0] == "digest"))
        for part, entries in parts.items()
    }


def _swept(report: AlignmentReport) -> Mapping[str, Any]:
    entry: Mapping[str, Any] = report.run.get(SWEPT, {})
    return entry


def swept_weights(report: AlignmentReport) -> str | None:
    """The ``Checkpoint.weights_id`` that a report of a sweep measured."""
    return _swept(report).get("weights")
