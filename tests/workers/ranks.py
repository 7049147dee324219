"""What ``torchrun`` starts in test_ranks.py: one scene per call, each rank writes what it saw.

Usage: ranks.py SCENE FOLDER
"""

import gc
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from tests.helpers.tiny import llama, parallel, tokenizer_of

PATIENCE = 3.0
"""Seconds that ranks wait for each other in ``long_probe``."""
LANGUAGES = ("deu_Latn", "fra_Latn", "spa_Latn")


def corpus_of_seven():
    shared = parallel(100, LANGUAGES, seed=5)
    pairs = dict(shared.pairs)
    for k, code in enumerate(("ita_Latn", "nld_Latn", "por_Latn", "ron_Latn")):
        pairs[code] = tuple((a, b + "o" * (k + 1)) for a, b in shared.pairs["deu_Latn"])
    return ParallelCorpus("eng_Latn", pairs)


def texts_of(corpus):
    return [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]


def plain(report):
    found = report.to_dict()
    found.pop("run")
    return json.dumps(found, sort_keys=True)


def write(folder, text):
    (Path(folder) / f"{dist.get_rank()}.json").write_text(text)


def spread(seed=0):
    model = llama(seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def shared_pivot(folder):
    corpus = corpus_of_seven()
    config = ProbeConfig(corpus=corpus, metrics=("nasca", "navca", "mexa"), batch_tokens=512)
    report = Probe(config, tokenizer_of(texts_of(corpus))).run(spread())
    write(folder, plain(report))


def own_pivots(folder):
    corpus = ParallelCorpus(
        "eng_Latn",
        {
            code: parallel(20, (code,), seed=k).pairs[code]
            for k, code in enumerate((*LANGUAGES, *LANGUAGES[:0]))
        },
    )
    config = ProbeConfig(corpus=corpus, n_pairs=20, batch_tokens=128)
    report = Probe(config, tokenizer_of(texts_of(corpus))).run(spread())
    write(folder, plain(report))


def fault_on_one_rank(folder):
    """A hook of ours fails on rank 1: every rank raises, with that rank's words."""
    from neuronxa_callback.probe.similarity import SimilarityAccumulator

    corpus = corpus_of_seven()
    config = ProbeConfig(corpus=corpus, batch_tokens=512)
    probe = Probe(config, tokenizer_of(texts_of(corpus)))
    model = spread()
    whole = SimilarityAccumulator.dense
    if dist.get_rank() == 1:
        SimilarityAccumulator.dense = _failing(whole)
    try:
        probe.run(model)
        words = "no error"
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
    SimilarityAccumulator.dense = whole
    after = probe.run(model)
    write(folder, json.dumps([words, plain(after), probe.batch_tokens]))


def long_probe(folder):
    """Twice as long as ranks may wait for each other, which is then seen to be in force."""
    corpus = corpus_of_seven()
    probe = Probe(ProbeConfig(corpus=corpus, batch_tokens=512), tokenizer_of(texts_of(corpus)))
    model = spread()
    dist.barrier()
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=PATIENCE))
    slowed = model.register_forward_pre_hook(lambda *_: time.sleep(PATIENCE / 6))
    report = probe.run(model)
    slowed.remove()
    if dist.get_rank() == 1:
        time.sleep(PATIENCE + 8)
    try:
        dist.all_reduce(torch.ones(1))
        words = "nobody is waited for too long"
    except RuntimeError as error:
        words = str(error)
    write(folder, json.dumps([report.run["seconds"] / PATIENCE, report.score("nasca"), words]))


def memory_on_one_rank(folder):
    from neuronxa_callback.probe.similarity import SimilarityAccumulator

    corpus = corpus_of_seven()
    probe = Probe(ProbeConfig(corpus=corpus, batch_tokens=512), tokenizer_of(texts_of(corpus)))
    model = spread()
    whole = SimilarityAccumulator.dense
    if dist.get_rank() == 1:
        SimilarityAccumulator.dense = _failing(whole, torch.OutOfMemoryError("no room"))
    try:
        probe.run(model)
        words = "no error"
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
    SimilarityAccumulator.dense = whole
    after = probe.run(model)
    used = after.fingerprint["environment"]["batch_tokens"]
    write(folder, json.dumps([words, used, probe.batch_tokens]))


def forward_fails_on_one_rank(folder):
    """The model itself fails on one rank where forwards are not collective: survived by all."""
    corpus = corpus_of_seven()
    probe = Probe(ProbeConfig(corpus=corpus, batch_tokens=512), tokenizer_of(texts_of(corpus)))
    model = spread()
    if dist.get_rank() == 1:
        calls = []

        def fail(module, args, kwargs):
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("a kernel broke")

        handle = model.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        probe.run(model)
        words = "no error"
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
    if dist.get_rank() == 1:
        handle.remove()
    write(folder, json.dumps([words, plain(probe.run(model))]))


def fsdp2(folder):
    from torch.distributed.fsdp import fully_shard

    corpus = corpus_of_seven()
    config = ProbeConfig(corpus=corpus, metrics=("nasca", "navca", "mexa"), batch_tokens=512)
    model = spread()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    report = Probe(config, tokenizer_of(texts_of(corpus))).run(model)
    write(folder, plain(report))


def tensor_parallel(folder):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    corpus = corpus_of_seven()
    config = ProbeConfig(corpus=corpus, metrics=("nasca", "navca", "mexa"), batch_tokens=512)
    model = spread()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",))
    plan = {"gate_proj": ColwiseParallel(), "up_proj": ColwiseParallel()}
    plan["down_proj"] = RowwiseParallel()
    for layer in model.model.layers:
        parallelize_module(layer.mlp, mesh, plan)
    report = Probe(config, tokenizer_of(texts_of(corpus)), mesh=mesh).run(model)
    write(folder, plain(report))


def _failing(whole, error=None):
    def dense(self, part, site, states, start):
        if part == 2:
            raise error or ValueError("a hook broke")
        whole(self, part, site, states, start)

    return dense


def leave():
    """Part from the other ranks, with gloo's threads at an end.

    A thread that still lets go of a tensor while Python shuts down aborts the process, and a DDP
    wrapper that nobody has collected keeps the group and its threads alive.
    """
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    globals()[sys.argv[1]](sys.argv[2])
    leave()
