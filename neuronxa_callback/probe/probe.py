"""``Probe.run(model)``: a fixed set of parallel sentences through a model, an alignment report out.

Read it from top to bottom: tokenise once; find the neurons; run this rank's microbatches and
judge each language as soon as it is complete (``rounds``); put the report together.
"""

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import BrokenForwardError, ProbeError, ProbeMemoryError
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.registry import Read, reads_of
from neuronxa_callback.probe import diagnostics, fingerprint
from neuronxa_callback.probe.batching import (
    Group,
    TokenizedCorpus,
    collate,
    microbatches,
    tokenize,
)
from neuronxa_callback.probe.distributed import (
    World,
    reshard_on_exit,
    sharded,
    unwrap_ddp,
    world_of,
)
from neuronxa_callback.probe.executor import Executor
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.memory import free_memory, is_oom
from neuronxa_callback.probe.model_state import preserve_model_state
from neuronxa_callback.probe.pivot_drift import Drift
from neuronxa_callback.probe.results import ResultCollector, curve_of
from neuronxa_callback.probe.sharding import shard_microbatches
from neuronxa_callback.probe.similarity import Layout, SimilarityAccumulator
from neuronxa_callback.probe.tokenization import Encoder, longest_sentence
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.taps import plan as taps

Progress = Callable[[int, int], None]


class Probe:
    """Measures cross-lingual alignment of a model, without a Trainer.

    Collective where ranks exist: every rank makes the same probe and runs it at the same time.

    Args:
        config: What is measured; None means the defaults.
        tokenizer: A tokenizer of transformers; its settings are left as they are.
        mesh: For own training loops on many GPUs, a ``DeviceMesh`` with named dimensions: ``tp``
            holds slices of the neurons, all others share the work.

    Raises:
        CorpusError: If the corpus cannot be used.
        ConfigError: If an option, or the tokenizer, cannot be used.
    """

    def __init__(self, config: ProbeConfig | None, tokenizer: Any, mesh: Any = None) -> None:
        self.config = config or ProbeConfig()
        self.corpus = self.config.load()
        self.encoder = Encoder(tokenizer, self.config)
        self.tokenizer_digest = self.encoder.digest()
        self.mesh = mesh
        self.batch_tokens = self.config.batch_tokens
        """Most tokens of a forward; halved when memory has run out."""
        self._sentences: tuple[int, TokenizedCorpus, tuple[Group, ...]] | None = None
        self._found: tuple[weakref.ref[nn.Module], taps.TapPlan, tuple[int, ...]] | None = None
        self._surface: dict[str, Any] | None = None
        self.drift = Drift()

    def run(
        self, model: nn.Module, step: int = 0, progress: Progress | None = None
    ) -> AlignmentReport:
        """One report of ``model`` as it stands. Collective: every rank calls it.

        Args:
            model: The model that training runs, called whole and left as it was.
            step: What the report calls this moment.
            progress: Called with (microbatches done, microbatches in all) of this rank.

        Raises:
            TapError: If the neurons cannot be read, or not exactly as often as expected.
            CorpusError: If a language has too few pairs that fit the model.
            ProbeMemoryError: If memory ran out on any rank; the next run takes half the tokens.
            ProbeError: If another rank failed; the words are that rank's.
        """
        began = time.perf_counter()
        model = unwrap_ddp(model)
        world = world_of(model, self.mesh)
        one = _Run(self, model, world, progress)
        with ExitStack() as stack:
            with one.synchronize_errors():
                stack.enter_context(preserve_model_state(model))
                stack.enter_context(reshard_on_exit(model))
                one.prepare()
            one.discover()
            one.measure()
            drift = one.drift(step)
        with one.synchronize_errors():
            report = one.report(step)
        free_memory(one.home)
        seconds = round(time.perf_counter() - began, 3)
        about = {
            "seconds": seconds,
            "ranks": world.size,
            "time": round(time.time(), 3),
            "pivot_bytes": max((each.nbytes for each in one.pivots.values()), default=0),
            **drift,
        }
        object.__setattr__(report, "run", about)
        return report

    def tokenised(self, model: nn.Module) -> tuple[TokenizedCorpus, tuple[Group, ...]]:
        """The usable pairs as tokens, made once per limit of length."""
        limit = min(self.config.max_length, longest_sentence(model, self.encoder.tokenizer))
        if self._sentences is None or self._sentences[0] != limit:
            found = tokenize(self.corpus, self.config.n_pairs, self.encoder, limit)
            self._sentences = (limit, found, found.groups(self.corpus.pivot))
            self._surface = None
        return self._sentences[1:]

    def plan(
        self, model: nn.Module, forward: Callable[[], object], hidden: Callable[[], tuple[int, ...]]
    ) -> tuple[taps.TapPlan, tuple[int, ...]]:
        """Where this model keeps its neurons, and the widths of its hidden states, found once."""
        if self._found is None or self._found[0]() is not model:
            options = self.config
            plan = taps.discover(
                model, forward, neuron_modules=options.neuron_modules, stack=options.stack
            )
            self._found = (weakref.ref(model), plan, hidden())
        return self._found[1:]

    def surface(self, tokenised: TokenizedCorpus) -> dict[str, Any]:
        """The surface baselines of the sentences, computed once."""
        if self._surface is None:
            self._surface = diagnostics.surface(tokenised)
        return self._surface


