"""Finds the neurons of a model and proves on it that they are read right.

A plan is proved at the first probe of a model, and again if ``ModelSignature`` sees a change. All
ranks run the same steps: what one of them fails in has failed on all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import ProbeError, TapError
from neuronxa_callback.probe.batching import Batch, PivotGroup, Sentence, collate
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.forward import Forward, tokens_at_once
from neuronxa_callback.probe.proof.invariance import Invariance
from neuronxa_callback.probe.synchronization import Outcome, synchronize_errors
from neuronxa_callback.taps import plan as taps
from neuronxa_callback.taps.proof import completeness
from neuronxa_callback.taps.proof.experiment import COPIES
from neuronxa_callback.taps.proof.factors import FactorProof
from neuronxa_callback.taps.trace import Trace

FOUND_TWICE, RECOMPUTED, INVARIANT, COMPLETE = PROOFS = (
    "found_twice",
    "recomputed",
    "invariant",
    "complete",
)
"""All proofs, in the order in which they run."""
MAX_FORWARDS = 8
"""The most forwards of discovery and all proofs together; one more for a model that is not of
transformers and whose sentences run one at a time."""


@dataclass(frozen=True)
class ProvedPlan:
    """The neurons of a model, and what is known about them."""

    plan: taps.TapPlan
    hidden_sizes: tuple[int, ...]
    """Width of each hidden state; empty unless they are read."""
    proof: Mapping[str, Any]
    """Plain numbers and texts for the report."""
    batched: bool = True
    """Whether sentences may run together, as far as this rank knows."""
    unproved: tuple[str, ...] = ()
    """One text per proof that failed."""

    def record(self, batched: bool) -> dict[str, Any]:
        """The entry ``proof`` of a report's ``run``."""
        return {**self.proof, "batching": "together" if batched else "one sentence at a time"}


@dataclass(frozen=True)
class ProofSentences:
    """The sentences of a probe that its proofs run."""

    shortest: Sentence
    longest: Sentence
    other: Sentence
    pad: int

    @property
    def dummy(self) -> Batch:
        """A batch of the shortest sentence."""
        return collate([self.shortest], self.pad)

    @classmethod
    def of(cls, groups: Sequence[PivotGroup], pad: int) -> "ProofSentences":
        """The shortest pivot sentence with at least 2 tokens, the longest of all, another one."""
        pivots = [sentence for group in groups for sentence in group.pivot.sentences]
        targets = [
            sentence for group in groups for side in group.targets for sentence in side.sentences
        ]
        # With a single token it is ambiguous which axis of a state is which.
        shortest = min(pivots, key=lambda sentence: (len(sentence.ids) < 2, len(sentence.ids)))
        longest = max([*pivots, *targets], key=lambda sentence: len(sentence.ids))
        taken = (shortest.ids, longest.ids)
        others = [sentence for sentence in targets if sentence.ids not in taken]
        return cls(shortest, longest, others[0] if others else targets[0], pad)


