"""The Trainer callback: when to probe, what to do with a report, what a resume needs."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neuronxa_callback import trainer_events
from neuronxa_callback.config import ProbeConfig, as_probe_config
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.history.history import History
from neuronxa_callback.history.resume_state import ResumeState
from neuronxa_callback.history.rule_events import RuleOutcome, apply_rules, as_rules, can_stop
from neuronxa_callback.history.schedule import ProbeSchedule
from neuronxa_callback.history.stopping import StopRule
from neuronxa_callback.probe.distributed import all_ranks
from neuronxa_callback.probe.forward import ForwardFunction
from neuronxa_callback.probe.probe import Probe
from neuronxa_callback.probe.synchronization import synchronized
from neuronxa_callback.probe.training_probe import TrainingProbe
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import probe_line
from neuronxa_callback.show.probe_screen import ProbeScreen
from neuronxa_callback.show.scalar_choice import DEFAULT, check_scalars
from neuronxa_callback.show.sink_group import SinkGroup, check_name, check_sinks
from neuronxa_callback.show.sinks import Sink
from neuronxa_callback.trainer_card import check_model_card, finish_card
from neuronxa_callback.trainer_trackers import open_sinks


class NeuronXACallback(TrainerCallback):
    """Measures cross-lingual alignment while a ``Trainer`` trains.

    Each report goes to ``state.log_history``, to ``output_dir/neuronxa/reports.jsonl`` and to the
    trackers. Every evaluation gets ``eval_<metric>`` and ``eval_<metric>_<language>`` (NaN if the
    probe failed), for ``metric_for_best_model="eval_nasca"`` and for an ``EarlyStoppingCallback``
    that comes after this callback. Training is bit-identical with and without the callback.

    Args:
        config: What is measured: a ``ProbeConfig``, a path to its TOML file, a ``ParallelCorpus``,
            or None for the built-in corpus.
        every: N probes every N steps. None probes at every evaluation, or every 500 steps if the
            run has none. The first and the last step are always probed.
        sinks: Objects with ``write(report)`` that replace the trackers of ``report_to``.
        stop: One or several ``StopRule``, each to stop the run or to alert; None for none.
        tokenizer: None uses the Trainer's ``processing_class``.
        on_error: ``"warn"`` continues after a failed probe, ``"raise"`` does not. The first probe
            of a run always raises, before GPU hours are spent.
        max_overhead: The share of training time that probes between evaluations may take, such as
            0.01. The interval is chosen once, from the first probe and the first steps.
        name: Needed for a second callback in the same Trainer: part of its keys
            (``neuronxa/<name>/...``, ``eval_<name>_nasca``), its record and its saved state.
        forward: A function of the model and a batch that runs the model, as for ``Probe``.
        scalars: Trackers get ``"mean"`` (mean and bands of layers), ``"languages"`` (also each
            language), or ``"all"`` (also the ends of intervals, hidden in W&B otherwise).
        model_card: Whether the scores of the weights that training ends with are put on the model
            card, ``output_dir/README.md``; ``push_to_hub`` takes them along.

    Raises:
        ConfigError: If an option cannot be used.

    Example:
        >>> callback = NeuronXACallback(every=500, stop=StopRule.collapse(drop=0.1))
        >>> callback.config.metrics
        ('nasca', 'navca')
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
        name: str = "",
        forward: ForwardFunction | None = None,
        scalars: str = DEFAULT,
        model_card: bool = False,
    ) -> None:
        self.config, self.forward = as_probe_config(config), forward
        self.name, self.scalars = check_name(name), check_scalars(scalars)
        self.schedule = ProbeSchedule(every, max_overhead)
        self.stop, self.model_card = as_rules(stop), check_model_card(model_card)
        self.history, self._given_sinks = History(), check_sinks(sinks)
        self._probe = TrainingProbe(self.make_probe, on_error, tokenizer)
        self._training = False
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the options: a used callback travels without its run and its caches."""
        fresh = {"history": History(), "_training": False, "_sinks": SinkGroup(), "_report": None}
        return {**self.__dict__, **fresh}

    def _reset(self) -> None:
        """Forget the previous run."""
        self._sinks = SinkGroup()
        self._report: AlignmentReport | None = None
        self._probed_step: int | None = None
        self._metrics_step: int | None = None
        self._stopped: tuple[str, str] | None = None
        self._outcome = RuleOutcome()
        self._halted, self._screen = False, ProbeScreen()

    def should_probe(self, state: TrainerState, control: TrainerControl) -> bool:
        """Whether to probe after this step: an evaluation, the last step, or one of the interval.

        The start of a run and an evaluation of its loop are always probed. A run that ends early
        is probed at its end: another callback may wait for its checkpoint (SIGTERM).
        """
        if trainer_events.is_stopped_early(state, control):
            return False
        last = state.global_step >= state.max_steps
        return control.should_evaluate or last or self.schedule.includes(state.global_step)

    @synchronized
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe before the first step; a resumed run continues its curve instead."""
        trainer_events.claim_name(state, self.name, self)
        self._reset()
        self._training = True
        self._screen = ProbeScreen(state.is_world_process_zero, not args.disable_tqdm)
        resumed = state.global_step > 0
        saved = self._load_state(args, state)
        steps = [point.step for point in self.history.points]
        options = {"name": self.name, **self.schedule.options, "stop": self.stop, "history": steps}
        self._probe.check_ranks(options)
        if resumed and not self._probe.first_probe_done:
            self._verify_resume(state.global_step, **kwargs)
        self.history = saved.history_for(self.stop, state.global_step, state.is_world_process_zero)
        # After the check: a resume that is refused leaves the record unchanged.
        self._sinks = open_sinks(args, state, self._given_sinks, self.name, self.scalars, saved)
        with self._sinks.released_on_error():
            if not resumed:
                self._probe_once(state, control, **kwargs)
        if self._stopped is not None:
            self._halted = True
            trainer_events.say(state, trainer_events.stopped_before(self._stopped[1]))
        self.schedule.start_step()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the weights of a stopped run unchanged: an optimizer skips missing gradients."""
        if self._halted and not args.fp16:
            kwargs["model"].zero_grad(set_to_none=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe if the step is due, before an evaluation of the same step."""
        self._report_overhead(state)
        self._after_step(state, control, **kwargs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe before the evaluation of an epoch, which may swap in other weights."""
        self._after_step(state, control, **kwargs)

    def _after_step(self, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._halted:
            trainer_events.halt(control)
        elif self.should_probe(state, control):
            self._probe_once(state, control, **kwargs)
        self.schedule.start_step()

    @synchronized
    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the scores to the metrics of the evaluation.

        Of several sets the first carries them: HF's early stopping would count each of them.
        """
        metrics: dict[str, float] | None = kwargs.pop("metrics", None)
        prefix, carries = trainer_events.metric_prefix(metrics or {}), True
        if self._training and trainer_events.is_evaluation_of_training(state, prefix):
            self._probe_once(state, control, **kwargs)
            carries = prefix == "eval" or self._metrics_step != state.global_step
            report, prefix, self._metrics_step = self._report, "eval", state.global_step
        else:
            report = self._run_apart(state, prefix, **kwargs)
        self.schedule.start_step()
        trainer_events.forget_nan_as_best(state)
        if metrics is not None and carries:
            metrics.update(self._probe.evaluation_metrics(report, prefix, self.name))

    @synchronized
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe a run that ended early, print a table of the last report and close the sinks."""
        if not (self._halted or trainer_events.is_best_model_loaded(args, state)):
            self._probe_once(state, control, **kwargs)
        self._training = False
        trainer_events.show_table(state, self._report)
        if self.model_card:
            finish_card(args, state, self._report, self._sinks.record_path, self._sinks.run)
        self._sinks.close()

    def make_probe(self, tokenizer: Any) -> Probe:
        """A probe for a model and tokenizer; a subclass may return another one."""
        return Probe(self.config, tokenizer, forward=self.forward)

    @synchronized
    def _probe_once(self, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Probe, record the report and apply the stop rules; at most once per step."""
        if self._probed_step == state.global_step:
            return
        self._probed_step, self._report = state.global_step, None
        pairs = self.history.next_is_first_of(self.config.language_pairs_every)
        report = self._measure(state.global_step, pivot="all" if pairs else None, **kwargs)
        if report is not None:
            with self._probe.handle_errors():
                entries = trainer_events.run_entries(state) | self.schedule.run_entries
                report = self.history.note_changes(report.with_run(**entries, name=self.name))
                self.history.append(report)
                self._outcome = apply_rules(self.stop, self.history, self._outcome.holding)
                self._report = report = report.with_run(**self._outcome.run_entries)
                trainer_events.log_row(state, report.scalars())
                alerts = self._outcome.alert_lines(report.step)
                trainer_events.say(state, probe_line.line(report, self.history), *alerts)
                self.schedule.time_sinks(partial(self._sinks.write, report))
                # Collective: all ranks follow the decision of rank 0.
                due = int(self._outcome.stop is not None)
                if can_stop(self.stop) and all_ranks().from_first_rank(due):
                    self._stopped = trainer_events.stop(state, control, self._outcome)
        self._save_state(state)

    def _measure(self, step: int, **kwargs: Any) -> AlignmentReport | None:
        """A report of the model; None if the probe failed and training goes on."""
        first = not self._probe.first_probe_done
        report = self._probe.run(step, watch=self._screen.watch, **kwargs)
        if report is not None:
            self._screen.show_cost(report)
            self.schedule.probe_seconds = float(report.run["seconds"])
            for rule in self.stop if first else ():
                rule.check(report)
        return report

    def _verify_resume(self, step: int, **kwargs: Any) -> None:
        """Check with one probe that a resumed run can be measured and can continue its curve."""
        report = self._measure(step, **kwargs)
        if report is not None:
            # Not compared: until training starts, an optimizer may hold its evaluation weights.
            self.history.check_resume(report, ignored=("optimizer_weights",))

    def _run_apart(self, state: TrainerState, prefix: str, **kwargs: Any) -> AlignmentReport | None:
        """Measure the model as it is and print; the report is no point of the run's curve."""
        sets = trainer_events.sets_so_far(prefix)
        report, new = self._probe.run_once_per_call(state.global_step, sets, **kwargs)
        if report is not None and new:
            trainer_events.say(state, f"{probe_line.line(report)} · {prefix}")
        return report

    def _report_overhead(self, state: TrainerState) -> None:
        """Once, after the first steps: print what a probe costs, and choose the interval."""
        step_seconds = self.schedule.record_step()
        if step_seconds is None:
            return
        with self._probe.handle_errors():
            steps = self.schedule.min_interval(step_seconds)
            if steps is not None:
                self.schedule.interval = all_ranks().from_first_rank(steps)
                self._save_state(state)
            trainer_events.say(state, f"NeuronXA: {self.schedule.describe_overhead(step_seconds)}")

    def _save_state(self, state: TrainerState) -> None:
        """Save the state with the next checkpoint."""
        saved = ResumeState(
            self.history,
            chosen=self.schedule.chosen,
            stopped=self._stopped,
            batch_tokens=self._probe.batch_tokens,
            record=self._sinks.record_path,
            run=self._sinks.run,
            firing_bar=self._probe.firing_bar,
            holding=self._outcome.holding,
        )
        trainer_events.save_state(state, self.name, saved.to_dict())

    def _load_state(self, args: TrainingArguments, state: TrainerState) -> ResumeState:
        """Load the state of a checkpoint; a new run has none."""
        plain = trainer_events.load_state(state, self.name) if state.global_step else None
        saved = ResumeState.load(plain, args.output_dir or ".", self.name, state.global_step)
        self.history, self._stopped = saved.history, saved.stopped_by(self.stop)
        self._outcome = RuleOutcome(holding=saved.holding)
        eval_steps = state.eval_steps if args.eval_strategy == "steps" else None
        self.schedule.begin(saved.chosen, args.eval_strategy != "no", eval_steps)
        self._probe.begin(saved.batch_tokens, saved.firing_bar)
        return saved
