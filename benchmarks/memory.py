"""How much memory a probe adds: with 4 languages and with 200, and to the neurons of an 8B Llama.

    python benchmarks/memory.py [--out F]

Each figure is a process of its own: what the probe adds to the peak of resident memory that a bare
forward pass of such microbatches has reached. The C library gives large pieces back when they are
freed, so that the peak is what lives at once and not what it keeps for later.
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
"""The neurons of an 8B Llama between narrow hidden states, to fit a small machine."""
SIZES = (4, 12, 40, 100, 200)
KINDS = ("nasca", "nasca, navca", "default, with diagnostics")
BATCH_TOKENS = 256
ENVIRONMENT = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "OMP_WAIT_POLICY": "PASSIVE"}


def of(languages):
    """Sentences of a few tokens: the vectors are as large, and the work little."""
    names = [f"x{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(languages)]
    pairs = {name: tuple((f"the {p}", f"{name} {p}") for p in range(100)) for name in names}
    return ParallelCorpus("eng_Latn", pairs, name=f"{languages} languages")


def peak():
    """Peak resident memory of this process in MiB, on Linux.

    Not ``ru_maxrss``: a process begins with that of the one that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (most,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(most.split()[1]) / 1024


def added(languages):
    """MiB that the first probe adds."""
    known = ParallelCorpus.builtin("dev", subjects.TWELVE[:6])
    tokenizer, corpus = subjects.tokenizer_of(known), of(languages)
    model = subjects.llama("tiny", **SHAPE)
    probe = Probe(ProbeConfig(corpus=corpus, batch_tokens=BATCH_TOKENS), tokenizer)
    small = ProbeConfig(corpus=of(8), batch_tokens=BATCH_TOKENS)
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


def alone(what):
    """The figure of a number of languages, or of a kind of 8B probe, in a process of its own."""
    words = [sys.executable, __file__, "--one", str(what)]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return float(said.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out")
    parser.add_argument("--one", help="print the figure of this many languages, or of an 8B probe")
    options = parser.parse_args()
    if options.one:
        kind = forward.KINDS.get(options.one)
        print(added(int(options.one)) if kind is None else added_to_8b(*kind))
        return
    found = {size: alone(size) for size in SIZES}
    vectors = 3 * 100 * SHAPE["intermediate_size"] * SHAPE["num_hidden_layers"] * 4 / 2**20
    rows = [f"| {size} | {mib:.0f} | {mib / found[4]:.3f} |" for size, mib in found.items()]
    text = "\n".join(
        [
            subjects.heading("Memory that a probe adds"),
            f"Llama of 4 layers x 8,192 neurons, 100 pairs, default metrics and diagnostics; the"
            f" pivot's vectors are {vectors:.0f} MiB of it.\n",
            "| languages | MiB over the bare forward | of that with 4 |",
            "|---|---|---|",
            *rows,
            "\nThe 32 x 14,336 neurons of an 8B Llama in bfloat16 (hidden size 32), 100 pairs, 3"
            " languages, batch_tokens 4096:\n",
            "| what | MiB over the bare forward |",
            "|---|---|",
            *(f"| {kind} | {alone(kind):.0f} |" for kind in KINDS),
        ]
    )
    subjects.keep(text, options.out)


if __name__ == "__main__":
    main()
