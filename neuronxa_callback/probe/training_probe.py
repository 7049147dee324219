"""A probe inside a training run: it fails early, and a later failure does not end the run."""

import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from neuronxa_callback.errors import BrokenForwardError, ConfigError, ProbeMemoryError, unknown
from neuronxa_callback.probe.distributed import world_of
from neuronxa_callback.probe.forward import device_of
from neuronxa_callback.probe.probe import Probe
from neuronxa_callback.probe.synchronization import check_same_on_ranks, synchronize_errors
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

MIN_BATCH_TOKENS = 32
"""The first probe is not retried with fewer tokens per forward pass."""


class TrainingProbe:
    """Runs a probe that is made at its first use, and again for another run, model or tokenizer.

    The first probe of a run raises every error. After it, ``on_error="warn"`` logs an error
    once, and the next probe tries again.

    Args:
        make_probe: tokenizer -> probe.
        on_error: ``"warn"`` or ``"raise"``.

    Raises:
        ConfigError: If ``on_error`` is neither.
    """

    def __init__(self, make_probe: Callable[[Any], Probe], on_error: str) -> None:
        if on_error not in ("warn", "raise"):
            raise ConfigError(unknown("on_error", on_error, ("warn", "raise")))
        self.make_probe, self.on_error = make_probe, on_error
        self.probe: Probe | None = None
        self._made_for: tuple[Any, Any] = (None, None)
        """A weak reference to the model, and the tokenizer, of ``probe``."""
        self._batch_tokens: int | None = None
        self._first_probe_done = False
        self._warned: set[str] = set()

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

    def begin(self, batch_tokens: int | None) -> None:
        """Start a run, or resume one with the ``batch_tokens`` that it has reached."""
        self._batch_tokens = batch_tokens
        self._warned = set()
        self.probe = None
        self._first_probe_done = False

    def check_ranks(self, model: nn.Module, options: Mapping[str, object]) -> None:
        """Collective: raise an error on all ranks if an option differs between them.

        Raises:
            ConfigError: Names the first option that differs.
        """
        options = {**options, "on_error": self.on_error}
        check_same_on_ranks(world_of(model), device_of(model), options)

    def run(
        self, model: nn.Module, step: int, tokenizer: Any, optimizer: Any = None
    ) -> AlignmentReport | None:
        """A report of the model; None if the probe failed and training goes on.

        Collective: every rank calls it.

        Raises:
            BrokenForwardError: If the ranks cannot go on together.
            Exception: Any error of the first probe, or if ``on_error="raise"``.
        """
        try:
            report = self._run(self._probe_for(model, tokenizer), model, step)
        except BrokenForwardError:
            raise
        except Exception as error:
            self.handle_error(error)
            return None
        self._first_probe_done = True
        weights = _optimizer_weights(optimizer)
        return report if weights is None else report.with_model(optimizer_weights=weights)

    def _probe_for(self, model: nn.Module, tokenizer: Any) -> Probe:
        """Collective if it makes a probe."""
        made_for = (weakref.ref(model), tokenizer)
        if (
            self.probe is None
            or self._made_for[0] != made_for[0]
            or self._made_for[1] is not tokenizer
        ):
            self._batch_tokens = self.batch_tokens
            self.probe = None
            world = world_of(model)
            flag = torch.zeros(1, dtype=torch.float32, device=world.device(device_of(model)))
            with synchronize_errors(world, flag):
                self.probe = probe = self.make_probe(tokenizer)
            probe.batch_tokens = self._batch_tokens or probe.batch_tokens
            self._made_for = made_for
        return self.probe

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

    def _run(self, probe: Probe, model: nn.Module, step: int) -> AlignmentReport:
        """After out of memory, the first probe retries at once with half of the tokens."""
        while True:
            try:
                return probe.run(model, step)
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
