"""What ``torchrun`` starts in test_ranks.py: one scene per call; each rank writes its result.

Usage: ranks.py SCENE FOLDER
"""

import json
import os
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from neuronxa_callback import (
    NeuronXACallback,
    ParallelCorpus,
    Probe,
    ProbeConfig,
    StopRule,
)
from neuronxa_callback.probe.similarity import SimilarityAccumulator
from tests.helpers.ranks import (
    LANGUAGES,
    NEURONS,
    error_of,
    leave,
    measurement,
    noisy_llama,
    probe_of_seven,
    texts_of,
)
from tests.helpers.runs import TEXTS, trainer_of
from tests.helpers.tiny import llama, parallel, tokenizer_of

DEFAULT_METRICS = ("nasca", "navca")
TIMEOUT = 3.0
"""Seconds that ranks wait for each other in ``long_probe``."""


def write(folder, text):
    (Path(folder) / f"{dist.get_rank()}.json").write_text(text)


def shared_pivot(folder):
    write(folder, measurement(probe_of_seven().run(noisy_llama())))


def neurons(folder):
    write(folder, measurement(probe_of_seven(neurons=NEURONS).run(noisy_llama())))


def loss(folder):
    write(folder, measurement(probe_of_seven(diagnostics=("loss",)).run(noisy_llama())))


def language_pairs(folder):
    """All pairs of languages in two blocks of layers, and a rank with no pair of its own."""
    probe = probe_of_seven(language_pairs_gib=6e-4)
    report = probe.run(noisy_llama(), pivot="all")
    write(folder, json.dumps([measurement(report), report.run["pair_passes"]]))


def own_pivots(folder):
    pairs = {code: parallel(20, (code,), seed=k).pairs[code] for k, code in enumerate(LANGUAGES)}
    corpus = ParallelCorpus("eng_Latn", pairs)
    config = ProbeConfig(corpus=corpus, n_pairs=20, batch_tokens=128)
    write(folder, measurement(Probe(config, tokenizer_of(texts_of(corpus))).run(noisy_llama())))


def fault_on_one_rank(folder):
    """A hook of the package fails on rank 1: every rank raises, with that rank's message."""
    probe, model = probe_of_seven(DEFAULT_METRICS), noisy_llama()
    message = failing_hook(probe, model, ValueError("a hook broke"))
    write(folder, json.dumps([message, measurement(probe.run(model)), probe.batch_tokens]))


def memory_on_one_rank(folder):
    probe, model = probe_of_seven(DEFAULT_METRICS), noisy_llama()
    message = failing_hook(probe, model, torch.OutOfMemoryError("no room"))
    used = probe.run(model).fingerprint["environment"]["batch_tokens"]
    write(folder, json.dumps([message, used, probe.batch_tokens]))


def failing_hook(probe, model, error):
    """The error of a probe in which the hook of one layer fails on rank 1."""
    whole = SimilarityAccumulator.dense

    def dense(self, part, site, states, start):
        if part == 2 and dist.get_rank() == 1:
            raise error
        whole(self, part, site, states, start)

    with mock.patch.object(SimilarityAccumulator, "dense", dense):
        return error_of(lambda: probe.run(model))


def long_probe(folder):
    """A probe in which ranks wait for each other more often than one time-out is long.

    Then the time-out is shown to be in force: rank 1 comes too late to an exchange.
    """
    probe, model = probe_of_seven(DEFAULT_METRICS), noisy_llama()
    dist.barrier()
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=TIMEOUT))
    forwards = []

    def slow(*_):
        forwards.append(1)
        time.sleep(TIMEOUT / 6)

    handle = model.register_forward_pre_hook(slow)
    report = probe.run(model)
    handle.remove()
    if dist.get_rank() == 1:
        time.sleep(TIMEOUT + 8)
    late = error_of(lambda: dist.all_reduce(torch.ones(1)))
    write(folder, json.dumps([len(forwards) / 6, report.score("nasca"), late]))


def forward_fails_on_one_rank(folder):
    """The model itself fails on one rank where forwards are not collective: all ranks survive."""
    probe, model = probe_of_seven(DEFAULT_METRICS), noisy_llama()
    calls = []

    def fail(module, args, kwargs):
        calls.append(1)
        if len(calls) == 4 and dist.get_rank() == 1:
            raise RuntimeError("a kernel broke")

    handle = model.register_forward_pre_hook(fail, with_kwargs=True)
    message = error_of(lambda: probe.run(model))
    handle.remove()
    write(folder, json.dumps([message, measurement(probe.run(model))]))


