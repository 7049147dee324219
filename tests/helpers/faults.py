"""Faults on one rank, at every kind of place of a probe, and what each rank makes of them."""

from contextlib import contextmanager
from unittest import mock

import torch
import torch.distributed as dist

from neuronxa_callback import Probe, StopRule
from neuronxa_callback.history.history import History
from neuronxa_callback.history.schedule import ProbeSchedule
from neuronxa_callback.probe import diagnostics, executor, fingerprint, pivot_drift
from neuronxa_callback.probe import probe as steps
from neuronxa_callback.probe.executor import Executor
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.pooling import Pooling
from neuronxa_callback.probe.proof import prove
from neuronxa_callback.probe.proof.invariance import Invariance
from neuronxa_callback.probe.results import ResultCollector
from neuronxa_callback.probe.similarity import SimilarityAccumulator
from neuronxa_callback.probe.training_probe import TrainingProbe
from neuronxa_callback.show import probe_line
from neuronxa_callback.show.sink_group import SinkGroup
from neuronxa_callback.taps.discovery import Discovery
from neuronxa_callback.taps.plan import TapPlan
from neuronxa_callback.taps.proof.factors import FactorProof
from neuronxa_callback.taps.trace import Trace
from tests.helpers.ranks import error_of, measurement

PROOF = {
    "starting the recording": (Trace, "_before", 1),
    "recording a call": (Trace, "_after", 9),
    "recording an operation": (Trace, "_record_operation", 40),
    "finding networks": (Discovery, "networks", 1),
    "finding networks again": (Discovery, "networks", 2),
    "collating for a proof": (prove, "collate", 4),
    "completeness": (prove.completeness, "check", 1),
    "a hook of a proof": (FactorProof, "_overwrite", 2),
    "a read of a proof": (FactorProof, "_receive", 2),
    "sentences beside others": (Invariance, "read_beside", 1),
    "comparing sentences": (Invariance, "_compare", 1),
    "the proof's record": (prove._Prover, "result", 1),
}
"""Where the first probe of a model fails: owner of a function, its name, the call that fails."""

PLACES = {
    "the ranks": (steps, "world_of", 1),
    "tokenizing": (Probe, "tokenize", 1),
    "composing microbatches": (steps, "microbatches", 1),
    "describing the work": (fingerprint, "shared_work", 1),
    "sharding": (steps, "shard_microbatches", 1),
    "attaching hooks": (TapPlan, "attach", 1),
    "making a pivot": (SimilarityAccumulator, "empty_pivot", 1),
    "collating": (executor, "collate", 3),
    "preparing a microbatch": (SimilarityAccumulator, "begin", 3),
    "arguments of the model": (Forward, "_options", 3),
    "reading neurons": (SimilarityAccumulator, "dense", 8),
    "pooling": (Pooling, "dense", 20),
    "reading hidden states": (SimilarityAccumulator, "hidden", 2),
    "filling a pivot": (SimilarityAccumulator, "fill_pivot", 1),
    "sums of a microbatch": (SimilarityAccumulator, "partial_similarity", 2),
    "counting neurons": (SimilarityAccumulator, "_neurons_per_layer", 2),
    "exchanging a pivot": (Executor, "_exchange_pivots", 1),
    "sums of a window": (Executor, "_sum_window", 1),
    "scoring a language": (Executor, "_score_language", 2),
    "cosines": (executor.alignment, "cosines", 2),
    "keeping a result": (ResultCollector, "add_similarity", 3),
    "drift": (pivot_drift, "_directions", 2),
    "diagnostics": (diagnostics, "tokens", 1),
    "scores": (steps, "metric_scores", 2),
    "the fingerprint": (fingerprint, "model_part", 1),
    "the report": (steps, "AlignmentReport", 1),
    "freeing memory": (steps, "free_memory", 1),
    "measures of one's own": (steps, "settle", 1),
    "the time": (steps, "run_info", 1),
}
"""The same for any probe."""

MEMORY = ("collating for a proof", "a read of a proof", "filling a pivot", "arguments of the model")
MEMORY += ("reading neurons", "pooling", "sums of a microbatch", "sums of a window", "drift")
"""Places at which memory runs out too."""

CALLBACK = {
    "adding to the curve": (History, "append", 2),
    "a stop rule": (StopRule, "reason", 2),
    "printing": (probe_line, "line", 2),
    "the interval": (ProbeSchedule, "min_interval", 1),
    "making sinks": (SinkGroup, "open", 1),
    "metrics of an evaluation": (TrainingProbe, "evaluation_metrics", 1),
}
"""The same for the callback between two probes; the last two end a run."""


@contextmanager
def fault(place, error, rank=1):
    """One call of a function raises an error on one rank."""
    owner, name, number = place
    whole, seen = getattr(owner, name), []

    def failing(*arguments, **options):
        seen.append(1)
        if len(seen) == number and dist.get_rank() == rank:
            raise error
        return whole(*arguments, **options)

    with mock.patch.object(owner, name, failing):
        yield
    assert len(seen) >= number or dist.get_rank() != rank, f"{name} ran {len(seen)} times"


def faults(make_probe, model):
    """Place -> (the error of this rank, whether the next probe is the right one bit for bit)."""
    right, found = measurement(make_probe().run(model)), {}
    probe = make_probe()
    assert measurement(probe.run(model)) == right

    def fail(name, place, error, probe):
        with fault(place, error):
            message = error_of(lambda: probe.run(model))
        tokens, probe.batch_tokens = probe.batch_tokens, probe.config.batch_tokens
        found[name] = [message, measurement(probe.run(model)) == right, tokens]

    for name, place in PROOF.items():
        fail(name, place, ValueError(name), make_probe())
    for name, place in PLACES.items():
        fail(name, place, ValueError(name), probe)
    for name in MEMORY:
        place = {**PROOF, **PLACES}[name]
        own = make_probe() if name in PROOF else probe
        fail(f"memory: {name}", place, torch.OutOfMemoryError(name), own)
    return found
