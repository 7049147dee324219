"""Probes of tiny models: configurations, models whose sentences differ, the executor alone."""

import torch

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.metrics.registry import reads_of
from neuronxa_callback.probe.batching import collate, microbatches
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.executor import Executor, ProbeContext
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.results import ResultCollector
from neuronxa_callback.probe.sharding import shard_microbatches
from neuronxa_callback.probe.similarity import LayerLayout
from neuronxa_callback.taps.plan import discover
from tests.helpers.tiny import llama, sentences, translated

SITES = {"nas": "gate", "nav": "product", "hidden": "hidden"}


def config_of(corpus, **options):
    """All pairs of a corpus."""
    return ProbeConfig(corpus=corpus, **({"n_pairs": corpus.n_pairs} | options))


def trained(seed=0, **overrides):
    """A model with spread-out weights, so that sentences differ and scores are not all zero."""
    model = llama(seed, **overrides)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def half_translated(n=14):
    """Pairs that have half of their words in common, so that about half of them are aligned."""

    def half(sentence, code):
        words = [(word, translated(word, code)) for word in sentence.split()]
        return " ".join(pair[k % 2] for k, pair in enumerate(words))

    codes = ("deu_Latn", "fra_Latn")
    return ParallelCorpus(
        "eng_Latn",
        {code: tuple((each, half(each, code)) for each in sentences(n)) for code in codes},
    )


def measure(*arguments, **options):
    """What the executor of ``executor_of`` returns."""
    executor = executor_of(*arguments, **options)
    with torch.no_grad():
        return executor.run()


def executor_of(model, tokenizer, config, world=None, collective=False, progress=None):
    """The executor of a probe of a dense model, built from its parts."""
    world, probe = world or World(), Probe(config, tokenizer)
    _, groups = probe.tokenize(model)
    forward = Forward(model, "encoder", True, world.run_together if collective else None)
    dummy = collate(groups[0].pivot.sentences[:1], probe.tokenizer.pad)
    with torch.no_grad():
        sizes = tuple(states.shape[-1] for states in forward(dummy))
    plan = discover(model, lambda: forward(dummy))
    widths = tuple(part.width for part in plan.parts)
    neurons = LayerLayout(tuple(range(len(widths))), widths, (0,) * len(widths))
    hidden = LayerLayout(tuple(range(len(sizes))), sizes, (0,) * len(sizes))
    reads = reads_of(config.metrics, config.diagnostics)
    work = microbatches(groups, config.batch_tokens)
    return Executor(
        ProbeContext(
            model=model,
            forward=forward,
            plan=plan,
            layouts={"nas": neurons, "nav": neurons, "hidden": hidden},
            reads={SITES[read.source]: (read,) for read in reads},
            world=world,
            device=torch.device("cpu"),
            groups=groups,
            stages=shard_microbatches(work, groups, world.size),
            dummy=dummy,
            pad=probe.tokenizer.pad,
            results=ResultCollector(margins=False),
            progress=progress,
        )
    )
