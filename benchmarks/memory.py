"""How much memory a probe adds, with 4 languages and with 200.

    python benchmarks/memory.py [--out F]

Each figure is a process of its own: what the probe adds to the peak of resident memory that a bare
forward pass of its largest microbatches has reached.
"""

import argparse
import gc
import resource
import subprocess
import sys

import forward
import subjects

from neuronxa_callback import Probe, ProbeConfig

SHAPE = {"hidden_size": 128, "intermediate_size": 16384, "num_hidden_layers": 16}
SIZES = (4, 12, 40, 100, 200)


def peak():
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def added(languages):
    """MiB that the first probe adds."""
    known = forward.ParallelCorpus.builtin("dev", subjects.TWELVE[:6])
    tokenizer, corpus = subjects.tokenizer_of(known), subjects.many(languages, 100)
    model = subjects.llama("tiny", **SHAPE)
    probe = Probe(ProbeConfig(corpus=corpus), tokenizer)
    small = ProbeConfig(corpus=subjects.many(4, 100))
    forward.bare(model, Probe(small, tokenizer))()
    probe.tokenised(model)
    gc.collect()
    before = peak()
    probe.run(model)
    return peak() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out")
    parser.add_argument("--one", type=int, help="print the figure of this many languages")
    options = parser.parse_args()
    if options.one:
        print(added(options.one))
        return
    found = {}
    for size in SIZES:
        words = [sys.executable, __file__, "--one", str(size)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found[size] = float(said.split()[-1])
    vectors = 3 * 100 * SHAPE["intermediate_size"] * SHAPE["num_hidden_layers"] * 4 / 2**20
    rows = [f"| {size} | {mib:.0f} | {mib / found[4]:.3f} |" for size, mib in found.items()]
    text = "\n".join(
        [
            subjects.heading("Memory that a probe adds"),
            f"Llama of 16 layers x 16,384 neurons, 100 pairs, default metrics and diagnostics; the"
            f" pivot's vectors are {vectors:.0f} MiB of it.\n",
            "| languages | MiB over the bare forward | of that with 4 |",
            "|---|---|---|",
            *rows,
        ]
    )
    subjects.keep(text, options.out)


if __name__ == "__main__":
    main()