class _Prover:
    """Runs one step after the other, each with at most one forward."""

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        config: ProbeConfig,
        sentences: ProofSentences,
        sites: Sequence[str],
        world: World,
    ) -> None:
        self.model, self.forward, self.config = model, forward, config
        self.sentences, self.sites, self.world = sentences, sites, world
        self.alone = tokens_at_once(model, 2) == 1
        """Whether the model refuses more than one sentence."""
        self.forwards = 0
        self.unproved: list[str] = []
        self.sizes: tuple[int, ...] = ()
        self.trace: Trace | None = None
        self.left_out: Mapping[str, Sequence[str]] = {}
        self.factors: FactorProof | None = None
        self.invariance: Invariance | None = None

    def call(self, batch: Batch) -> Sequence[Tensor]:
        """Runs one forward and counts it."""
        self.forwards += 1
        return self.forward(batch)

    def step(self, run: Callable[[], None], proof: str = "") -> None:
        """Collective: runs a step, and notes a proof that fails on any rank."""
        outcome = Outcome()
        try:
            with synchronize_errors(self.world) as outcome:
                run()
        except (TapError, ProbeError):
            kind, _, text = (outcome.error or "").partition(": ")
            if not proof or self.config.on_unproved != "warn" or kind != TapError.__name__:
                raise
            self.unproved.append(f"{proof}: {text}")

    def discover(self, *sentences: Sentence, alone: bool = False) -> taps.TapPlan:
        """The plan that a microbatch of these sentences gives; one may run ``alone``."""
        alone = alone or self.alone
        # With one sentence, sentences and tokens cannot be told apart.
        twice = len(sentences) == 1 and not alone
        batch = collate(sentences * 2 if twice else sentences, self.sentences.pad)

        def run() -> None:
            self.sizes = tuple(states.shape[-1] for states in self.call(batch))

        return taps.discover(
            self.model,
            run,
            neuron_modules=self.config.neuron_modules,
            stack=self.config.stack,
            inspect=self._keep_trace,
            one_at_a_time=alone,
            tokens=None if self.forward.of_transformers else batch.ids,
        )

    def _keep_trace(self, trace: Trace, plan: taps.TapPlan) -> None:
        self.trace = trace

    def find(self) -> None:
        """Finds the plan from the shortest sentence."""
        self.plan = self.discover(self.sentences.shortest)
        self.trace = None

    def find_again(self, *sentences: Sentence, compare: bool) -> None:
        """Finds a plan from other sentences and compares it with the first."""
        self.trace = None
        plan = self.discover(*sentences, alone=True)
        difference = self.plan.difference(plan) if compare else ""
        if difference:
            tokens = [len(sentence.ids) for sentence in (self.sentences.shortest, *sentences)]
            raise TapError(
                "every microbatch must show the same feed-forward networks, but a sentence of"
                f" {tokens[0]} tokens and a microbatch of {len(sentences)} with up to"
                f" {max(tokens[1:])} tokens do not: {difference}; pass the networks that run on"
                " every token as neuron_modules="
            )
        if compare:
            self.plan = self.plan.with_gaps_of(plan)

    def complete(self) -> None:
        """Looks for networks that are not read, in the latest trace."""
        trace, self.trace = self.trace, None
        if trace is not None and self.config.neuron_modules is None:
            self.left_out = completeness.check(trace, self.plan, self.model)

    def recompute(self) -> None:
        """Checks gate and product by experiment."""
        self.factors = proof = FactorProof(self.plan, self.sites)
        copies = [self.sentences.shortest] * COPIES
        if self.alone:
            copies = [Sentence(copies[0].ids[-1:] * COPIES, (False,) * COPIES)]
        with proof.attach(self.model, len(copies[0].ids), len(copies)) as reader:
            reader.begin()
            self.call(collate(copies, self.sentences.pad))
        proof.raise_first()

    def prove_invariance(self) -> None:
        """Compares sentences alone, beside others in another order, and once more.

        A model that refuses more than one sentence runs the others between two runs of the first.
        """
        s = self.sentences
        three = (s.shortest, s.longest, s.other)
        self.invariance = proof = Invariance(
            self.plan, self.model, self.sites, three, self.call, s.pad
        )
        for read in (
            partial(proof.read_alone, 0),
            partial(proof.read_alone, 1),
            partial(proof.read_alone, 2) if self.alone else partial(proof.read_beside, (2, 1, 0)),
            partial(proof.read_again, 0),
            self.check_repeat,
            self.check_axes,
        ):
            self.step(read, INVARIANT)

    def result(self, proofs: Sequence[str]) -> ProvedPlan:
        """The plan with the record of its proofs."""
        invariance, found = self.invariance, self.factors
        record: dict[str, Any] = {
            "proofs": list(proofs),
            "forwards": self.forwards,
            "unproved": list(self.unproved),
            "left_out": {reason: list(paths) for reason, paths in self.left_out.items()},
        }
        if found is not None:
            record["recomputed"] = len(found.checked)
            record["not_recomputed"] = dict(found.unchecked)
        if invariance is not None:
            deviation = invariance.again if self.alone else invariance.beside
            record |= {"flipped": deviation.flipped, "difference": deviation.values}
        batched = not self.alone and (invariance is None or invariance.beside.allowed)
        return ProvedPlan(self.plan, self.sizes, record, batched, tuple(self.unproved))

    def check_axes(self) -> None:
        """Refuses a model that takes sentences for tokens."""
        known = self.forward.of_transformers or self.forward.together is not None
        if self.invariance is not None and not known:
            self.invariance.check_axes()

    def check_repeat(self) -> None:
        """Refuses a model that gives other states each time."""
        invariance = self.invariance
        if invariance is not None and not invariance.again.allowed:
            raise TapError(
                "the states of a sentence must be the same in every forward pass, but"
                f" {invariance.again.flipped:.2%} of its neurons fire otherwise when it runs"
                " again; switch random operations off in eval mode, and keep no state between"
                " forward passes"
            )


def prove(
    model: nn.Module,
    forward: Forward,
    config: ProbeConfig,
    sentences: ProofSentences,
    sites: Sequence[str],
    world: World,
    proofs: Sequence[str] = PROOFS,
) -> ProvedPlan:
    """Finds the neurons of ``model`` and proves that they are read right.

    Collective: every rank runs the same steps.

    Args:
        model: The model.
        forward: Calls it.
        config: The options of the probe.
        sentences: The sentences to run.
        sites: The sites that the probe reads.
        world: The ranks.
        proofs: The proofs to run, of ``PROOFS``.

    Raises:
        TapError: If the neurons cannot be read, or a proof fails and ``on_unproved`` is
            ``"raise"``.
    """
    p = _Prover(model, forward, config, sentences, sites, world)
    twice, shown = FOUND_TWICE in proofs, {FOUND_TWICE, COMPLETE} & set(proofs)
    p.step(p.find)
    if shown:
        p.step(partial(p.find_again, sentences.longest, compare=twice), FOUND_TWICE)
    if COMPLETE in proofs:
        p.step(p.complete, COMPLETE)
    if twice and not p.alone:
        pair = (sentences.shortest, sentences.longest)
        p.step(partial(p.find_again, *pair, compare=True), FOUND_TWICE)
    if RECOMPUTED in proofs and sites:
        p.step(p.recompute, RECOMPUTED)
    if INVARIANT in proofs and sites:
        p.prove_invariance()
    return p.result(proofs)
