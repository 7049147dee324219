"""Runs what only a GPU can show, and prints one table.

    python benchmarks/gpu.py [--shape 8B] [--budget 480] [--out F]
    python benchmarks/gpu.py --shape tiny --languages 2 --pairs 6     # on a CPU, to test the script

A part that cannot run, or that starts after ``--budget`` seconds, is one line that says why.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import forward
import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from operators_of import Counts

SMALL = "tiny"
"""The shape in the parts that compare bits or verdicts."""


class CannotRunError(Exception):
    """Says which thing a part lacks."""


@dataclass(frozen=True)
class Setting:
    """What all parts share."""

    shape: str
    device: str
    corpus: ParallelCorpus
    tokenizer: Any

    def small(self, **options):
        """A small model in fp32."""
        return subjects.llama(SMALL, torch.float32, self.device, **options)

    def probe(self):
        """A probe with default metrics and diagnostics."""
        config = ProbeConfig(corpus=self.corpus, n_pairs=self.corpus.n_pairs)
        return Probe(config, self.tokenizer)

    def hits(self, model):
        """metric -> hits of a probe of the model."""
        report = self.probe().run(model)
        return {name: scores.hits for name, scores in report.metrics.items()}


def speed(setting):
    """Seconds, ratio, peak memory and launches of a forward pass in bf16."""
    model = subjects.llama(setting.shape, torch.bfloat16, setting.device)
    probe = setting.probe()
    bare = forward.bare(model, probe, padded=True)
    calls = {"bare": bare, "probe": lambda: probe.run(model)}
    seconds = subjects.paired(calls, 3, setting.device)
    ratio = subjects.ratios(seconds, "bare")["probe"][0]
    counts, peaks = {}, {}
    for name, call in calls.items():
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with Counts(setting.device) as counted:
            call()
        counts[name] = counted.launches.total()
        if setting.device == "cuda":
            peaks[name] = torch.cuda.max_memory_allocated() / 2**30
    peak = f", peak {peaks['bare']:.2f} and {peaks['probe']:.2f} GiB" if peaks else ""
    return (
        f"bare {min(seconds['bare']):.3f} s, probe {min(seconds['probe']):.3f} s, median ratio"
        f" {ratio:.3f}, launches {counts['bare']} and {counts['probe']}{peak}"
    )


def same_bits(setting):
    """Training under deterministic algorithms, with and without probes between its steps."""
    weights = []
    torch.use_deterministic_algorithms(True)
    try:
        for probing in (False, True):
            model, probe = setting.small(attention_dropout=0.1).train(), setting.probe()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            torch.manual_seed(1)
            for _ in range(3):
                ids = torch.randint(5, 8000, (4, 16), device=setting.device)
                model(input_ids=ids, labels=ids).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                if probing:
                    probe.run(model)
            weights.append([weight.detach().clone() for weight in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    equal = all(torch.equal(one, two) for one, two in zip(*weights, strict=True))
    return "weights equal in every bit" if equal else "WEIGHTS DIFFER"


def compiled(setting):
    """A model that torch.compile has compiled, before and after a compiled forward pass."""
    model = setting.small()
    eager = setting.hits(model)
    whole = torch.compile(model, backend="inductor" if setting.device == "cuda" else "eager")
    ids = torch.randint(5, 8000, (4, 16), device=setting.device)
    with torch.no_grad():
        whole(input_ids=ids)
    return _same(setting.hits(whole), eager)


def bitsandbytes(setting):
    """Weights in 4 bits."""
    _require("bitsandbytes")
    if setting.device != "cuda":
        raise CannotRunError("needs CUDA")
    with tempfile.TemporaryDirectory() as folder:
        setting.small().save_pretrained(folder)
        quantized = BitsAndBytesConfig(load_in_4bit=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=quantized, device_map=0
        )
    return f"mean NASCA {setting.probe().run(model).score('nasca'):.3f}"


def liger(setting):
    """Liger's kernels in place of the model's own networks."""
    _require("liger_kernel")
    if setting.device != "cuda":
        raise CannotRunError("needs CUDA")
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    model = setting.small()
    eager = setting.hits(model)
    apply_liger_kernel_to_llama(model=model)
    return _same(setting.hits(model), eager)


def sharded(setting):
    """FSDP2 over all GPUs with NCCL."""
    if torch.cuda.device_count() < 2:
        raise CannotRunError("needs two GPUs")
    command = (
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={torch.cuda.device_count()}", __file__, "--sharded-rank",
        f"--languages={len(setting.corpus.languages)}", f"--pairs={setting.corpus.n_pairs}",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip().splitlines()[-1]


def run_sharded_rank(setting):
    """One rank of ``sharded``; the first rank prints."""
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("nccl")
    torch.cuda.set_device(torch.distributed.get_rank())
    model = setting.small()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    hits = setting.hits(model)
    if torch.distributed.get_rank() == 0:
        print(f"{torch.distributed.get_world_size()} GPUs: {sum(map(len, hits.values()))} curves")
    torch.distributed.destroy_process_group()


PARTS: dict[str, Callable[[Setting], str]] = {
    "forward and probe, bf16": speed,
    "training, deterministic": same_bits,
    "torch.compile": compiled,
    "bitsandbytes, 4 bits": bitsandbytes,
    "Liger": liger,
    "FSDP2 and NCCL": sharded,
}


def _require(package):
    if importlib.util.find_spec(package) is None:
        raise CannotRunError(f"{package} is not installed")


def _same(hits, expected):
    return "verdicts equal those of the eager model" if hits == expected else "VERDICTS DIFFER"


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
    parser.add_argument("--out")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    corpus = corpus.select(n_pairs=options.pairs)
    setting = Setting(options.shape, device, corpus, subjects.tokenizer_of(corpus))
    if options.sharded_rank:
        run_sharded_rank(setting)
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
