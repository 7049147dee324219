"""What tests and the workers that torchrun starts have in common."""

import gc
import json
import logging

import torch
import torch.distributed as dist

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from tests.helpers.scripted import ScriptedCallback
from tests.helpers.tiny import llama, parallel, tokenizer_of

LANGUAGES = ("deu_Latn", "fra_Latn", "spa_Latn")
COUNTED = ("overlap", "sharing", "language_neurons")
NEURONS = (*COUNTED, "beyond_surface", "contrast", "rivals")
METRICS = ("nasca", "navca", "mexa")
SEVEN = ("deu_Latn", "fra_Latn", "spa_Latn", "ita_Latn", "nld_Latn", "por_Latn", "swh_Latn")
BUILTIN = ProbeConfig(languages=SEVEN, metrics=METRICS, batch_tokens=2048)
SMALL = ProbeConfig(corpus=parallel(20), n_pairs=20, batch_tokens=128)
ONE = ProbeConfig(corpus=parallel(20, ("deu_Latn",)), n_pairs=20, batch_tokens=128)

PLACES = {
    "ddp hook": (False, "dense", 20),
    "ddp pivot": (False, "empty_pivot", 1),
    "ddp columns": (False, "partial_similarity", 2),
    "fsdp2 hook": (True, "dense", 20),
    "fsdp2 begin": (True, "begin", 2),
    "fsdp2 columns": (True, "partial_similarity", 1),
}
"""Where memory runs out: sharded weights, the method of ``SimilarityAccumulator``, its call."""


def corpus_of_seven():
    shared = parallel(100, LANGUAGES, seed=5)
    pairs = dict(shared.pairs)
    for k, code in enumerate(("ita_Latn", "nld_Latn", "por_Latn", "ron_Latn")):
        pairs[code] = tuple((a, b + "o" * (k + 1)) for a, b in shared.pairs["deu_Latn"])
    return ParallelCorpus("eng_Latn", pairs)


def texts_of(corpus):
    return [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]


def probe_of_seven(metrics=METRICS, mesh=None, **options):
    """A probe of seven languages that share their pivot, with many microbatches."""
    corpus = corpus_of_seven()
    config = ProbeConfig(corpus=corpus, metrics=metrics, batch_tokens=512, **options)
    return Probe(config, tokenizer_of(texts_of(corpus)), mesh=mesh)


def noisy_llama(seed=0):
    """A model whose sentences differ enough that some pairs are aligned and some are not."""
    model = llama(seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def measurement(report):
    """A report as JSON, without what is about the run."""
    record = report.to_dict()
    record.pop("run")
    return json.dumps(record, sort_keys=True)


class Watch:
    """The reports of this rank by step, and its warnings."""

    def __init__(self):
        self.reports, self.warned = {}, []

    def callback(self, config, **options):
        """A callback whose reports are watched."""
        return ScriptedCallback(config, self.see, **options)

    def see(self, report):
        self.reports[report.step] = measurement(report)
        return report

    def __enter__(self):
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.warned.append(record.getMessage())
        logging.getLogger("neuronxa_callback").addHandler(self.handler)
        return self

    def __exit__(self, *error):
        logging.getLogger("neuronxa_callback").removeHandler(self.handler)


def error_of(act):
    """The type and message of the error that a function raises."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def leave():
    """Ends the process group, after gloo's threads have finished.

    A thread that still releases a tensor while Python shuts down aborts the process, and a DDP
    wrapper that is not collected yet keeps the group and its threads alive.
    """
    gc.collect()
    dist.destroy_process_group()
