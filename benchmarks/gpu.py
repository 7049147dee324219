"""Runs what only a GPU can show, and prints one table.

    python benchmarks/gpu.py [--shape 8B] [--budget 480] [--out F]
    python benchmarks/gpu.py --shape tiny --languages 2 --pairs 6     # on a CPU, to test the script

A part that cannot run, or that starts after ``--budget`` seconds, is one line that says why. The
parts are in ``parts/gpu_parts.py``.
"""

import argparse
import time
from collections.abc import Callable

import torch

import subjects
from neuronxa_callback import ParallelCorpus
from parts.gpu_parts import (
    SMALL,
    CannotRunError,
    Setting,
    bitsandbytes,
    compiled,
    experts,
    fused,
    fused_experts,
    liger,
    run_sharded_rank,
    same_bits,
    sharded,
    speed,
    speed_of_experts,
)

PARTS: dict[str, Callable[[Setting], str]] = {
    "forward and probe, bf16": speed,
    "experts, bf16": speed_of_experts,
    "experts, rows of the kernel": experts,
    "fused and plain sums, bf16": fused,
    "fused and plain sums of experts, bf16": fused_experts,
    "training, deterministic": same_bits,
    "torch.compile": compiled,
    "bitsandbytes, 4 bits": bitsandbytes,
    "Liger": liger,
    "FSDP2 and NCCL": sharded,
}


def rows(setting, budget, parts=PARTS, clock=time.monotonic):
    """One line of Markdown per part; after ``budget`` seconds, parts are only named."""
    began = clock()
    for name, part in parts.items():
        if clock() - began > budget:
            yield f"| {name} | not run: {budget} seconds are used up |"
            continue
        try:
            result = part(setting)
        except CannotRunError as reason:
            result = f"not run: {reason}"
        except Exception as error:
            result = f"FAILED: {type(error).__name__}: {str(error).splitlines()[0]}"
        yield f"| {name} | {result} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=subjects.SHAPES, default="8B")
    parser.add_argument("--languages", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--budget", type=float, default=480, help="seconds")
    parser.add_argument("--sharded-rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("fused",), help=argparse.SUPPRESS)
    parser.add_argument("--out")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    corpus = corpus.select(n_pairs=options.pairs)
    setting = Setting(options.shape, device, corpus, subjects.tokenizer_of(corpus))
    if options.sharded_rank:
        run_sharded_rank(setting)
        return
    if options.only:
        print(fused(setting))
        return
    lines = [
        subjects.heading("What only a GPU can show", device),
        f"Llama {options.shape}, {options.languages} languages x {options.pairs} pairs; parts on"
        f" equal bits and verdicts: Llama {SMALL}, fp32.\n",
        "| part | result |",
        "|---|---|",
        *rows(setting, options.budget),
    ]
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
