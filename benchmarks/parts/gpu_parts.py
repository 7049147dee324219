"""The parts of ``gpu.py``: each runs one thing that only a GPU can show, and returns one line."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import forward
import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.probe import similarity
from parts.operator_counts import Counts

SCRIPT = str(Path(__file__).parents[1] / "gpu.py")
SMALL = "tiny"
"""The shape in the parts that compare bits or verdicts."""
FITS = {"8B": "1B"}
"""Shape -> that of a mixture of experts, which has several times as many weights."""


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
    return _speed(setting, subjects.llama(setting.shape, torch.bfloat16, setting.device))


def speed_of_experts(setting):
    """The same for a mixture of experts that fits on one card."""
    shape = FITS.get(setting.shape, setting.shape)
    model = subjects.build(shape, True, torch.bfloat16, setting.device)
    return f"{subjects.name_of(shape, True)}: {_speed(setting, model)}"


def _speed(setting, model):
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


def fused(setting):
    """The kernels against the plain path: seconds and launches; verdicts of a small model."""
    return _fused(setting, setting.shape, of_experts=False)


def fused_experts(setting):
    """The same of routed experts, in a shape that fits on one card."""
    if setting.device != "cuda":
        # Triton's interpreter would take minutes.
        raise CannotRunError("needs CUDA")
    return _fused(setting, FITS.get(setting.shape, setting.shape), of_experts=True)


def _fused(setting, shape, of_experts):
    _require("triton")
    if setting.device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        # Triton reads this when it is imported.
        return _run_again(setting, [sys.executable, SCRIPT, "--only", "fused"])
    seconds, launches, hits = {}, {}, {}
    model = subjects.build(shape, of_experts, torch.bfloat16, setting.device)
    for name in ("fused", "plain"):
        with _without_kernels() if name == "plain" else nullcontext():
            probe = setting.probe()
            probe.run(model)
            seconds[name] = min(
                subjects.seconds_of(lambda probe=probe: probe.run(model), setting.device)
                for _ in range(3 if setting.device == "cuda" else 1)
            )
            with Counts(setting.device) as counted:
                ran = probe.run(model).fingerprint["environment"]["reduction"]
            launches[name] = counted.launches.total()
            if ran != name:
                raise RuntimeError(f"the {name} path must run, but the report says {ran}")
            small = subjects.build(SMALL, of_experts, torch.float32, setting.device)
            hits[name] = setting.hits(small)
    equal = [metric for metric in hits["plain"] if hits["fused"][metric] == hits["plain"][metric]]
    differ = [metric for metric in hits["plain"] if metric not in equal]
    return (
        f"{seconds['fused']:.3f} s against {seconds['plain']:.3f} s, launches"
        f" {launches['fused']} against {launches['plain']};"
        f" verdicts {'equal: ' + ', '.join(equal) if not differ else 'DIFFER: ' + str(differ)}"
    )


@contextmanager
def _without_kernels():
    """The plain path runs inside."""
    kernels_run_on = similarity.kernels_run_on
    similarity.kernels_run_on = lambda device: False
    try:
        yield
    finally:
        similarity.kernels_run_on = kernels_run_on


def experts(setting):
    """A small mixture of experts: rows as its kernel orders them, against one expert at a time."""
    model = subjects.build(SMALL, True, torch.float32, setting.device)
    own = setting.hits(model)
    model.set_experts_implementation("eager")
    return _same(own, setting.hits(model), "of experts that run one by one")


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
        f"--nproc-per-node={torch.cuda.device_count()}", SCRIPT, "--sharded-rank",
        *_size_of(setting),
    )  # fmt: skip
    return _last_line(command)


def _size_of(setting):
    return f"--languages={len(setting.corpus.languages)}", f"--pairs={setting.corpus.n_pairs}"


def _run_again(setting, command):
    """The last line of this script in a process of its own, in Triton's interpreter."""
    command = (*command, f"--shape={setting.shape}", *_size_of(setting))
    return _last_line(command, TRITON_INTERPRET="1") + " (in Triton's interpreter)"


def _last_line(command, **environment):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=150, env=os.environ | environment
    )
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


def _require(package):
    if importlib.util.find_spec(package) is None:
        raise CannotRunError(f"{package} is not installed")


def _same(hits, expected, of="of the eager model"):
    return f"verdicts equal those {of}" if hits == expected else "VERDICTS DIFFER"
