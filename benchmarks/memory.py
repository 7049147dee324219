"""Measures the memory that a probe adds: 4 to 200 languages, and an 8B Llama's number of neurons.

    python benchmarks/memory.py [--sizes 4 12 40 100 200] [--out F]

Each figure comes from a separate process: the peak resident memory of a probe minus the peak of a
bare forward pass of such microbatches. The C library is set to return large blocks when they are
freed, so the peak counts live memory only.
"""

import argparse
import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

import forward
import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig

SHAPE = {"hidden_size": 32, "intermediate_size": 8192, "num_hidden_layers": 4}
AS_8B = {"hidden_size": 32, "intermediate_size": 14336, "num_hidden_layers": 32}
"""The neurons of an 8B Llama with a small hidden size, so that it fits a small machine."""
SIZES = (4, 12, 40, 100, 200)
KINDS = ("nasca", "nasca, navca", "default, with diagnostics")
BATCH_TOKENS = 256
ENVIRONMENT = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "OMP_WAIT_POLICY": "PASSIVE"}


def short_corpus(languages):
    """Sentences of a few tokens: vectors of full size from little computation."""
    names = [f"x{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(languages)]
    pairs = {name: tuple((f"the {p}", f"{name} {p}") for p in range(100)) for name in names}
    return ParallelCorpus("eng_Latn", pairs, name=f"{languages} languages")


def peak():
    """Peak resident memory of this process in MiB, on Linux.

    Not ``ru_maxrss``, because a process inherits the value of its parent.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak_line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak_line.split()[1]) / 1024


def added(languages):
    """MiB that the first probe adds with this many languages."""
    known = ParallelCorpus.builtin("dev", subjects.TWELVE[:6])
    tokenizer, corpus = subjects.tokenizer_of(known), short_corpus(languages)
    model = subjects.llama("tiny", **SHAPE)
    probe = Probe(ProbeConfig(corpus=corpus, batch_tokens=BATCH_TOKENS), tokenizer)
    small = ProbeConfig(corpus=short_corpus(8), batch_tokens=BATCH_TOKENS)
    forward.bare(model, Probe(small, tokenizer))()
    probe.tokenize(model)
    gc.collect()
    before = peak()
    probe.run(model)
    return peak() - before


def added_to_8b(metrics, diagnostics):
    """MiB that the first probe adds in bf16, with real sentences and the default microbatches."""
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[:3])
    tokenizer = subjects.tokenizer_of(corpus)
    model = subjects.llama("tiny", torch.bfloat16, **AS_8B)
    options = {} if diagnostics is None else {"diagnostics": diagnostics}
    config = ProbeConfig(corpus=corpus, metrics=metrics, **options)
    probe = Probe(config, tokenizer)
    forward.bare(model, probe)()
    gc.collect()
    before = peak()
    probe.run(model)
    return peak() - before


def measure_in_process(case):
    """MiB of a number of languages, or of a kind of 8B probe, measured in a new process."""
    command = [sys.executable, __file__, "--one", str(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return float(done.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of languages")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="8B probes")
    parser.add_argument("--out")
    parser.add_argument(
        "--one", help="measure this number of languages or this kind of 8B probe only"
    )
    options = parser.parse_args()
    if options.one:
        kind = forward.KINDS.get(options.one)
        print(added(int(options.one)) if kind is None else added_to_8b(*kind))
        return
    by_size = {size: measure_in_process(size) for size in options.sizes}
    vectors = 3 * 100 * SHAPE["intermediate_size"] * SHAPE["num_hidden_layers"] * 4 / 2**20
    rows = [
        f"| {size} | {mib:.0f} | {mib / by_size[options.sizes[0]]:.3f} |"
        for size, mib in by_size.items()
    ]
    text = "\n".join(
        [
            subjects.heading("Memory that a probe adds"),
            f"Llama of 4 layers x 8,192 neurons, 100 pairs, default metrics and diagnostics; the"
            f" pivot's vectors are {vectors:.0f} MiB of each figure.\n",
            "| languages | MiB above the bare forward | ratio to the first row |",
            "|---|---|---|",
            *rows,
            "\nThe 32 x 14,336 neurons of an 8B Llama in bfloat16 (hidden size 32), 100 pairs, 3"
            " languages, batch_tokens 4096:\n",
            "| what | MiB above the bare forward |",
            "|---|---|",
            *(f"| {kind} | {measure_in_process(kind):.0f} |" for kind in options.kinds),
        ]
    )
    subjects.keep(text, options.out)


if __name__ == "__main__":
    main()
