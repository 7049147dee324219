"""A probe inside a training run: it fails early, and a later failure does not end the run."""

import logging
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn

from neuronxa_callback.errors import BrokenForwardError, ConfigError, ProbeMemoryError, unknown
from neuronxa_callback.option_checks import require_text
from neuronxa_callback.probe.distributed import all_ranks, is_sharded
from neuronxa_callback.probe.model_state import weights_checksum
from neuronxa_callback.probe.probe import Probe, ProgressCallback
from neuronxa_callback.probe.synchronization import (
    Outcome,
    check_same_on_ranks,
    synchronize_errors,
)
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.taps.flow.signature import ModelSignature

log = logging.getLogger(__name__)

MIN_BATCH_TOKENS = 32
"""The first probe is not retried with fewer tokens per forward pass."""

Watch = Callable[[Probe], AbstractContextManager[ProgressCallback | None]]
"""A function of a probe that is about to run."""


def watch_nothing(probe: Probe) -> AbstractContextManager[None]:
    """A ``Watch`` that shows nothing."""
    return nullcontext()


class TrainingProbe:
    """Runs a probe that is made at its first use, and again for another run, model or tokenizer.

    The first probe of a run raises every error. After it, ``on_error="warn"`` logs an error
    once, and the next probe tries again.

    Args:
        make_probe: tokenizer -> probe.
        on_error: ``"warn"`` or ``"raise"``.
        tokenizer: Replaces the Trainer's ``processing_class``.

    Raises:
        ConfigError: If ``on_error`` is neither.
    """

    def __init__(
        self, make_probe: Callable[[Any], Probe], on_error: str, tokenizer: Any = None
    ) -> None:
        require_text("on_error", on_error)
        if on_error not in ("warn", "raise"):
            raise ConfigError(unknown("on_error", on_error, ("warn", "raise")))
        self.make_probe, self.on_error, self.tokenizer = make_probe, on_error, tokenizer
        self.probe: Probe | None = None
        self._made_for: tuple[Any, Any] | None = None
        """A weak reference to the model of ``probe``, and its tokenizer."""
        self._batch_tokens: int | None = None
        self._firing_bar: float | None = None
        self._first_probe_done = False
        self._warned: set[str] = set()
        self._measured: AlignmentReport | None = None
        self._measured_for: tuple[object, int | None, ModelSignature] | None = None
        """The evaluation sets that share ``_measured``, and weights and structure of its model."""

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the options, not the probe."""
        fresh = dict.fromkeys(("probe", "_measured", "_measured_for", "_made_for"))
        return {**self.__dict__, **fresh, "_first_probe_done": False}

    @property
    def first_probe_done(self) -> bool:
        """Whether a probe of this run has succeeded."""
        return self._first_probe_done

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the corpus; empty before the first use."""
        return () if self.probe is None else self.probe.corpus.languages

    @property
    def batch_tokens(self) -> int | None:
        """The most tokens per forward pass, for a resume; None before the first use."""
        return self._batch_tokens if self.probe is None else self.probe.batch_tokens

    @property
    def firing_bar(self) -> float | None:
        """The bar of language neurons, for a resume; None before the first probe."""
        return self._firing_bar if self.probe is None else self.probe.neurons.bar

    def begin(self, batch_tokens: int | None, firing_bar: float | None = None) -> None:
        """Start a run, or resume one with the values that it has chosen before."""
        self._batch_tokens, self._firing_bar = batch_tokens, firing_bar
        self._warned = set()
        self.probe, self._measured = None, None
        self._first_probe_done = False

    def check_ranks(self, options: Mapping[str, object]) -> None:
        """Collective: raise an error on all ranks if an option differs between them.

        Raises:
            ConfigError: Names the first option that differs.
        """
        options = {**options, "on_error": self.on_error}
        with synchronize_errors(all_ranks()):
            check_same_on_ranks(all_ranks(), options)

    def run(
        self,
        step: int,
        *,
        model: nn.Module,
        processing_class: Any = None,
        optimizer: Any = None,
        watch: Watch = watch_nothing,
        pivot: str | None = None,
        **_: Any,
    ) -> AlignmentReport | None:
        """A report of the model; None if the probe failed and training goes on.

        Collective: every rank calls it. The arguments are those of a callback event,
        a ``watch`` that shows the progress of a probe on this rank, and the ``pivot`` of
        ``Probe.run``.

        Raises:
            BrokenForwardError: If the ranks cannot go on together.
            Exception: Any error of the first probe, or if ``on_error="raise"``.
        """
        with self.handle_errors() as outcome:
            probe = self._probe_for(model, self.tokenizer or processing_class)
            with watch(probe) as progress:
                report = self._run(probe, model, step, progress, pivot)
            weights = _optimizer_weights(optimizer)
            report = report if weights is None else report.with_model(optimizer_weights=weights)
        if outcome.error is not None:
            return None
        self._first_probe_done = True
        return report

    def _is_current(self, model: nn.Module, processing_class: Any) -> bool:
        """Whether the probe was made for this model and tokenizer, as they are now."""
        made_for = (weakref.ref(model), self.tokenizer or processing_class)
        if self.probe is None or self._made_for != made_for:
            return False
        return not self.probe.tokenizer.has_changed()

    def _probe_for(self, model: nn.Module, tokenizer: Any) -> Probe:
        """The probe of this model and tokenizer."""
        made_for = (weakref.ref(model), tokenizer)
        if self.probe is None or self._made_for != made_for:
            self._batch_tokens, self._firing_bar = self.batch_tokens, self.firing_bar
            probe = self.make_probe(tokenizer)
            # A resume may lower it, when memory has run out.
            probe.batch_tokens = min(probe.batch_tokens, self._batch_tokens or probe.batch_tokens)
            probe.neurons.bar = self._firing_bar
            self.probe, self._made_for = probe, made_for
        return self.probe

    def run_once_per_call(
        self, step: int, sets: tuple[object, ...], *, model: nn.Module, **kwargs: Any
    ) -> tuple[AlignmentReport | None, bool]:
        """As ``run``, but the sets of one ``evaluate()`` share it: (report, whether it is new).

        Collective: every rank calls it. A later ``evaluate()`` measures again: not all that can
        change the scores can be seen, such as what a hook reads. Within one, another callback can
        still change the model: new weights, adapters, modules or hooks are measured again.

        Args:
            step: As for ``run``.
            sets: What ``trainer_events.sets_so_far`` returns.
            model: As for ``run``.
            kwargs: As for ``run``.
        """
        known, measured_for = False, None
        with self.handle_errors():
            checksum = weights_checksum(model) if sets and not is_sharded(model) else None
            same = checksum is not None and self._is_measured(sets[:-1], checksum, model)
            same = same and self._is_current(model, kwargs.get("processing_class"))
            measured_for = (sets, checksum, ModelSignature(model))
            known = all_ranks().all_ok(same)
        self._measured_for = measured_for
        if known:
            return self._measured, False
        self._measured = self.run(step, model=model, **kwargs)
        return self._measured, True

    def _is_measured(self, sets: object, checksum: int, model: nn.Module) -> bool:
        """Whether the latest measurement is for these sets and of the model as it is now."""
        if self._measured is None or self._measured_for is None:
            return False
        earlier, weights, signature = self._measured_for
        return sets == earlier and weights == checksum and signature.matches(model)

    def evaluation_metrics(
        self, report: AlignmentReport | None, prefix: str, name: str
    ) -> dict[str, float]:
        """``<prefix>_<metric>`` and ``<prefix>_<metric>_<language>``; NaN without a report."""
        if self.probe is None:
            return {}
        root = f"{prefix}_{name}" if name else prefix
        return {
            f"{root}_{metric}{'' if language is None else f'_{language}'}": (
                math.nan if report is None else report.score(metric, language)
            )
            for metric in self.probe.config.metrics
            for language in (None, *self.languages)
        }

    @contextmanager
    def handle_errors(self) -> Iterator[Outcome]:
        """Collective: a section of all ranks, whose error is handled as one of a probe."""
        try:
            with synchronize_errors(all_ranks()) as outcome:
                yield outcome
        except BrokenForwardError:
            raise
        except Exception as error:
            self.handle_error(error)

    def handle_error(self, error: Exception) -> None:
        """Raise the error, or log one warning per cause."""
        if not self._first_probe_done or self.on_error == "raise":
            raise error
        message = f"{type(error).__name__}: {error}"
        if message not in self._warned:
            self._warned.add(message)
            log.warning(
                "a NeuronXA probe failed, training goes on, the next one tries again: %s", message
            )

    def _run(
        self,
        probe: Probe,
        model: nn.Module,
        step: int,
        progress: ProgressCallback | None,
        pivot: str | None,
    ) -> AlignmentReport:
        """After out of memory, the first probe retries at once with half of the tokens."""
        while True:
            try:
                return probe.run(model, step, progress, pivot)
            except ProbeMemoryError as error:
                if self._first_probe_done or probe.batch_tokens < MIN_BATCH_TOKENS:
                    raise
                log.warning("%s", error)


def _optimizer_weights(optimizer: Any) -> str | None:
    """Which weights a schedule-free optimizer has put into the model; None for all others."""
    groups = getattr(optimizer, "param_groups", None) or [{}]
    mode = groups[0].get("train_mode")
    if mode is None:
        return None
    # Before its first step both are the same.
    return "training" if mode or not optimizer.state else "evaluation"