def fsdp2(folder, **options):
    from torch.distributed.fsdp import fully_shard

    model = noisy_llama()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    write(folder, measurement(probe_of_seven(**options).run(model)))


def fsdp2_loss(folder):
    fsdp2(folder, diagnostics=("loss",))


def tensor_parallel(folder):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    model = noisy_llama()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",))
    plan = {"gate_proj": ColwiseParallel(), "up_proj": ColwiseParallel()}
    plan["down_proj"] = RowwiseParallel()
    for layer in model.model.layers:
        parallelize_module(layer.mlp, mesh, plan)
    write(folder, measurement(probe_of_seven(mesh=mesh).run(model)))


def different_work(folder):
    """Rank 1 holds other work than rank 0 in one respect at a time; then both hold the same."""
    model, rank = noisy_llama(), dist.get_rank()
    corpus = parallel(20, LANGUAGES)
    tokenizer = tokenizer_of(texts_of(corpus))
    config = ProbeConfig(corpus=corpus, n_pairs=20, batch_tokens=128)
    turned = {code: corpus.pairs[code] for code in reversed(LANGUAGES)}
    swapped = {code: pairs[::-1] for code, pairs in corpus.pairs.items()}
    others = {
        "order of languages": {"languages": LANGUAGES[::-1]},
        "order in the corpus": {"corpus": ParallelCorpus("eng_Latn", turned)},
        "fewer languages": {"languages": LANGUAGES[:2]},
        "fewer pairs": {"n_pairs": 19},
        "order of pairs": {"corpus": ParallelCorpus("eng_Latn", swapped)},
        "metrics": {"metrics": ("nasca", "mexa")},
        "site": {"nav_site": "gate"},
        "special tokens": {"special_tokens": False},
        "diagnostics": {"diagnostics": ()},
        "batch_tokens": {"batch_tokens": 64},
        "layers": {"neuron_modules": _first_layers},
    }
    found = {}
    for name, options in others.items():
        probe = Probe(replace(config, **(options if rank == 1 else {})), tokenizer)
        found[name] = error_of(lambda probe=probe: probe.run(model))
    other = tokenizer_of(texts_of(corpus)[::3], vocab_size=290)
    probe = Probe(config, tokenizer if rank == 0 else other)
    found["tokenizer"] = error_of(lambda: probe.run(model))
    smaller = noisy_llama() if rank == 0 else llama(num_hidden_layers=2)
    probe = Probe(config, tokenizer)
    found["model"] = error_of(lambda: probe.run(smaller))
    # As a set: the order of hashes differs between processes.
    probe = Probe(replace(config, languages={*LANGUAGES}), tokenizer)
    found["report"] = measurement(probe.run(model))
    write(folder, json.dumps(found))


def _first_layers(model):
    return [f"model.layers.{k}.mlp.down_proj" for k in range(3 - dist.get_rank())]


def different_options(folder):
    """Options of the callback that differ on rank 1, and a corpus that only rank 0 can read."""
    rank, found = dist.get_rank(), {}
    corpus = parallel(20)
    tokenizer = tokenizer_of(texts_of(corpus) + TEXTS)
    config = ProbeConfig(corpus=corpus, n_pairs=20, batch_tokens=128)
    path = Path(folder) / f"corpus-{rank}"
    options = {
        "every": {"every": 2},
        "stop": {"stop": StopRule.collapse(drop=0.2)},
        "max_overhead": {"max_overhead": 0.5},
        "on_error": {"on_error": "raise"},
        "corpus": {"config": replace(config, corpus=str(path))},
    }
    if rank == 0:
        path.mkdir()
        for code, column in (("eng_Latn", 0), ("deu_Latn", 1)):
            lines = [pair[column] + "\n" for pair in corpus.pairs["deu_Latn"]]
            (path / f"{code}.txt").write_text("".join(lines))
    for name, given in options.items():
        differs = given if rank == 1 or name == "corpus" else {}
        callback = NeuronXACallback(**{"config": config, **differs})
        trainer = trainer_of(tokenizer, Path(folder) / name, [callback])
        found[name] = error_of(trainer.train)
    write(folder, json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    globals()[sys.argv[1]](sys.argv[2])
    leave()
