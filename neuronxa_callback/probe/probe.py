"""``Probe.run(model)``: parallel sentences through a model, an alignment report out.

``Probe.run`` reads from top to bottom: tokenize, find and prove the neurons, shard, run and
exchange, score, report.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from neuronxa_callback.config import ProbeConfig, reads_by_site
from neuronxa_callback.corpus.groups import group_languages
from neuronxa_callback.errors import ConfigError, ProbeMemoryError
from neuronxa_callback.metrics.own import Faults
from neuronxa_callback.metrics.registry import source_of
from neuronxa_callback.option_checks import whole_number
from neuronxa_callback.probe import fingerprint
from neuronxa_callback.probe.batching import Microbatch, PivotGroup, TokenizedCorpus, microbatches
from neuronxa_callback.probe.diagnostics import sentence_diagnostics, warnings
from neuronxa_callback.probe.distributed import (
    World,
    all_ranks,
    is_sharded,
    reshard_on_exit,
    unwrap_ddp,
    world_of,
)
from neuronxa_callback.probe.executor import Executor, Measurement, ProbeContext, run_info
from neuronxa_callback.probe.forward import Forward, ForwardFunction, embedding_rows, tokens_at_once
from neuronxa_callback.probe.language_pairs.blocks import require_pivot
from neuronxa_callback.probe.language_pairs.compare import tables_of
from neuronxa_callback.probe.language_pairs.measure import AllPairs, Announce
from neuronxa_callback.probe.loss.measure import loss
from neuronxa_callback.probe.memory import free_memory
from neuronxa_callback.probe.model_state import preserve_model_state
from neuronxa_callback.probe.neurons.statistics import NeuronStatistics
from neuronxa_callback.probe.own.layouts import labels_of, with_own
from neuronxa_callback.probe.own.settle import settle
from neuronxa_callback.probe.pivot_drift import PivotDrift
from neuronxa_callback.probe.proof.prove import PROOFS, ProofSentences, ProvedPlan, prove
from neuronxa_callback.probe.results import empty_results, metric_scores, state_diagnostics
from neuronxa_callback.probe.sharding import shard_microbatches
from neuronxa_callback.probe.similarity import layouts_of
from neuronxa_callback.probe.synchronization import check_same_on_ranks, synchronize_errors
from neuronxa_callback.probe.tokenization import (
    SentenceTokenizer,
    longest_sentence,
    padding_id,
    require_embeddings,
    tokenize,
)
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.taps.flow.signature import ModelSignature

log = logging.getLogger(__name__)

ProgressCallback = Callable[[int, int], None]
"""Called with (microbatches done, microbatches in all) of this rank."""


class Probe:
    """Measures the cross-lingual alignment of a model, without a Trainer.

    In distributed runs, every rank makes the same probe and calls ``run`` at the same time.

    Args:
        config: What to measure; None for the defaults.
        tokenizer: A tokenizer of transformers; its settings stay unchanged.
        mesh: For custom training loops on many GPUs, a ``DeviceMesh`` with named dimensions:
            ``tp`` holds slices of the neurons, all others share the work.
        forward: A function of the model and a dictionary with ``input_ids`` and
            ``attention_mask``, both int64 [sentences, tokens], that runs the model; None finds the
            arguments by the signature of the model's forward. Its result is used only by
            ``mexa``, which needs its ``hidden_states``. Its name is in the fingerprint.

    Raises:
        CorpusError: If the corpus cannot be used.
        ConfigError: If an option, or the tokenizer, cannot be used.
    """

    def __init__(
        self,
        config: ProbeConfig | None,
        tokenizer: Any,
        mesh: Any = None,
        forward: ForwardFunction | None = None,
    ) -> None:
        if not (forward is None or callable(forward)):
            raise ConfigError(f"forward must be a function of a model and a batch, got {forward!r}")
        self.config = config or ProbeConfig()
        self.corpus = self.config.load()
        self.groups = group_languages(self.config.groups, self.corpus.languages)
        self.tokenizer = SentenceTokenizer(tokenizer, self.config, self.corpus)
        self.mesh, self.forward = mesh, forward
        self.batch_tokens = self.config.batch_tokens
        """Most tokens of a forward; halved each time memory runs out."""
        self._tokenized: tuple[Any, TokenizedCorpus, tuple[PivotGroup, ...]] | None = None
        self.announce: Announce = log.info
        """Gets a line with the cost of ``pivot="all"`` before the sentences run."""
        self.proofs: tuple[str, ...] = PROOFS
        """The proofs that run at the first probe of a model."""
        self._proved: tuple[ModelSignature, ProvedPlan, bool] | None = None
        self._drift = PivotDrift()
        self.neurons, self.faults = NeuronStatistics(self.config.neurons), Faults()

    def run(
        self,
        model: nn.Module,
        step: int = 0,
        progress: ProgressCallback | None = None,
        pivot: str | None = None,
    ) -> AlignmentReport:
        """Measures ``model`` as it is now. Collective: every rank calls it.

        Args:
            model: The model that training runs; it is called whole and left unchanged.
            step: The training step, 0, 1, ..; recorded in the report.
            progress: Called with (microbatches done, microbatches in all) of this rank.
            pivot: ``"all"`` fills ``report.language_pairs`` too; its cost goes to ``announce``.

        Returns:
            The same report on every rank, but for ``report.run``.

        Raises:
            TapError: If the neurons cannot be read, or are not read exactly as often as expected.
            CorpusError: If a language has too few pairs that fit the model.
            ProbeMemoryError: If memory ran out on any rank; the next run halves ``batch_tokens``.
            ProbeError: If another rank failed, with that rank's message.
            ConfigError: If ``step`` or ``pivot`` is something else, or cannot be measured.
        """
        started, everyone = time.perf_counter(), all_ranks()
        with self._halve_batch_tokens_on_oom(), synchronize_errors(everyone):
            require_pivot(pivot)
            step = whole_number("step", step, least=0)
            report = self._run(unwrap_ddp(model), step, progress, pivot)
            report = report.with_run(seconds=round(time.perf_counter() - started, 3))
        self._drift.keep()
        self.neurons.keep()
        return report

    def _run(  # long: the steps of a probe, in order
        self, model: nn.Module, step: int, progress: ProgressCallback | None, pivot: str | None
    ) -> AlignmentReport:
        """Collective. An error may be raised anywhere: all ranks learn of it."""
        world = world_of(model, self.mesh)
        self.faults.begin()
        reads = reads_by_site(self.config, self.faults)
        together = world.run_together if is_sharded(model) or world.tensor is not None else None
        forward = Forward(model, self.config.stack, "hidden" in reads, together, self.forward)
        with ExitStack() as stack:
            stack.enter_context(preserve_model_state(model))
            stack.enter_context(reshard_on_exit(model))
            tokenized, groups = self.tokenize(model)
            sentences = ProofSentences.of(groups, padding_id(model, self.tokenizer.pad))
            forward.choose(sentences.dummy)
            work = microbatches(groups, tokens_at_once(model, self.batch_tokens))
            parts = fingerprint.shared_work(
                self.config, self.corpus, tokenized, self.batch_tokens, work
            ) | {"the option forward": fingerprint.qualified_name(self.forward), "pivot": pivot}
            check_same_on_ranks(world, parts)
            proved, batched = self._prove(model, forward, sentences, world)
            check_same_on_ranks(world, {"the list of layers": proved.plan})
            work = work if batched else microbatches(groups, 1)
            layouts = with_own(layouts_of(proved.plan, proved.hidden_sizes), reads)
            device = world.device(forward.device)
            context = ProbeContext(
                model=model,
                forward=forward,
                plan=proved.plan,
                layouts=layouts,
                reads=reads,
                world=world,
                device=device,
                groups=groups,
                stages=shard_microbatches(work, groups, world.size),
                dummy=sentences.dummy,
                pad=sentences.pad,
                results=empty_results(self.config, tokenized, self.faults),
                counter=self.neurons.counter(groups, layouts["nas"].widths, world, device),
                progress=progress,
            )
            every = None if pivot is None else AllPairs(self.config, self.announce)
            measurement = Executor(context).run() if every is None else every.run(context)
            drift = {}
            if "drift" in self.config.diagnostics and len(groups) == 1:
                followed = {name: layouts[source_of(name)] for name in self.config.metrics}
                drift = self._drift.entries(measurement.pivots[0], followed, world, step)
            report = self._report(step, context, measurement, tokenized, work, batched)
        free_memory()
        info = run_info(world, measurement) | drift | {"proof": proved.record(batched)}
        if self.corpus.order:
            info["order"] = self.corpus.order
        if every is not None:
            info |= every.run_entries
            report = replace(report, language_pairs=tables_of(report, every.results))
        self.faults.warn(log)
        doubts = (*proved.unproved, *self.faults.lines(), *report.warnings)
        return replace(report, run=info, warnings=doubts)

    def tokenize(self, model: nn.Module) -> tuple[TokenizedCorpus, tuple[PivotGroup, ...]]:
        """The pairs that ``model`` can run, as tokens; cached until tokenizer or limits change.

        Raises:
            CorpusError: If a language has too few pairs that fit the model.
            ConfigError: If two encodings of a sentence differ, or the model has no embedding of a
                token.
        """
        self.tokenizer.refresh()
        limit = min(self.config.max_length, longest_sentence(model, self.tokenizer.tokenizer))
        key = (self.tokenizer.copies, limit, embedding_rows(model))
        if self._tokenized is None or self._tokenized[0] != key:
            tokenized = tokenize(self.corpus, self.config.n_pairs, self.tokenizer, limit)
            require_embeddings(model, tokenized)
            self._tokenized = (key, tokenized, tokenized.groups(self.corpus.pivot))
        return self._tokenized[1:]

    def _prove(
        self,
        model: nn.Module,
        forward: Forward,
        sentences: ProofSentences,
        world: World,
    ) -> tuple[ProvedPlan, bool]:
        """The neurons, cached, and whether sentences may run together. Collective."""
        known = self._proved is not None and self._proved[0].matches(model)
        if not world.all_ok(known) or self._proved is None:
            self._proved = None
            sites = tuple(site for site in reads_by_site(self.config) if site != "hidden")
            proved = prove(model, forward, self.config, sentences, sites, world, self.proofs)
            signature = ModelSignature(model, identities=not is_sharded(model))
            for problem in proved.unproved:
                log.warning("a NeuronXA probe is not proved, it goes on: %s", problem)
            self._proved = (signature, proved, world.all_ok(proved.batched))
        return self._proved[1:]

    def _report(
        self,
        step: int,
        context: ProbeContext,
        measurement: Measurement,
        tokenized: TokenizedCorpus,
        work: Sequence[Microbatch],
        batched: bool,
    ) -> AlignmentReport:
        """Collective: scores, diagnostics and fingerprint, equal on all ranks."""
        config, corpus, results = self.config, self.corpus, measurement.results
        counts = context.counter, context.layouts["nas"].layer_of_part
        counted = self.neurons.own_entries(*counts, self.faults)
        own = settle(context.world, config, results, counted, self.faults)
        labels = labels_of(context.layouts, context.plan.layers)
        metrics = {
            name: metric_scores(results, name, labels[source_of(name)], corpus, self.groups)
            for name in config.metrics
        }
        diagnosed = {
            **sentence_diagnostics(config.diagnostics, tokenized, context.groups, work),
            **state_diagnostics(results, config, corpus),
            **self.neurons.entries(*counts),
            **loss(context, tokenized, config.diagnostics, self.batch_tokens),
            **own,
        }
        definition = fingerprint.definition(config, corpus, tokenized, self.tokenizer.chat)
        digest = self.tokenizer.digest()
        model = fingerprint.model_part(
            context.model, digest, tokenized, measurement.dtype, context.plan, self.forward
        )
        device, reduction = context.forward.device, measurement.reduction
        environment = fingerprint.environment(
            device, self.batch_tokens, batched, config.on_unproved, reduction
        )
        return AlignmentReport(
            step=step,
            pivot=corpus.pivot,
            languages=corpus.languages,
            n_pairs=config.n_pairs,
            metrics=metrics,
            fingerprint={"definition": definition, "model": model, "environment": environment},
            diagnostics=diagnosed,
            groups=self.groups,
            warnings=warnings(diagnosed, metrics, tokenized),
        )

    @contextmanager
    def _halve_batch_tokens_on_oom(self) -> Iterator[None]:
        try:
            yield
        except ProbeMemoryError as error:
            self.batch_tokens = max(1, self.batch_tokens // 2)
            raise ProbeMemoryError(
                f"memory ran out in a probe; the next one runs {self.batch_tokens} tokens at a time"
                f" ({error})"
            ) from error