class _Run:
    """One run of a probe: what lives no longer than that."""

    def __init__(
        self, probe: Probe, model: nn.Module, world: World, progress: Progress | None
    ) -> None:
        self.probe, self.config, self.model, self.world = probe, probe.config, model, world
        self.progress = progress
        self.collective = sharded(model) or world.tensor is not None
        self.inside = False
        """Whether a collective forward has begun and not come back."""
        self.reads = _reads(self.config)
        self.forward = Forward(model, self.config.stack, hidden="hidden" in self.reads)
        self.home = world.device(self.forward.device)
        self.flag = torch.zeros(1, device=self.home)
        self.findings = ResultCollector(self.config, probe.corpus)

    def prepare(self) -> None:
        """Sentences, microbatches, and who runs them."""
        self.tokenised, self.groups = self.probe.tokenised(self.model)
        self.work = microbatches(self.groups, self.probe.batch_tokens)
        self.stages = shard_microbatches(self.work, self.groups, self.world.size)

    def discover(self) -> None:
        """Find the neurons with the shortest sentence that there is."""
        sentences = [each for group in self.groups for each in group.pivot.sentences]
        # One token would hide which axis is which.
        self.dummy = [min(sentences, key=lambda each: (len(each.ids) < 2, len(each.ids)))]
        batch = collate(self.dummy, self.probe.encoder.pad)
        seen: list[tuple[int, ...]] = []

        def forward() -> None:
            self.inside = self.collective
            seen.append(tuple(each.shape[-1] for each in self.forward(batch)))
            self.inside = False

        with self.synchronize_errors(lambda: self.inside):
            self.plan, self.hidden = self.probe.plan(self.model, forward, lambda: seen[-1])

    def measure(self) -> None:
        """All microbatches of this rank, and every exchange."""
        sites = tuple(site for site in self.reads if site != "hidden")
        with ExitStack() as stack:
            with self.synchronize_errors():
                compare = SimilarityAccumulator(self._layouts(), self.reads, self.world, self.home)
                rounds = self._rounds(compare)
                attached = self.plan.attach(self.model, sites, compare, lambda: rounds.shape)
                reader = stack.enter_context(attached)
            with self.synchronize_errors(lambda: rounds.broken, rounds.drop):
                rounds.run(self.stages, reader)
        self.states, self.compare, self.pivots = compare.dtype, compare, rounds.pivots

    def _rounds(self, compare: SimilarityAccumulator) -> Executor:
        return Executor(
            self.forward,
            compare,
            self.world,
            self.groups,
            self.dummy,
            self.probe.encoder.pad,
            self.findings.collect,
            self.collective,
            self._teller(),
        )

    def drift(self, step: int) -> dict[str, Any]:
        """How the pivot has turned: about the run, since it depends on an earlier probe."""
        if "drift" not in self.config.diagnostics or len(self.groups) > 1:
            return {}
        with self.synchronize_errors():
            names = [name for name in self.config.metrics if name in self.compare.names]
            layouts = {name: self.compare.layouts[self.compare.names[name]] for name in names}
            found = self.probe.drift.of(self.pivots[0], layouts, self.world, step)
        return {} if found is None else {"pivot_drift": found}

    def report(self, step: int) -> AlignmentReport:
        """The report of what was measured, equal on all ranks."""
        corpus = self.probe.corpus
        hidden = tuple(range(len(self.hidden)))
        metrics = {
            name: self.findings.scores(
                name, hidden if name.startswith("mexa") else self.plan.layers
            )
            for name in self.config.metrics
        }
        found = {**self._of_sentences(), **self.findings.diagnostics()}
        curves = {
            name: {lang: curve_of(each, self.config.n_pairs) for lang, each in scores.hits.items()}
            for name, scores in metrics.items()
        }
        said = diagnostics.warnings(found, self.tokenised.same_tokens(), self.tokenised.dropped)
        return AlignmentReport(
            step=step,
            pivot=corpus.pivot,
            languages=corpus.languages,
            n_pairs=self.config.n_pairs,
            metrics=metrics,
            layer_intervals=statistics.layer_intervals(self.config.n_pairs),
            fingerprint={
                "definition": fingerprint.definition(self.config, corpus, self.tokenised),
                "model": fingerprint.model_part(
                    self.model, self.probe.tokenizer_digest, self.states, len(self.plan.layers)
                ),
                "environment": fingerprint.environment(
                    self.forward.device, self.probe.batch_tokens
                ),
            },
            diagnostics=found,
            warnings=(*said, *diagnostics.not_numbers(curves)),
        )

    @contextmanager
    def synchronize_errors(
        self, broken: Callable[[], bool] = lambda: False, drop: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Collective at its end: what fails on one rank is one error on all.

        Args:
            broken: Whether other ranks wait inside the model's own collectives.
            drop: Lets go of what takes memory, so that ranks can speak where it has run out.
        """
        failure: Exception | None = None
        try:
            yield
        except BrokenForwardError:
            raise
        except Exception as error:
            if broken():
                # Other ranks wait inside the model's own collectives and cannot be told.
                raise BrokenForwardError(
                    "the model's forward failed in a probe while its weights are spread over ranks,"
                    f" so the job ends as it would in training: {type(error).__name__}: {error}"
                ) from error
            failure = error
        own = None if failure is None else f"{type(failure).__name__}: {failure}"
        if failure is not None and is_oom(failure):
            own = f"{_MEMORY}{own}"
            drop()
            free_memory(self.home, failure)
        said = self.world.first_error(own, self.flag, before=_MEMORY)
        if said is None:
            return
        if said.startswith(_MEMORY):
            self.probe.batch_tokens = max(1, self.probe.batch_tokens // 2)
            raise ProbeMemoryError(
                f"memory ran out in a probe; the next one runs {self.probe.batch_tokens} tokens at"
                f" a time ({said.removeprefix(_MEMORY)})"
            ) from failure
        raise failure or ProbeError(f"a probe failed on another rank: {said}")

    def _layouts(self) -> dict[str, Layout]:
        order = {label: place for place, label in enumerate(self.plan.layers)}
        parts = self.plan.parts
        neurons = Layout(
            tuple(order[part.layer] for part in parts),
            tuple(part.width for part in parts),
            tuple(part.experts for part in parts),
        )
        states = len(self.hidden)
        hidden = Layout(tuple(range(states)), self.hidden, (0,) * states)
        return {"nas": neurons, "nav": neurons, "hidden": hidden}

    def _teller(self) -> Callable[[], None]:
        mine = [now[self.world.rank] for stage in self.stages for now in stage.rounds]
        total, done = sum(work is not None for work in mine), 0

        def tell() -> None:
            nonlocal done
            done += 1
            if self.progress is not None:
                self.progress(done, total)

        return tell

    def _of_sentences(self) -> dict[str, Any]:
        """Diagnostics of the sentences alone."""
        wanted, found = self.config.diagnostics, dict[str, Any]()
        if "surface" in wanted:
            found["surface"] = self.probe.surface(self.tokenised)
        if "tokens" in wanted:
            sides = [side for group in self.groups for side in (group.pivot, *group.targets)]
            real = sum(len(each.ids) for side in sides for each in side.sentences)
            found["tokens"] = diagnostics.tokens(self.tokenised, self.work, real)
        return found


_MEMORY = "out of memory: "


def _reads(config: ProbeConfig) -> dict[str, tuple[Read, ...]]:
    """What must be read, per site."""
    sites = {"nas": config.nas_site, "nav": config.nav_site, "hidden": "hidden"}
    found: dict[str, tuple[Read, ...]] = {}
    for read in reads_of(config.metrics, config.diagnostics):
        found[sites[read.source]] = (*found.get(sites[read.source], ()), read)
    return found
