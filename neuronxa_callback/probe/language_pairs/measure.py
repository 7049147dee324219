"""Runs the sentences once per block of layers and compares all languages of each block."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.metrics.registry import ALIGNMENT
from neuronxa_callback.probe.executor import Executor, Measurement, ProbeContext
from neuronxa_callback.probe.language_pairs.blocks import (
    GIB,
    PairPlan,
    plan_blocks,
    require_comparable,
)
from neuronxa_callback.probe.language_pairs.compare import PairResults
from neuronxa_callback.probe.language_pairs.vectors import LanguageVectors
from neuronxa_callback.probe.memory import storage_device
from neuronxa_callback.probe.results import ResultCollector

Announce = Callable[[str], None]
"""A function that shows a line on the screen."""


class AllPairs:
    """The scores of all pairs of languages beside a probe, which stays as it is.

    The first block is kept as the sentences run for the probe; each further block runs them again.

    Args:
        config: The options of the probe.
        announce: Gets the cost, as a line, before the sentences run.
    """

    def __init__(self, config: ProbeConfig, announce: Announce) -> None:
        self.config, self.announce = config, announce
        self.metrics = tuple(name for name in config.metrics if name in ALIGNMENT)
        """Those of this package: a registered metric may compare in its own way."""
        self.results: dict[str, PairResults] = {}
        """Metric -> its results."""
        self.run_entries: dict[str, Any] = {}
        """Bytes and passes, about the run."""

    def run(self, context: ProbeContext) -> Measurement:
        """Collective: the measurement of the probe; the pairs are in ``results``.

        Raises:
            ConfigError: If the languages cannot be compared, or a layer needs too much memory.
        """
        if not self.metrics:
            raise ConfigError(
                f"pivot='all' compares languages by {', '.join(ALIGNMENT)}, got only the metrics"
                f" {', '.join(self.config.metrics)}; name one of these too, or leave pivot out"
            )
        group = require_comparable(context.groups)
        plan = self._plan(context)
        self.announce(plan.describe())
        self.run_entries = {"pair_bytes": plan.nbytes, "pair_passes": len(plan.blocks)}
        self.results = {name: PairResults(plan.languages, plan.pairs) for name in self.metrics}
        parts = {
            name: [*zip(layout.layer_of_part, layout.widths, strict=True)]
            for name in self.metrics
            for layout in (context.layouts[ALIGNMENT[name].source],)
        }
        storage = storage_device(plan.nbytes, context.device)
        first, *others = plan.blocks
        measurement = self._run_block(context, LanguageVectors(group, first, parts, storage))
        # The results of the probe are there: those of further runs are the same and not used.
        again = replace(context, results=ResultCollector(margins=False), counter=None)
        for cells in others:
            self._run_block(again, LanguageVectors(group, cells, parts, storage))
        return measurement

    def _run_block(self, context: ProbeContext, vectors: LanguageVectors) -> Measurement:
        measurement = Executor(replace(context, vectors=vectors)).run()
        vectors.exchange(context.world, context.device)
        for metric in vectors.layers:
            self.results[metric].add_block(vectors, metric, context.world, context.device)
        return measurement

    def _plan(self, context: ProbeContext) -> PairPlan:
        """Collective: equal on all ranks, also if their slices of neurons differ in size."""
        widths: dict[str, list[int]] = {}
        for name in self.metrics:
            layout = context.layouts[ALIGNMENT[name].source]
            own = [0] * layout.layers
            for layer, width in zip(layout.layer_of_part, layout.widths, strict=True):
                own[layer] += width
            widths[name] = [max(column) for column in zip(*context.world.gather(own), strict=True)]
        group, most = context.groups[0], int(self.config.language_pairs_gib * GIB)
        return plan_blocks(len(group.targets), len(group.rows[0]), widths, most)
