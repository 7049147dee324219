"""What the neuron statistics add to a probe, in CPU time of one thread, paired.

    python benchmarks/neurons/cost.py [--shape 25M] [--pairs 50] [--rounds 10] [--out F]

Each round runs the bare forward pass of the probe's own microbatches, the probe without statistics,
and the probe with them, in alternating order, on one model. The time is that of the process, so
that other programs on the machine disturb it little. The share is that of the bare forward pass.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import forward
import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig

COUNTED = ("overlap", "sharing", "language_neurons")
KINDS = {
    "none": (),
    "counted: overlap, sharing, language neurons": COUNTED,
    "all: beyond_surface, contrast, rivals, too": (
        *COUNTED, "beyond_surface", "contrast", "rivals",
    ),
}  # fmt: skip


def measure(shape, corpus, rounds, batch_tokens):
    """name -> CPU seconds per round, for the bare forward and each kind."""
    model, tokenizer = subjects.llama(shape), subjects.tokenizer_of(corpus)
    calls = {}
    for name, neurons in KINDS.items():
        config = ProbeConfig(
            corpus=corpus, n_pairs=corpus.n_pairs, batch_tokens=batch_tokens, neurons=neurons
        )
        probe = Probe(config, tokenizer)
        calls.setdefault("bare", forward.bare(model, probe, padded=True))
        calls[name] = lambda probe=probe: probe.run(model)
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()  # proves the model, and warms up
    for k in range(rounds):
        for name in list(calls)[:: -1 if k % 2 else 1]:
            began = time.process_time()
            calls[name]()
            seconds[name].append(time.process_time() - began)
    return seconds


def rows(seconds):
    """One line of Markdown per kind: its time, and what it adds to the bare forward."""
    yield "| statistics | median CPU seconds | added, share of bare | minimum | maximum |"
    yield "|---|---|---|---|---|"
    yield f"| bare forward | {statistics.median(seconds['bare']):.2f} | | | |"
    for name in KINDS:
        added = sorted(
            (with_it - without) / bare
            for with_it, without, bare in zip(
                seconds[name], seconds["none"], seconds["bare"], strict=True
            )
        )
        median = f"{statistics.median(added):.3f} | {added[0]:.3f} | {added[-1]:.3f}"
        cells = " | | " if name == "none" else median
        yield f"| {name} | {statistics.median(seconds[name]):.2f} | {cells} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=subjects.SHAPES, default="25M")
    parser.add_argument("--languages", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    pairs = {name: found[: options.pairs] for name, found in known.pairs.items()}
    corpus = ParallelCorpus(known.pivot, pairs)
    seconds = measure(options.shape, corpus, options.rounds, options.batch_tokens)
    lines = [
        subjects.heading("What the neuron statistics add to a probe, in CPU time"),
        f"Llama {options.shape} shape, float32, {len(pairs)} languages x {options.pairs} pairs,"
        f" {options.rounds} paired rounds.\n",
        *rows(seconds),
    ]
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
