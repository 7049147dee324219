"""The door from the Trainer: when to probe, and what to do with a report.

``trainer = Trainer(..., callbacks=[NeuronXACallback()])`` is all that a script needs.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.errors import (
    BrokenForwardError,
    ConfigError,
    NeuronXAError,
    ProbeMemoryError,
    unknown,
)
from neuronxa_callback.history.history import FOLDER, RECORD, History
from neuronxa_callback.history.schedule import ProbeSchedule
from neuronxa_callback.history.stopping import StopRule
from neuronxa_callback.probe.distributed import broadcast_from_rank0, world_of
from neuronxa_callback.probe.forward import device_of
from neuronxa_callback.probe.probe import Probe
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import terminal
from neuronxa_callback.show.sinks import JsonlSink, Sink, sinks_for

log = logging.getLogger(__name__)

STATE = "neuronxa_state"
"""Where a run's memory stands in ``state.stateful_callbacks``. Not the name of a class: the Trainer
would try to make the callback anew from it."""
LEAST_TOKENS = 32
"""Tokens of a forward below which a first probe is not tried again."""


class NeuronXACallback(TrainerCallback):
    """Measures cross-lingual alignment while a ``Trainer`` trains.

    Each report goes to ``state.log_history``, to ``output_dir/neuronxa/reports.jsonl``, to the
    trackers, and as ``eval_<metric>`` and ``eval_<metric>_<language>`` into the metrics of every
    evaluation (NaN where a probe failed), for ``metric_for_best_model="eval_nasca"`` and for an
    ``EarlyStoppingCallback`` that stands after this callback. Training is not changed by one bit.

    Args:
        config: What is measured: a ``ProbeConfig``, a path to its TOML file, a ``ParallelCorpus``,
            or None for the sentences that come with the package.
        every: None probes at first, at each evaluation (every 500 steps where the run never
            evaluates) and at the last step; N adds every N-th step.
        sinks: None writes to the trackers of ``report_to``; a sequence of objects with
            ``write(report)`` replaces them. The JSONL file is always written.
        stop: One or several ``StopRule``; None never stops a run.
        tokenizer: None takes the Trainer's ``processing_class``.
        on_error: ``"warn"`` survives a failed probe, ``"raise"`` does not. The first probe of a
            process always raises, before GPU hours are spent.
        max_overhead: Share of training time that probes between evaluations may take, such as
            0.01; the interval is chosen once, from the first probe and the first steps.

    Raises:
        ConfigError: If an option cannot be used.
    """

    def __init__(
        self,
        config: ProbeConfig | ParallelCorpus | str | Path | None = None,
        *,
        every: int | None = None,
        sinks: Sequence[Sink] | None = None,
        stop: StopRule | Iterable[StopRule] | None = None,
        tokenizer: Any = None,
        on_error: str = "warn",
        max_overhead: float | None = None,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise ConfigError(unknown("on_error", on_error, ("warn", "raise")))
        self.config = _config(config)
        self.tokenizer, self.on_error = tokenizer, on_error
        self.pace = ProbeSchedule(every, max_overhead)
        self.stop = () if stop is None else (stop,) if isinstance(stop, StopRule) else tuple(stop)
        self.history = History()
        self._given_sinks = None if sinks is None else tuple(sinks)
        self._probe: Probe | None = None
        self._proved = False
        self._training = False
        self._reset()

    def _reset(self) -> None:
        self._sinks: tuple[Sink, ...] = ()
        self._batch_tokens: int | None = None
        self._tried: int | None = None
        self._report: AlignmentReport | None = None
        self._filled: int | None = None
        self._stopped: str | None = None
        self._warned: dict[str, int] = {}

    # When to probe

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first probe, before the first step; or what a resumed run remembers."""
        self._reset()
        self._training = True
        resumed = state.global_step > 0
        self._remember(_kept(state).get(STATE) if resumed else None)
        if resumed and not self._proved:
            self._prove(state.global_step, **kwargs)
        # Not before: a resume that is refused leaves the record as it is.
        if state.is_world_process_zero:
            self._open(args, state, resumed)
        if not resumed:
            self._due(args, state, control, **kwargs)
        if self._stopped is not None and self.stop:
            control.should_training_stop = True
            if state.is_world_process_zero:
                terminal.say(f"NeuronXA: this run had been stopped: {self._stopped}")
        self.pace.resume()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A probe where the step is due, before an evaluation of the same step."""
        self._tell_share(state, kwargs["model"])
        last = state.global_step >= state.max_steps or control.should_training_stop
        due = self.pace.due(state.global_step, evaluates=_evaluates(args))
        if last or control.should_evaluate or due:
            self._due(args, state, control, **kwargs)
        self.pace.resume()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A probe before the evaluation of an epoch, while the weights are those of training."""
        if control.should_evaluate:
            self._due(args, state, control, **kwargs)
        self.pace.resume()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Scores into the metrics of the evaluation, in the first one of a step only.

        Where a run has several evaluation sets, each call that carries the metric would count
        for HF's early stopping.
        """
        metrics = kwargs.pop("metrics", None)
        if self._training:
            self._due(args, state, control, **kwargs)
            self.pace.resume()
            report = self._report if self._tried == state.global_step else None
            if self._filled == state.global_step:
                return
            self._filled = state.global_step
        else:
            report = self._alone(state, **kwargs)
        if state.best_metric is not None and math.isnan(state.best_metric):
            # NaN would stay the best for ever: nothing is greater.
            state.best_metric = None
        if metrics is not None:
            metrics.update(self._for_evaluation(report))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A table of the last report; trackers get what they get at the end."""
        self._training = False
        if state.is_world_process_zero:
            if self._report is not None:
                terminal.show(terminal.table(self._report))
            for sink in self._sinks:
                self._guarded(sink, getattr(sink, "close", lambda: None))

    # What a probe is

    def _due(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One probe per step, recorded."""
        if self._tried == state.global_step:
            return
        self._tried, self._report = state.global_step, None
        report = self._measure(state.global_step, **kwargs)
        if report is None:
            self._keep(state)
            return
        # The loss of this step is logged after its probe: what is known is that of an earlier one.
        logged = next((row for row in reversed(state.log_history) if "loss" in row), {})
        told = {"loss": logged.get("loss"), "loss_step": logged.get("step"), "epoch": state.epoch}
        report.run.update(told)  # type: ignore[attr-defined]
        try:
            self.history.append(report)
        except NeuronXAError as error:
            self._failed(error)
            return
        self._report = report
        self._record(report, state)
        self._decide(report, state, control, kwargs["model"])
        self._keep(state)

    def _measure(self, step: int, **kwargs: Any) -> AlignmentReport | None:
        """A report of the model as it stands; None where the probe failed and that is survived."""
        try:
            if self._probe is None:
                tokenizer = self.tokenizer or kwargs.get("processing_class")
                self._probe = Probe(self.config, tokenizer)
                self._probe.batch_tokens = self._batch_tokens or self._probe.batch_tokens
            report = self._run(self._probe, kwargs["model"], step)
        except BrokenForwardError:
            raise
        except Exception as error:
            self._failed(error)
            return None
        mode = _weights_of(kwargs.get("optimizer"))
        if mode is not None:
            report.fingerprint["model"]["optimizer_weights"] = mode  # type: ignore[index]
        self.pace.probe_seconds = float(report.run["seconds"])
        if not self._proved:
            self._proved = True
            for rule in self.stop:
                rule.check(report)
        return report

    def _run(self, probe: Probe, model: nn.Module, step: int) -> AlignmentReport:
        """Where memory runs out, the first probe tries again at once with half of the tokens."""
        while True:
            try:
                return probe.run(model, step)
            except ProbeMemoryError as error:
                if self._proved or probe.batch_tokens < LEAST_TOKENS:
                    raise
                log.warning("%s", error)

    def _prove(self, step: int, **kwargs: Any) -> None:
        """A resumed run proves that it can be measured, and that its curve can go on."""
        report = self._measure(step, **kwargs)
        before = self.history.fingerprint
        if report is None or before is None:
            return
        # No point of the curve: an optimizer may have put its other weights in until training.
        kept = {k: v for k, v in before["model"].items() if k == "optimizer_weights"}
        report.fingerprint["model"].update(kept)  # type: ignore[attr-defined]
        self.history.refuse(report)

    def _failed(self, error: Exception) -> None:
        if not self._proved or self.on_error == "raise":
            raise error
        words = f"{type(error).__name__}: {error}"
        self._warned[words] = self._warned.get(words, 0) + 1
        if self._warned[words] == 1:
            log.warning(
                "a NeuronXA probe failed, training goes on, the next one tries again: %s", words
            )

    def _alone(self, state: TrainerState, **kwargs: Any) -> AlignmentReport | None:
        """Outside of training: measured and said, but no point of the run's curve."""
        report = self._measure(state.global_step, **kwargs)
        if report is not None and state.is_world_process_zero:
            terminal.say(terminal.line(report))
        return report

    def _record(self, report: AlignmentReport, state: TrainerState) -> None:
        row: dict[str, Any] = dict(report.scalars())
        row |= {"epoch": state.epoch, "step": state.global_step}
        state.log_history.append(row)
        if not state.is_world_process_zero:
            return
        terminal.say(terminal.line(report, self.history))
        for sink in self._sinks:
            self._guarded(sink, partial(sink.write, report))

    def _guarded(self, sink: Sink, act: Callable[[], object]) -> None:
        """A sink that fails warns, once for each cause, and never stops a run."""
        try:
            act()
        except Exception as error:
            words = f"{type(sink).__name__}: {type(error).__name__}: {error}"
            if words not in self._warned:
                log.warning("a sink failed, training goes on: %s", words)
            self._warned[words] = 1

    def _decide(
        self,
        report: AlignmentReport,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
    ) -> None:
        """Collective where there are rules: all ranks do what the first one finds."""
        if not self.stop:
            return
        reasons = [rule.reason(self.history) for rule in self.stop]
        first = next((k for k, reason in enumerate(reasons) if reason is not None), -1)
        chosen = broadcast_from_rank0(world_of(model), first, device_of(model))
        if chosen >= 0:
            self._stopped = reasons[chosen] or "the first rank stops"
            control.should_training_stop = True
            if state.is_world_process_zero:
                terminal.say(f"NeuronXA stops this run at step {report.step}: {self._stopped}")

    def _for_evaluation(self, report: AlignmentReport | None) -> dict[str, float]:
        config = self.config
        languages: Iterable[str] = () if self._probe is None else self._probe.corpus.languages
        found = {}
        for metric in config.metrics:
            found[f"eval_{metric}"] = math.nan if report is None else report.score(metric)
            for language in languages:
                score = math.nan if report is None else report.score(metric, language)
                found[f"eval_{metric}_{language}"] = score
        return found

    # What a run remembers

    def _remember(self, memory: dict[str, Any] | None) -> None:
        memory = memory or {}
        self.history = History.from_state(memory["history"]) if "history" in memory else History()
        self.pace.begin(memory.get("interval"))
        self._stopped = memory.get("stopped")
        self._batch_tokens = memory.get("batch_tokens")
        if self._probe is not None:
            self._probe.batch_tokens = self._batch_tokens or self.config.batch_tokens

    def _keep(self, state: TrainerState) -> None:
        """Into what the next checkpoint holds."""
        _kept(state)[STATE] = {
            "history": self.history.state(),
            "interval": self.pace.interval,
            "stopped": self._stopped,
            "batch_tokens": None if self._probe is None else self._probe.batch_tokens,
        }

    def _open(self, args: TrainingArguments, state: TrainerState, resumed: bool) -> None:
        folder = Path(args.output_dir or ".") / FOLDER
        record = JsonlSink(folder / RECORD)
        begin = partial(record.truncate_after, state.global_step) if resumed else record.rotate
        self._guarded(record, begin)
        last = state.global_step if resumed else None
        others = self._given_sinks
        if others is None:
            others = sinks_for(_trackers(args), folder, last_step=last)
        self._sinks = (record, *others)

    # What a probe costs

    def _tell_share(self, state: TrainerState, model: nn.Module) -> None:
        """After the first steps, say what share of training a probe is, and choose the interval."""
        step_seconds = self.pace.stepped()
        if step_seconds is None:
            return
        least = self.pace.least(step_seconds)
        if least is not None:
            self.pace.interval = broadcast_from_rank0(world_of(model), least, device_of(model))
            self._keep(state)
        if state.is_world_process_zero:
            terminal.say(f"NeuronXA: {self.pace.share(step_seconds)}")


def _config(config: ProbeConfig | ParallelCorpus | str | Path | None) -> ProbeConfig:
    if isinstance(config, ProbeConfig):
        return config
    if isinstance(config, ParallelCorpus):
        return ProbeConfig(corpus=config, n_pairs=min(100, config.n_pairs))
    if isinstance(config, str | Path):
        return ProbeConfig.from_toml(config)
    if config is None:
        return ProbeConfig()
    raise ConfigError(
        "config must be a ProbeConfig, a path to a TOML file, a ParallelCorpus or None, got"
        f" {type(config).__name__}"
    )


def _evaluates(args: TrainingArguments) -> bool:
    return str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"


def _trackers(args: TrainingArguments) -> list[str]:
    chosen = args.report_to or []
    return [chosen] if isinstance(chosen, str) else list(chosen)


def _kept(state: TrainerState) -> dict[str, Any]:
    found: Any = state.stateful_callbacks
    return cast("dict[str, Any]", found)


def _weights_of(optimizer: Any) -> str | None:
    """Which weights a schedule-free optimizer has put into the model; None for all others."""
    groups = getattr(optimizer, "param_groups", None) or [{}]
    mode = groups[0].get("train_mode")
    if mode is None:
        return None
    # Before its first step both are the same.
    return "training" if mode or not optimizer.state else "evaluation"
